"""Stores the suspension state of each action on each database. The decisions are in actions/policy/suspension.py."""

from collections.abc import Mapping

import apsw
from pydantic import TypeAdapter

from actions.policy.suspension import RunResult, SuspensionState, state_after_run
from actions.store.database import store_transaction

_STATE_ADAPTER: TypeAdapter[SuspensionState] = TypeAdapter(SuspensionState)


def load_suspension(history: apsw.Connection, database: str, action: str) -> SuspensionState:
    """The state of this action on this database; without a row nothing failed to help lately."""
    value = history.execute("SELECT value FROM standing WHERE database = ? AND action = ?", (database, action)).get
    return SuspensionState() if value is None else _STATE_ADAPTER.validate_json(value)


def load_suspensions(history: apsw.Connection) -> Mapping[tuple[str, str], SuspensionState]:
    """The states of all actions that did not help lately, by (database, action)."""
    rows = history.execute("SELECT database, action, value FROM standing")
    return {(database, action): _STATE_ADAPTER.validate_json(value) for database, action, value in rows}


def record_run_result(history: apsw.Connection, database: str, action: str, result: RunResult, now: float) -> None:
    """Update the state after a run has ended. Runs inside the caller's transaction."""
    before = load_suspension(history, database, action)
    after = state_after_run(before, result, now)
    if after != before:
        save_suspension(history, database, action, after)


def save_suspension(history: apsw.Connection, database: str, action: str, now: SuspensionState) -> None:
    """Store the state; one without strikes is deleted."""
    if now == SuspensionState():
        history.execute("DELETE FROM standing WHERE database = ? AND action = ?", (database, action))
        return
    values = (database, action, _STATE_ADAPTER.dump_json(now).decode())
    history.execute("INSERT OR REPLACE INTO standing VALUES (?, ?, ?)", values)


def lift_all_suspensions(history: apsw.Connection) -> int:
    """Lift all suspensions, on a person's request; returns how many actions were suspended."""
    with store_transaction(history):
        suspended = sum(state.is_suspended for state in load_suspensions(history).values())
        history.execute("DELETE FROM standing")
    return suspended
