"""Where it is kept how an action stands on a database. What follows from a run or a reading: actions/policy/suspension.py."""

from collections.abc import Mapping

import apsw
from pydantic import TypeAdapter

from actions.policy.suspension import RunResult, SuspensionState, state_after_run
from actions.store.database import store_transaction

_STATE_ADAPTER: TypeAdapter[SuspensionState] = TypeAdapter(SuspensionState)


def load_suspension(history: apsw.Connection, database: str, action: str) -> SuspensionState:
    """How it stands now."""
    found = history.execute("SELECT value FROM standing WHERE database = ? AND action = ?", (database, action)).get
    return SuspensionState() if found is None else _STATE_ADAPTER.validate_json(found)


def load_suspensions(history: apsw.Connection) -> Mapping[tuple[str, str], SuspensionState]:
    """Whatever did not help lately, by (database, action)."""
    rows = history.execute("SELECT database, action, value FROM standing")
    return {(database, action): _STATE_ADAPTER.validate_json(value) for database, action, value in rows}


def record_run_result(history: apsw.Connection, database: str, action: str, ran: RunResult, now: float) -> None:
    """A run has ended. Inside the caller's transaction."""
    before = load_suspension(history, database, action)
    after = state_after_run(before, ran, now)
    if after != before:
        save_suspension(history, database, action, after)


def save_suspension(history: apsw.Connection, database: str, action: str, now: SuspensionState) -> None:
    """It stands like this now."""
    if now == SuspensionState():
        history.execute("DELETE FROM standing WHERE database = ? AND action = ?", (database, action))
        return
    values = (database, action, _STATE_ADAPTER.dump_json(now).decode())
    history.execute("INSERT OR REPLACE INTO standing VALUES (?, ?, ?)", values)


def lift_all_suspensions(history: apsw.Connection) -> int:
    """Let everything that was suspended be tried again; how many were. A person's word."""
    with store_transaction(history):
        suspended = sum(found.is_suspended for found in load_suspensions(history).values())
        history.execute("DELETE FROM standing")
    return suspended
