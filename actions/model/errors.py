"""Why a run did not do what was requested. Each error says what happened, why, and the next step, and has an outcome."""

from collections.abc import Mapping

from actions.model.outcome import Outcome
from actions.model.plan import Figure

# The reason of a Blocked run that was given up before anything was tried.
GIVEN_UP_BEFORE_TRYING = "reader_seen"
# The reason of a run that the pause of all actions refused or ended: it shows nothing about the action.
PAUSED = "paused"


class ActionError(Exception):
    """A run that ends early. `reason` is a short stable word for logs and JSON; `next_step` is for a person.

    `figures` and `totals` report what had been done until then, as in actions/model/plan.py.
    """

    outcome = Outcome.FAILED

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        next_step: str,
        figures: Mapping[str, Figure] | None = None,
        totals: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.next_step = next_step
        self.figures: Mapping[str, Figure] = figures or {}
        self.totals: Mapping[str, float] = totals or {}

    def message_with_next_step(self) -> str:
        """The message and the next step in one line, for the person at the terminal."""
        return f"{self} ({self.next_step})" if self.next_step else str(self)


class Failed(ActionError):
    """The action started and could not finish."""


class Refused(ActionError):
    """A guard forbids the run, and names the cure."""

    outcome = Outcome.REFUSED


class Locked(ActionError):
    """Another action holds the database's action lock, or the write lock did not come free within its budget."""

    outcome = Outcome.LOCKED


class Blocked(ActionError):
    """Another process's read or write blocks the action; the message names it where the kernel shows it."""

    outcome = Outcome.BLOCKED


class Cancelled(ActionError):
    """The caller asked to stop, and the action stopped at a safe point."""

    outcome = Outcome.CANCELLED


class Interrupted(ActionError):
    """The caller is gone, and the action stopped at a safe point."""

    outcome = Outcome.INTERRUPTED


class Unverified(ActionError):
    """The content of a backup could not be verified."""

    outcome = Outcome.UNVERIFIED


class NothingToDo(ActionError):
    """The requested state already holds, so nothing is done: a success."""

    outcome = Outcome.NOTHING_TO_DO
