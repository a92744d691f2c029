"""Where it is kept how an action stands on a database. What follows from a run or a reading: actions/policy/suspension.py."""

from collections.abc import Mapping

import apsw
from pydantic import TypeAdapter

from actions.policy.suspension import Ran, Standing, after_run
from actions.store.database import transaction

_STANDING: TypeAdapter[Standing] = TypeAdapter(Standing)


def standing(history: apsw.Connection, database: str, action: str) -> Standing:
    """How it stands now."""
    found = history.execute("SELECT value FROM standing WHERE database = ? AND action = ?", (database, action)).get
    return Standing() if found is None else _STANDING.validate_json(found)


def standings(history: apsw.Connection) -> Mapping[tuple[str, str], Standing]:
    """Whatever did not help lately, by (database, action)."""
    rows = history.execute("SELECT database, action, value FROM standing")
    return {(database, action): _STANDING.validate_json(value) for database, action, value in rows}


def note_run(history: apsw.Connection, database: str, action: str, ran: Ran, now: float) -> None:
    """A run has ended. Inside the caller's transaction."""
    before = standing(history, database, action)
    after = after_run(before, ran, now)
    if after != before:
        keep(history, database, action, after)


def keep(history: apsw.Connection, database: str, action: str, now: Standing) -> None:
    """It stands like this now."""
    if now == Standing():
        history.execute("DELETE FROM standing WHERE database = ? AND action = ?", (database, action))
        return
    values = (database, action, _STANDING.dump_json(now).decode())
    history.execute("INSERT OR REPLACE INTO standing VALUES (?, ?, ?)", values)


def lift_all(history: apsw.Connection) -> int:
    """Let everything that was suspended be tried again; how many were. A person's word."""
    with transaction(history):
        suspended = sum(found.suspended for found in standings(history).values())
        history.execute("DELETE FROM standing")
    return suspended
