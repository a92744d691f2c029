"""When to stop trying: two runs in a row that did not help suspend an action on a database. Pure.

It belongs to (database, action), whichever trigger asks. Only a successful reading below the clear level lifts it, or a
person's `queuekeeper resume`. What a reader stood in the way of is also lifted when a reading shows that nobody does any
more; the next run then has one try, not two. Missing readings change nothing.
"""

from dataclasses import dataclass, replace

from actions.model.condition import Condition, ConditionVerdict, Measurement
from actions.model.outcome import Effect, Outcome
from actions.policy.effect import made_progress

STRIKE_LIMIT = 2
_UNHELPFUL_EFFECTS = (Effect.NO_EFFECT, Effect.WORSE, Effect.BLOCKED)


@dataclass(frozen=True, slots=True)
class SuspensionState:
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
    def is_suspended(self) -> bool:
        """Whether nothing automatic may run."""
        return self.since is not None

    @property
    def suspension_reason(self) -> str:
        """What happened, in words."""
        return f"{self.strikes} runs in a row did not help, the last: {self.message}"

    @property
    def suspension_cure(self) -> str:
        """What a person should do."""
        return "; ".join(filter(None, (self.next_step, "then: queuekeeper resume")))


@dataclass(frozen=True, slots=True)
class RunResult:
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
CONDITION_GONE = "condition_gone"


def state_after_run(standing: SuspensionState, ran: RunResult, now: float) -> SuspensionState:
    """How it stands after a run. One without an effect (a person's, a refused one) and an unknown effect say nothing."""
    if ran.effect is Effect.FIXED or (ran.outcome is Outcome.NOTHING_TO_DO and ran.reason == CONDITION_GONE):
        return SuspensionState()
    if ran.effect not in _UNHELPFUL_EFFECTS or ran.condition is None:
        return standing
    if ran.effect is Effect.NO_EFFECT and made_progress(ran.condition, ran.before, ran.after):
        return standing
    strikes = standing.strikes + 1
    return SuspensionState(
        strikes=strikes,
        since=standing.since if standing.is_suspended else now if strikes >= STRIKE_LIMIT else None,
        at=now,
        blocked=ran.effect is Effect.BLOCKED,
        rule=ran.rule,
        condition=ran.condition,
        message=ran.message,
        next_step=ran.next_step,
    )


def state_after_reading(
    standing: SuspensionState, measured: Measurement, taken_at: float, *, held_back: bool | None
) -> SuspensionState:
    """How it stands after a reading of `taken_at`; one from before the last run says nothing.

    `held_back`: whether a reader is in the way now, None when that cannot be told.
    """
    if standing.condition is None or taken_at < standing.at:
        return standing
    if standing.condition.judge_measurement(measured) is ConditionVerdict.CLEAR:
        return SuspensionState()
    if standing.is_suspended and standing.blocked and held_back is False:
        return replace(standing, since=None, strikes=STRIKE_LIMIT - 1)
    return standing
