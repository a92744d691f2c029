"""Did it help? The same condition, measured before and after. Pure."""

from actions.run.condition import Condition, Verdict
from actions.run.outcome import Effect


def effect(condition: Condition, before: float | None, after: float | None, *, blocked: bool) -> Effect:
    """The effect of a run: only a successful reading below the clear level is `fixed`."""
    if blocked:
        return Effect.BLOCKED
    if before is None or after is None:
        return Effect.UNKNOWN
    if condition.judge(after) is Verdict.CLEAR:
        return Effect.FIXED
    worse = after > before if condition.above is not None else after < before
    return Effect.WORSE if worse else Effect.NO_EFFECT
