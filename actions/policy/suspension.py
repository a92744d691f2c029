"""When to stop trying: two runs in a row that did not help suspend an action on a database. Pure.

It belongs to (database, action), whichever trigger asks. Only a successful reading below the clear level lifts it, or a
person's `queuekeeper resume`. What a reader stood in the way of is also lifted when a reading shows that nobody does any
more; the next run then has one try, not two. Missing readings change nothing.
"""

from dataclasses import dataclass, replace

from actions.model.condition import Condition, Measured, Verdict
from actions.model.outcome import Effect, Outcome
from actions.policy.effect import progressed

STRIKES = 2
_UNHELPFUL = (Effect.NO_EFFECT, Effect.WORSE, Effect.BLOCKED)


@dataclass(frozen=True, slots=True)
class Standing:
    """How an action stands on a database. `strikes`: runs in a row that did not help; `since`: when it was suspended.

    `at` (when it ended), `condition`, `rule`, `message` and `next_step` are those of the newest such run; `blocked`: a
    reader stood in its way. Times in seconds since the epoch.
    """

    strikes: int = 0
    since: float | None = None
    at: float = 0.0
    blocked: bool = False
    rule: str = ""
    condition: Condition | None = None
    message: str = ""
    next_step: str = ""

    @property
    def suspended(self) -> bool:
        """Whether nothing automatic may run."""
        return self.since is not None

    @property
    def why(self) -> str:
        """What happened, in words."""
        return f"{self.strikes} runs in a row did not help, the last: {self.message}"

    @property
    def cure(self) -> str:
        """What a person should do."""
        return "; ".join(filter(None, (self.next_step, "then: queuekeeper resume")))


@dataclass(frozen=True, slots=True)
class Ran:
    """What counts of a run that ended: its condition's number before and after, how it ended, and its words."""

    outcome: Outcome
    effect: Effect | None
    rule: str = ""
    condition: Condition | None = None
    before: float | None = None
    after: float | None = None
    reason: str = ""
    message: str = ""
    next_step: str = ""


# The reason of a run that found its condition healed before it acted.
GONE = "condition_gone"


def after_run(standing: Standing, ran: Ran, now: float) -> Standing:
    """How it stands after a run. One without an effect (a person's, a refused one) and an unknown effect say nothing."""
    if ran.effect is Effect.FIXED or (ran.outcome is Outcome.NOTHING_TO_DO and ran.reason == GONE):
        return Standing()
    if ran.effect not in _UNHELPFUL or ran.condition is None:
        return standing
    if ran.effect is Effect.NO_EFFECT and progressed(ran.condition, ran.before, ran.after):
        return standing
    strikes = standing.strikes + 1
    return Standing(
        strikes=strikes,
        since=standing.since if standing.suspended else now if strikes >= STRIKES else None,
        at=now,
        blocked=ran.effect is Effect.BLOCKED,
        rule=ran.rule,
        condition=ran.condition,
        message=ran.message,
        next_step=ran.next_step,
    )


def after_reading(standing: Standing, measured: Measured, taken_at: float, *, held_back: bool | None) -> Standing:
    """How it stands after a reading of `taken_at`; one from before the last run says nothing.

    `held_back`: whether a reader is in the way now, None when that cannot be told.
    """
    if standing.condition is None or taken_at < standing.at:
        return standing
    if standing.condition.judge(measured) is Verdict.CLEAR:
        return Standing()
    if standing.suspended and standing.blocked and held_back is False:
        return replace(standing, since=None, strikes=STRIKES - 1)
    return standing
