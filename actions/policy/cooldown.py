"""Whether a wish is heard now: one run at a time, a rest after each, nothing where it was suspended. Pure."""

from dataclasses import dataclass, field
from typing import Literal

from actions.policy.elapsed import elapsed
from actions.policy.suspension import Standing

Decision = Literal["accepted", "duplicate", "cooldown", "disabled"]


@dataclass(frozen=True, slots=True)
class Past:
    """What history knows of one action on one database. `last_ended`: when it last ended (seconds since the epoch).

    `busy` is the run that waits or is at work.
    """

    last_ended: float | None = None
    busy: int | None = None
    standing: Standing = field(default_factory=Standing)


def decide(past: Past, cooldown: float, now: float) -> Decision:
    """What becomes of an automatic wish, whichever trigger makes it. `cooldown` in seconds."""
    if past.busy is not None:
        return "duplicate"
    if past.standing.suspended:
        return "disabled"
    return "cooldown" if rest(past, cooldown, now) > 0 else "accepted"


def rest(past: Past, cooldown: float, now: float) -> float:
    """Seconds of the cooldown that are left."""
    return 0.0 if past.last_ended is None else max(0.0, cooldown - elapsed(past.last_ended, now))
