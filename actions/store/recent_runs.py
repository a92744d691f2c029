"""What the newest runs of an action on a database say to the next one: since when, with what figures, with what trouble."""

import apsw

from actions.model.errors import GIVEN_UP_BEFORE_TRYING, PAUSED
from actions.model.outcome import Outcome
from actions.model.plan import Figure
from actions.store import integrity

# A run that ended like this says nothing about whether the action helps: it does not start the cooldown.
_OUTCOMES_WITHOUT_COOLDOWN = (Outcome.LOCKED, Outcome.INTERRUPTED)
# A run that ended like this never reached the database; nor did a blocked one with this reason.
_OUTCOMES_WITHOUT_ATTEMPT = (Outcome.LOCKED, Outcome.REFUSED, Outcome.NOTHING_TO_DO)


def last_counted_end(history: apsw.Connection, database: str, action: str) -> float | None:
    """When the action last ended on this database in a way that counts for the cooldown; what a pause ended does not."""
    counts = f"outcome NOT IN ({_sql_list(_OUTCOMES_WITHOUT_COOLDOWN)}) AND reason <> '{PAUSED}'"
    return _last_run_end(history, database, action, counts)


def last_attempt(history: apsw.Connection, database: str, action: str) -> float | None:
    """When the action last touched this database: a refusal did not, nor what was given up before trying."""
    touched = f"outcome NOT IN ({_sql_list(_OUTCOMES_WITHOUT_ATTEMPT)}) AND reason <> '{GIVEN_UP_BEFORE_TRYING}'"
    return _last_run_end(history, database, action, touched)


def source_failure(history: apsw.Connection, database: str) -> str:
    """What is wrong with the database: an integrity check that nobody cleared, or its newest backup; empty when all is well."""
    failure = integrity.uncleared_failure(history, database)
    if failure:
        return failure
    row = history.execute(
        "SELECT outcome, message FROM run WHERE database = ? AND action = 'backup' AND state = 'ended'"
        " AND outcome IN ('done', 'unverified') ORDER BY id DESC LIMIT 1",
        (database,),
    ).fetchone()
    return str(row[1]) if row is not None and row[0] == Outcome.UNVERIFIED else ""


def newest_figure(history: apsw.Connection, database: str, action: str, name: str) -> Figure:
    """What the newest done run of this action on this database left under `name` of its figures; None when none did."""
    found: Figure = history.execute(
        "SELECT figures ->> ?3 FROM run WHERE database = ?1 AND action = ?2 AND state = 'ended' AND outcome = 'done'"
        " AND figures ->> ?3 IS NOT NULL ORDER BY ended_at DESC LIMIT 1",
        (database, action, name),
    ).get
    return found


def _last_run_end(history: apsw.Connection, database: str, action: str, which: str) -> float | None:
    found = history.execute(
        f"SELECT ended_at FROM run WHERE database = ? AND action = ? AND state = 'ended' AND {which}"  # noqa: S608
        " ORDER BY ended_at DESC LIMIT 1",
        (database, action),
    ).get
    return None if found is None else float(found)


def _sql_list(outcomes: tuple[Outcome, ...]) -> str:
    return ", ".join(f"'{outcome}'" for outcome in outcomes)
