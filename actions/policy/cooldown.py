"""Whether a wish is heard now: one run at a time, a rest after each, nothing where it was suspended. Pure."""

from dataclasses import dataclass, field
from typing import Literal

from actions.policy.elapsed import elapsed_seconds
from actions.policy.suspension import SuspensionState

Admission = Literal["accepted", "duplicate", "cooldown", "disabled"]


@dataclass(frozen=True, slots=True)
class ActionHistory:
    """What history knows of one action on one database. `last_ended`: when it last ended (seconds since the epoch).

    `unfinished_run` is the run that waits or is at work.
    """

    last_ended: float | None = None
    unfinished_run: int | None = None
    suspension: SuspensionState = field(default_factory=SuspensionState)


def admit(past: ActionHistory, cooldown: float, now: float) -> Admission:
    """What becomes of an automatic wish, whichever trigger makes it. `cooldown` in seconds."""
    if past.unfinished_run is not None:
        return "duplicate"
    if past.suspension.is_suspended:
        return "disabled"
    return "cooldown" if cooldown_left(past, cooldown, now) > 0 else "accepted"


def cooldown_left(past: ActionHistory, cooldown: float, now: float) -> float:
    """Seconds of the cooldown that are left."""
    return 0.0 if past.last_ended is None else max(0.0, cooldown - elapsed_seconds(past.last_ended, now))
