"""The few switches that survive restarts: the pause of all actions, and the end of suspensions."""

import apsw

from actions.store.suspensions import lift_all


def paused(history: apsw.Connection) -> str | None:
    """Why and since when actions are paused, in words; None when they are not."""
    found = history.execute("SELECT value FROM setting WHERE name = 'paused'").get
    return None if found is None else str(found)


def pause(history: apsw.Connection, why: str) -> None:
    """Stop every action from starting, until `resume`."""
    history.execute("INSERT OR REPLACE INTO setting VALUES ('paused', ?)", (why,))


def resume(history: apsw.Connection) -> int:
    """Let actions start again, also what was suspended because it did not help; how many were suspended."""
    history.execute("DELETE FROM setting WHERE name = 'paused'")
    return lift_all(history)


def prove_writable(history: apsw.Connection, now: float) -> None:
    """Write a little and commit it: nothing else shows that there is room and the right to write. Raises apsw.Error."""
    history.execute("INSERT OR REPLACE INTO setting VALUES ('proved_writable', ?)", (f"{now:.0f}",))
