"""What the newest runs of an action on a database mean for the next one: when they ended, their figures, their failures."""

import apsw

from actions.model.errors import GIVEN_UP_BEFORE_TRYING
from actions.model.outcome import Outcome
from actions.model.plan import Figure
from actions.policy.cooldown import OUTCOMES_WITHOUT_COOLDOWN, REASON_WITHOUT_COOLDOWN, ActionHistory
from actions.policy.suspension import CLOCK_SET_BACK
from actions.store.integrity import uncleared_failure
from actions.store.run_rows import VALID_FIGURES, select_runs
from actions.store.runs import unfinished_run_id
from actions.store.suspensions import load_suspension

# A run that ended like this never reached the database; nor did a blocked one with this reason.
_OUTCOMES_WITHOUT_ATTEMPT = (Outcome.LOCKED, Outcome.REFUSED, Outcome.NOTHING_TO_DO)


def load_action_history(history: apsw.Connection, database: str, action: str, now: float) -> ActionHistory:
    """What history knows of one action on one database, for deciding whether a request is accepted.

    `now`, here and below: seconds since the epoch. A run that ended more than CLOCK_SET_BACK later was recorded before the
    clock was set back: it is left out, so that the newest one by the present clock counts.
    """
    return ActionHistory(
        last_ended=last_counted_end(history, database, action, now),
        unfinished_run=unfinished_run_id(history, database, action),
        suspension=load_suspension(history, database, action),
    )


def last_counted_end(history: apsw.Connection, database: str, action: str, now: float) -> float | None:
    """When a run of the action last ended on this database that starts the cooldown (actions/policy/cooldown.py)."""
    counts = f"outcome NOT IN ({_sql_list(OUTCOMES_WITHOUT_COOLDOWN)}) AND reason <> '{REASON_WITHOUT_COOLDOWN}'"
    return _last_run_end(history, database, action, now, counts)


def last_attempt(history: apsw.Connection, database: str, action: str, now: float) -> float | None:
    """When the action last touched this database: a refusal did not, nor what was given up before trying."""
    touched = f"outcome NOT IN ({_sql_list(_OUTCOMES_WITHOUT_ATTEMPT)}) AND reason <> '{GIVEN_UP_BEFORE_TRYING}'"
    return _last_run_end(history, database, action, now, touched)


def source_failure(history: apsw.Connection, database: str) -> str:
    """What is wrong with the database: a failed check that was not cleared, or its newest backup; empty when all is well."""
    failure = uncleared_failure(history, database)
    if failure:
        return failure
    newest = select_runs(
        history,
        "WHERE database = ? AND action = 'backup' AND state = 'ended' AND outcome IN ('done', 'unverified')"
        " ORDER BY id DESC LIMIT 1",
        (database,),
    )
    return next((run.message for run in newest if run.outcome == Outcome.UNVERIFIED), "")


def newest_figure(history: apsw.Connection, database: str, action: str, name: str) -> Figure:
    """The figure `name` of the newest done run of this action on this database that has one; None without one."""
    figure: Figure = history.execute(
        f"SELECT {VALID_FIGURES} ->> ?3 FROM run"  # noqa: S608 our own words
        " WHERE database = ?1 AND action = ?2 AND state = 'ended' AND outcome = 'done'"
        f" AND {VALID_FIGURES} ->> ?3 IS NOT NULL ORDER BY id DESC LIMIT 1",
        (database, action, name),
    ).get
    return figure


def highest_backup_sequence(history: apsw.Connection, database: str) -> int:
    """The highest sequence that a backup of this database was given in any run, be it a copy before a restore; else 0."""
    highest = history.execute(
        f"SELECT max(CAST({VALID_FIGURES} ->> 'sequence' AS INTEGER)) FROM run"  # noqa: S608 our own words
        " WHERE database = ? AND action IN ('backup', 'restore')",
        (database,),
    ).get
    return 0 if highest is None else int(highest)


def _last_run_end(history: apsw.Connection, database: str, action: str, now: float, which: str) -> float | None:
    ended_at = history.execute(
        f"SELECT ended_at FROM run WHERE database = ? AND action = ? AND state = 'ended' AND {which}"  # noqa: S608
        " AND ended_at <= ? ORDER BY ended_at DESC LIMIT 1",
        (database, action, now + CLOCK_SET_BACK),
    ).get
    return None if ended_at is None else float(ended_at)


def _sql_list(outcomes: tuple[Outcome, ...]) -> str:
    return ", ".join(f"'{outcome}'" for outcome in outcomes)
