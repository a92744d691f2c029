"""Reads the lifetime totals, for metrics."""

import apsw

from actions.model.outcome import EXIT_CODES, Outcome
from actions.store.integrity import integrity_verdicts
from actions.store.suspensions import load_suspensions
from actions.store.totals import DURATION_BUCKETS, ActionTotals, DurationHistogram

_SUCCESS_OUTCOMES = {str(outcome) for outcome in Outcome if EXIT_CODES[outcome] == 0}
# What somebody must look at. A refusal, a lock or a reader in the way is no failure: nothing was begun.
_FAILURE_OUTCOMES = {str(Outcome.FAILED), str(Outcome.UNVERIFIED)}


def read_totals(history: apsw.Connection) -> ActionTotals:
    """All totals at one moment, in one read transaction."""
    history.execute("BEGIN")
    try:
        return _read_all_totals(history)
    finally:
        history.execute("COMMIT")


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
        "SELECT database, ended_at, json_extract(figures, '$.restore_seconds') FROM run"
        " WHERE id IN (SELECT max(id) FROM run WHERE action = 'drill' AND outcome = 'done' GROUP BY database)"
    )
    return {database: (at, seconds or 0.0) for database, at, seconds in rows}


def _duration_histograms(history: apsw.Connection) -> dict[str, DurationHistogram]:
    counts: dict[str, list[int]] = {}
    seconds: dict[str, float] = {}
    for action, bucket, runs, total in history.execute("SELECT * FROM duration_total"):
        counts.setdefault(action, [0] * (len(DURATION_BUCKETS) + 1))[bucket] = runs
        seconds[action] = seconds.get(action, 0.0) + total
    return {action: DurationHistogram(tuple(found), seconds[action]) for action, found in counts.items()}
