"""Suspension: two runs in a row that did not help suspend an action on a database. Pure.

It belongs to (database, action), whichever trigger requests a run. Only a successful reading at the clear level lifts it,
or a person's `queuekeeper resume`. If a reader blocked the runs, it is also lifted when a reading shows that no reader
does any more; the next run then has one try, not two. Missing readings change nothing.
"""

from dataclasses import dataclass, replace

from actions.model.condition import Condition, ConditionVerdict, Measurement
from actions.model.outcome import Effect, Outcome
from actions.policy.effect import made_progress

STRIKE_LIMIT = 2
_UNHELPFUL_EFFECTS = (Effect.NO_EFFECT, Effect.WORSE, Effect.BLOCKED)


@dataclass(frozen=True, slots=True)
class SuspensionState:
    """The state of an action on a database. `strikes`: runs in a row that did not help; `since`: when it was suspended.

    `at` (when it ended), `condition`, `rule`, `message` and `next_step` are those of the newest such run; `blocked`: a
    reader blocked it. Times in seconds since the epoch.
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
        """Whether automatic runs of the action are suspended."""
        return self.since is not None

    @property
    def suspension_reason(self) -> str:
        """Why it is suspended, in one sentence."""
        return f"{self.strikes} runs in a row did not help, the last: {self.message}"

    @property
    def suspension_cure(self) -> str:
        """What a person should do, the command that lifts it included."""
        return "; ".join(filter(None, (self.next_step, "then: queuekeeper resume")))


@dataclass(frozen=True, slots=True)
class RunResult:
    """What matters of a run that ended: the value of its condition before and after, how it ended, and its message."""

    outcome: Outcome
    effect: Effect | None
    rule: str = ""
    condition: Condition | None = None
    before: float | None = None
    after: float | None = None
    reason: str = ""
    message: str = ""
    next_step: str = ""


# A clock that was set back further than this is another clock: what it wrote before is no longer waited for, in seconds.
CLOCK_SET_BACK = 3600.0
# The reason of a run that found its condition clear before it acted.
CONDITION_GONE = "condition_gone"


def state_after_run(state: SuspensionState, run: RunResult, now: float) -> SuspensionState:
    """The state after a run. A run without an effect (a person's, a refused one) or with an unknown one changes nothing."""
    if run.effect is Effect.FIXED or (run.outcome is Outcome.NOTHING_TO_DO and run.reason == CONDITION_GONE):
        return SuspensionState()
    if run.effect not in _UNHELPFUL_EFFECTS or run.condition is None:
        return state
    if run.effect is Effect.NO_EFFECT and made_progress(run.condition, run.before, run.after):
        return state
    strikes = state.strikes + 1
    return SuspensionState(
        strikes=strikes,
        since=state.since if state.is_suspended else now if strikes >= STRIKE_LIMIT else None,
        at=now,
        blocked=run.effect is Effect.BLOCKED,
        rule=run.rule,
        condition=run.condition,
        message=run.message,
        next_step=run.next_step,
    )


def state_after_reading(
    state: SuspensionState, measured: Measurement, taken_at: float, *, held_back: bool | None
) -> SuspensionState:
    """The state after a reading of `taken_at`; a reading from before the last run changes nothing.

    A last run that lies further ahead than CLOCK_SET_BACK was timed by another clock: its reading is not from before.

    `held_back`: whether a reader pins the WAL now, None when that is not known.
    """
    if state.condition is None or 0 < state.at - taken_at <= CLOCK_SET_BACK:
        return state
    if state.condition.judge_measurement(measured) is ConditionVerdict.CLEAR:
        return SuspensionState()
    if state.is_suspended and state.blocked and held_back is False:
        return replace(state, since=None, strikes=STRIKE_LIMIT - 1)
    return state
