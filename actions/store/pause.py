"""What stops actions and survives restarts: the pause of all of them, and the requests to cancel one run.

A child reads the request to cancel its run, whichever process made it and whichever process started the run.
"""

import apsw

from actions.store.chain import CANCEL_ASKED, PAUSED, RESUMED, append_entry, append_run_entry
from actions.store.database import store_transaction
from actions.store.suspensions import lift_all_suspensions


def pause_reason(history: apsw.Connection) -> str | None:
    """Why and since when actions are paused, in words; None when they are not."""
    reason = history.execute("SELECT value FROM setting WHERE name = 'paused'").get
    return None if reason is None else str(reason)


def set_pause(history: apsw.Connection, why: str, who: str = "", now: float | None = None) -> None:
    """Stop every action from starting, until `resume`. `who` did it at `now` (seconds since the epoch)."""
    with store_transaction(history):
        history.execute("INSERT OR REPLACE INTO setting VALUES ('paused', ?)", (why,))
        append_entry(history, PAUSED, now, who=who, detail=why)


def clear_pause(history: apsw.Connection, who: str = "", now: float | None = None) -> int:
    """Let actions start again, also those suspended because they did not help; returns how many were suspended."""
    with store_transaction(history):
        why = pause_reason(history)
        history.execute("DELETE FROM setting WHERE name = 'paused'")
        lifted = lift_all_suspensions(history)
        if why is not None or lifted:
            append_entry(history, RESUMED, now, who=who, detail=f"{lifted} suspensions lifted" if lifted else "")
    return lifted


def prove_writable(history: apsw.Connection, now: float) -> None:
    """Write a little and commit it: nothing else shows that there is room and the right to write. Raises apsw.Error."""
    history.execute("INSERT OR REPLACE INTO setting VALUES ('proved_writable', ?)", (f"{now:.0f}",))


def request_cancel(history: apsw.Connection, run_id: int, who: str, now: float | None = None) -> None:
    """Record that `who` wants this run to stop."""
    with store_transaction(history):
        history.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (_cancel_setting(run_id), who))
        append_run_entry(history, CANCEL_ASKED, run_id, now, who)


def cancel_requested_by(history: apsw.Connection, run_id: int) -> str | None:
    """Who wants the run to stop; None without a request."""
    who = history.execute("SELECT value FROM setting WHERE name = ?", (_cancel_setting(run_id),)).get
    return None if who is None else str(who)


def clear_cancel_request(history: apsw.Connection, run_id: int) -> None:
    """Forget the request, since the run has ended."""
    history.execute("DELETE FROM setting WHERE name = ?", (_cancel_setting(run_id),))


def _cancel_setting(run_id: int) -> str:
    return f"cancel {run_id}"
