"""Ending one run, whoever started it: at once while it waits, else at its next safe point."""

import apsw

from actions.model.errors import Refused
from actions.model.outcome import Outcome
from actions.store.cancel_marks import request_cancel
from actions.store.database import store_transaction
from actions.store.runs import Claim, Run, RunEnding, end_run, load_run


def cancel_run(history: apsw.Connection, run_id: int, who: str, now: float) -> Run:
    """The run as it is now: ended when it had not begun, else asked to stop. Raises KeyError, Refused (`ended`)."""
    with store_transaction(history):
        found = load_run(history, run_id)
        if found.state == "ended":
            raise Refused(
                f"run {run_id} has ended already ({found.outcome})",
                reason="ended",
                next_step="`queuekeeper history` shows how",
            )
        ending = RunEnding(Outcome.CANCELLED, f"cancelled before it began, as {who} asked", reason="asked")
        if not end_run(history, Claim(run_id, found.token), ending, now, ("pending",)):
            request_cancel(history, run_id, who)
        return load_run(history, run_id)
