"""Who wants a claimed or running run to stop. Its child reads the mark, whichever process asked and whoever started it."""

import apsw


def mark(history: apsw.Connection, run_id: int, who: str) -> None:
    """Ask for the end of this run."""
    history.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (_name(run_id), who))


def marked(history: apsw.Connection, run_id: int) -> str | None:
    """Who wants it to stop; None when nobody does."""
    found = history.execute("SELECT value FROM setting WHERE name = ?", (_name(run_id),)).get
    return None if found is None else str(found)


def forget(history: apsw.Connection, run_id: int) -> None:
    """The run has ended."""
    history.execute("DELETE FROM setting WHERE name = ?", (_name(run_id),))


def _name(run_id: int) -> str:
    return f"cancel {run_id}"
