"""The few switches that survive restarts: the pause of all actions, and the end of suspensions."""

import apsw

from actions.store.suspensions import lift_all_suspensions


def pause_reason(history: apsw.Connection) -> str | None:
    """Why and since when actions are paused, in words; None when they are not."""
    found = history.execute("SELECT value FROM setting WHERE name = 'paused'").get
    return None if found is None else str(found)


def set_pause(history: apsw.Connection, why: str) -> None:
    """Stop every action from starting, until `resume`."""
    history.execute("INSERT OR REPLACE INTO setting VALUES ('paused', ?)", (why,))


def clear_pause(history: apsw.Connection) -> int:
    """Let actions start again, also what was suspended because it did not help; how many were suspended."""
    history.execute("DELETE FROM setting WHERE name = 'paused'")
    return lift_all_suspensions(history)


def prove_writable(history: apsw.Connection, now: float) -> None:
    """Write a little and commit it: nothing else shows that there is room and the right to write. Raises apsw.Error."""
    history.execute("INSERT OR REPLACE INTO setting VALUES ('proved_writable', ?)", (f"{now:.0f}",))
