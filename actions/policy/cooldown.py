"""Every cooldown: how soon an action may run again. Pure; the clock is an argument, times in seconds since the epoch.

* Between two automatic runs of an action on a database lies the rule's cooldown, whichever trigger requests the second
  (`admit_request`, `cooldown_left`). It starts when a run ends, unless that run never got to its work.
* Between two runs for one alert that goes on firing lies the same cooldown, doubled for each run that did not help
  (`episode_cooldown`).
* Between two checkpoints that make writers wait lies a minute (`may_retry_checkpoint`).
"""

from dataclasses import dataclass, field
from typing import Literal

from actions.model.errors import PAUSED
from actions.model.outcome import Outcome
from actions.policy.suspension import CLOCK_SET_BACK, SuspensionState

Admission = Literal["accepted", "duplicate", "cooldown", "disabled"]

# A run that ended like this does not show whether the action helps: it does not start the cooldown.
OUTCOMES_WITHOUT_COOLDOWN = (Outcome.LOCKED, Outcome.INTERRUPTED)
# Neither does a run that ended for this reason: the pause of all actions refused or ended it.
REASON_WITHOUT_COOLDOWN = PAUSED
# The longest cooldown that doubling gives an alert's episode, in seconds.
MAX_COOLDOWN = 86400.0
# Seconds between two checkpoints that make writers wait.
CHECKPOINT_PAUSE = 60.0


@dataclass(frozen=True, slots=True)
class ActionHistory:
    """What history knows of one action on one database.

    `last_ended`: when a run last ended that starts the cooldown. `unfinished_run`: the run that is pending or active.
    """

    last_ended: float | None = None
    unfinished_run: int | None = None
    suspension: SuspensionState = field(default_factory=SuspensionState)


def admit_request(past: ActionHistory, cooldown: float, now: float) -> Admission:
    """Whether an automatic request is accepted, whichever trigger makes it; else why not. `cooldown` in seconds."""
    if past.unfinished_run is not None:
        return "duplicate"
    if past.suspension.is_suspended:
        return "disabled"
    return "cooldown" if cooldown_left(past, cooldown, now) > 0 else "accepted"


def cooldown_left(past: ActionHistory, cooldown: float, now: float) -> float:
    """How many seconds of the cooldown are left."""
    return 0.0 if past.last_ended is None else max(0.0, cooldown - elapsed_seconds(past.last_ended, now))


def episode_cooldown(cooldown: float, tries: int) -> float:
    """Seconds between two runs for one alert: doubled for each of the `tries` runs that did not help, MAX_COOLDOWN at most."""
    return min(MAX_COOLDOWN, cooldown * 2.0 ** max(0, tries - 1))


def may_retry_checkpoint(last_attempt: float | None, now: float) -> bool:
    """Whether a checkpoint that makes writers wait may be tried again; `last_attempt` is None where none was tried."""
    return last_attempt is None or elapsed_seconds(last_attempt, now) >= CHECKPOINT_PAUSE


def elapsed_seconds(then: float, now: float) -> float:
    """Seconds since `then`, by a wall clock that may be set back.

    0 when `then` lies a little ahead of `now` (a small step back), infinite when it lies further ahead.
    """
    if then - now > CLOCK_SET_BACK:
        return float("inf")
    return max(0.0, now - then)
