"""Did it help? The same condition, measured before and after. Pure."""

from actions.model.condition import Condition, Measured, Verdict
from actions.model.outcome import Effect

# A run that brought the value at least this share of the way to the clear level is on its way: a requeue with a limit.
PROGRESS = 0.1


def effect(condition: Condition, before: Measured, after: Measured, *, blocked: bool) -> Effect:
    """The effect of a run: only a successful reading at the clear level is `fixed`."""
    if blocked:
        return Effect.BLOCKED
    if Verdict.UNKNOWN in (condition.judge(before), condition.judge(after)):
        return Effect.UNKNOWN
    if condition.judge(after) is Verdict.CLEAR:
        return Effect.FIXED
    return Effect.WORSE if _away(condition, before.value, after.value) > 0 else Effect.NO_EFFECT


def progressed(condition: Condition, before: float | None, after: float | None) -> bool:
    """Whether the value came at least PROGRESS of the way to where it counts as healed."""
    if before is None or after is None or condition.healed_at is None:
        return False
    way = abs(before - condition.healed_at)
    return -_away(condition, before, after) >= PROGRESS * way > 0


def _away(condition: Condition, before: float | None, after: float | None) -> float:
    """How far the value went the wrong way; negative when it came closer. An absence has no way."""
    if before is None or after is None:
        return 0.0
    return after - before if condition.above is not None else before - after
