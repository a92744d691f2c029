"""Lifetime totals of all runs of one state directory, for metrics that survive restarts.

The functions that add work inside the transaction that changes the run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf

import apsw

from actions.model.outcome import EXIT_CODES, Outcome
from actions.policy.suspension import SuspensionState
from actions.store.integrity import integrity_verdicts
from actions.store.run_rows import VALID_FIGURES
from actions.store.suspensions import load_suspensions
from collectors.backup_catalog.order import is_future_time

DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_SUCCESS_OUTCOMES = {str(outcome) for outcome in Outcome if EXIT_CODES[outcome] == 0}
# What a person must look at. A refusal, a lock or a blocking reader is no failure: nothing was started.
_FAILURE_OUTCOMES = {str(Outcome.FAILED), str(Outcome.UNVERIFIED)}


@dataclass(frozen=True, slots=True)
class DurationHistogram:
    """A histogram in seconds: `counts` per bucket of DURATION_BUCKETS, not cumulative, the last one beyond all bounds."""

    counts: tuple[int, ...]
    total: float


@dataclass(frozen=True, slots=True)
class ActionTotals:
    """What `queuekeeper_action_*` and `queuekeeper_remediation_*` publish. Keys are label values in declared order."""

    runs: Mapping[tuple[str, str, str], int] = field(default_factory=dict)  # database, action, outcome
    triggers: Mapping[tuple[str, str], int] = field(default_factory=dict)  # action, trigger
    durations: Mapping[str, DurationHistogram] = field(default_factory=dict)  # action
    effects: Mapping[tuple[str, str, str], int] = field(default_factory=dict)  # database, rule, effect
    amounts: Mapping[tuple[str, str], float] = field(
        default_factory=dict
    )  # database, reclaimed_bytes|requeued_tasks|...
    started: Mapping[tuple[str, str], float] = field(
        default_factory=dict
    )  # database, action: since when a run is active
    last_success: Mapping[tuple[str, str], float] = field(default_factory=dict)  # database, action
    last_failure: Mapping[tuple[str, str], float] = field(default_factory=dict)  # database, action
    drills: Mapping[str, tuple[float, float]] = field(
        default_factory=dict
    )  # database: last success at, seconds it took
    missed: Mapping[tuple[str, str], int] = field(default_factory=dict)  # database, schedule
    suspensions: Mapping[tuple[str, str], SuspensionState] = field(default_factory=dict)  # database, action
    checks: Mapping[tuple[str, str, str], tuple[bool, float]] = field(
        default_factory=dict
    )  # database, quick|full, live|backup: whether all is well, when it was checked
    pending: int = 0


def add_trigger(history: apsw.Connection, action: str, trigger: str) -> None:
    """Count a requested run."""
    history.execute(
        "INSERT INTO trigger_total VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET runs = runs + 1", (action, trigger)
    )


def add_run(history: apsw.Connection, database: str, action: str, outcome: str, now: float) -> None:
    """Count a run that ended with this outcome, at `now`."""
    history.execute(
        "INSERT INTO run_total VALUES (?, ?, ?, 1, ?) ON CONFLICT DO UPDATE SET runs = runs + 1, last_at = excluded.last_at",
        (database, action, outcome, now),
    )


def add_duration(history: apsw.Connection, action: str, seconds: float) -> None:
    """Add a run's duration to the histogram of its action."""
    bucket = sum(seconds > bound for bound in DURATION_BUCKETS)
    history.execute(
        "INSERT INTO duration_total VALUES (?, ?, 1, ?)"
        " ON CONFLICT DO UPDATE SET runs = runs + 1, seconds = seconds + excluded.seconds",
        (action, bucket, seconds),
    )


def add_effect(history: apsw.Connection, database: str, rule: str, effect: str) -> None:
    """Count the effect of a rule's run."""
    history.execute(
        "INSERT INTO effect_total VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET runs = runs + 1",
        (database, rule, effect),
    )


def add_amounts(history: apsw.Connection, database: str, amounts: Mapping[str, float]) -> None:
    """Add the amounts of a run by name: bytes given back, tasks requeued, ..."""
    for name, amount in amounts.items():
        history.execute(
            "INSERT INTO amount_total VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET amount = amount + excluded.amount",
            (database, name, amount),
        )


def read_totals(history: apsw.Connection, now: float = inf) -> ActionTotals:
    """All totals at one moment, in one read transaction. `now` in seconds since the epoch.

    A success that is dated after `now` was timed by a clock that was wrong: it counts as long ago (0), so that no alert on
    its age waits until that time has come.
    """
    history.execute("BEGIN")
    try:
        return _without_future_times(history, _read_all_totals(history), now)
    finally:
        history.execute("COMMIT")


def _without_future_times(history: apsw.Connection, totals: ActionTotals, now: float) -> ActionTotals:
    def believed(moment: float) -> float:
        return 0.0 if is_future_time(moment, now) else moment

    def believed_failure(database: str, action: str, moment: float) -> float:
        return believed(moment) or (now if _newest_run_failed(history, database, action) else 0.0)

    return replace(
        totals,
        last_success={key: believed(at) for key, at in totals.last_success.items()},
        last_failure={key: believed_failure(*key, at) for key, at in totals.last_failure.items()},
        drills={database: (believed(at), seconds) for database, (at, seconds) in totals.drills.items()},
        checks={key: (ok, believed(at)) for key, (ok, at) in totals.checks.items()},
    )


def _newest_run_failed(history: apsw.Connection, database: str, action: str) -> bool:
    """Whether the run that ended last, as they are numbered, failed: it is newer than any success."""
    words = ", ".join(f"'{outcome}'" for outcome in sorted(_SUCCESS_OUTCOMES | _FAILURE_OUTCOMES))
    outcome = history.execute(
        f"SELECT outcome FROM run WHERE database = ? AND action = ? AND outcome IN ({words}) ORDER BY id DESC LIMIT 1",  # noqa: S608 our own words
        (database, action),
    ).get
    return outcome in _FAILURE_OUTCOMES


def _read_all_totals(history: apsw.Connection) -> ActionTotals:
    runs: dict[tuple[str, str, str], int] = {}
    success: dict[tuple[str, str], float] = {}
    failure: dict[tuple[str, str], float] = {}
    for database, action, outcome, count, last_at in history.execute("SELECT * FROM run_total"):
        runs[database, action, outcome] = count
        for last, outcomes in ((success, _SUCCESS_OUTCOMES), (failure, _FAILURE_OUTCOMES)):
            if outcome in outcomes:
                last[database, action] = max(last.get((database, action), 0.0), last_at)
    started = history.execute(
        "SELECT database, action, started_at FROM run INDEXED BY run_unfinished WHERE state <> 'ended' AND state = 'running'"
    )
    missed = history.execute("SELECT database, name, missed FROM schedule")
    return ActionTotals(
        runs=runs,
        triggers={(action, trigger): n for action, trigger, n in history.execute("SELECT * FROM trigger_total")},
        durations=_duration_histograms(history),
        effects={(name, rule, effect): n for name, rule, effect, n in history.execute("SELECT * FROM effect_total")},
        amounts={(database, name): amount for database, name, amount in history.execute("SELECT * FROM amount_total")},
        started={(database, action): at for database, action, at in started},
        last_success=success,
        last_failure=failure,
        drills=_newest_drills(history),
        missed={(database, name): count for database, name, count in missed},
        suspensions=load_suspensions(history),
        checks=integrity_verdicts(history),
        pending=history.execute("SELECT count(*) FROM run WHERE state = 'pending'").get,
    )


def _newest_drills(history: apsw.Connection) -> dict[str, tuple[float, float]]:
    """The newest successful drill of each database."""
    rows = history.execute(
        f"SELECT database, ended_at, CAST({VALID_FIGURES} ->> 'restore_seconds' AS REAL) FROM run"  # noqa: S608 our own words
        " WHERE id IN (SELECT max(id) FROM run WHERE action = 'drill' AND outcome = 'done' AND typeof(ended_at) = 'real'"
        " GROUP BY database)"
    )
    return {database: (at, seconds or 0.0) for database, at, seconds in rows}


def _duration_histograms(history: apsw.Connection) -> dict[str, DurationHistogram]:
    counts: dict[str, list[int]] = {}
    seconds: dict[str, float] = {}
    for action, bucket, runs, total in history.execute("SELECT * FROM duration_total"):
        counts.setdefault(action, [0] * (len(DURATION_BUCKETS) + 1))[bucket] = runs
        seconds[action] = seconds.get(action, 0.0) + total
    return {action: DurationHistogram(tuple(per_bucket), seconds[action]) for action, per_bucket in counts.items()}
