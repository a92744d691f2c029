"""Who wants a claimed or running run to stop. Its child reads the mark, whichever process asked and whoever started it."""

import apsw


def request_cancel(history: apsw.Connection, run_id: int, who: str) -> None:
    """Ask for the end of this run."""
    history.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (_cancel_setting(run_id), who))


def cancel_requested_by(history: apsw.Connection, run_id: int) -> str | None:
    """Who wants it to stop; None when nobody does."""
    found = history.execute("SELECT value FROM setting WHERE name = ?", (_cancel_setting(run_id),)).get
    return None if found is None else str(found)


def clear_cancel_request(history: apsw.Connection, run_id: int) -> None:
    """The run has ended."""
    history.execute("DELETE FROM setting WHERE name = ?", (_cancel_setting(run_id),))


def _cancel_setting(run_id: int) -> str:
    return f"cancel {run_id}"
