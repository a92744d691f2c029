"""Ending one run, whoever started it: at once while it waits, else at its next safe point."""

import apsw

from actions.model.errors import Refused
from actions.model.outcome import Outcome
from actions.store.cancel_marks import mark
from actions.store.database import transaction
from actions.store.runs import Claim, Ending, Run, end, run


def cancel(history: apsw.Connection, run_id: int, who: str, now: float) -> Run:
    """The run as it is now: ended when it had not begun, else asked to stop. Raises KeyError, Refused (`ended`)."""
    with transaction(history):
        found = run(history, run_id)
        if found.state == "ended":
            raise Refused(
                f"run {run_id} has ended already ({found.outcome})",
                reason="ended",
                next_step="`queuekeeper history` shows how",
            )
        ending = Ending(Outcome.CANCELLED, f"cancelled before it began, as {who} asked", reason="asked")
        if not end(history, Claim(run_id, found.token), ending, now, ("pending",)):
            mark(history, run_id, who)
        return run(history, run_id)
