"""What the configuration means for one database now: its profile's settings, and for each rule whether it would act. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from actions.model.condition import Condition, Verdict
from actions.policy.cooldown import Past, decide, rest
from actions.policy.measure import measured
from actions.policy.rules import Rule
from actions.policy.schedules import Schedule, due
from collectors.access.snapshot import Snapshot
from collectors.queue_profiles.schema import Profile
from exporter.config.settings import Config
from exporter.status import window_state
from exporter.text.units import duration, moment


@dataclass(frozen=True, slots=True)
class Memory:
    """What history knows that bears on one rule and one database. `limits`: the bounds that are used up, in words."""

    past: Past = field(default_factory=Past)
    paused: str | None = None
    limits: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Sentence:
    """One rule on one database. `value` is None when the metric has none; `acts`: nothing stands in the way."""

    rule: str
    metric: str
    value: float | None
    bound: str
    acts: bool
    reason: str


def settings(profile: Profile, given: Mapping[str, float | str]) -> Iterator[str]:
    """Each setting of the profile with its value, where that comes from, and what it means."""
    for name, setting in profile.settings.items():
        value = given.get(name, setting.default)
        origin = "configured" if name in given else "default"
        shown = "not set" if value in (None, "") else f"{value:g}" if isinstance(value, float) else value
        yield f"{name} = {shown} ({origin}): {setting.help}"


def explain(
    rule: Rule, snapshot: Snapshot, config: Config, memory: Memory, profile: Profile | None, now: float
) -> Sentence:
    """Whether this rule would act on this database at `now` (seconds since the epoch), and why not."""
    found = measured(rule.condition, snapshot, now)
    against = next(_against(rule, rule.condition.judge(found), config, memory, profile, now), "")
    bounds = bound(rule.condition)
    return Sentence(rule.name, rule.condition.metric, found.value, bounds, not against, against or _how(rule))


def explain_schedule(schedule: Schedule, database: str, config: Config, paused: str | None, now: float) -> str:
    """When this schedule comes next on this database, and what would hold it."""
    at = due(schedule, database, now, now).next_at
    when = "never again" if at is None else f"next {schedule.action} at {moment(at)}"
    if not config.acting.enabled:
        return f"{when}; acting is disabled (actions.enabled)"
    return when if paused is None else f"{when}; actions are paused ({paused}): it waits until queuekeeper resume"


def bound(condition: Condition) -> str:
    """`above 67108864, healed at 8388608`."""
    if condition.absent is not None:
        return f"absent for {duration(condition.absent)}"
    word = f"above {condition.above:.12g}" if condition.above is not None else f"below {condition.below:.12g}"
    return word if condition.clear is None else f"{word}, healed at {condition.clear:.12g}"


def _against(
    rule: Rule, verdict: Verdict, config: Config, memory: Memory, profile: Profile | None, now: float
) -> Iterator[str]:
    """Everything that stands in the way, what weighs most first."""
    if verdict is Verdict.UNKNOWN:
        yield "its metric could not be read: nothing is done on a guess"
    if verdict is not Verdict.WRONG:
        yield "nothing is wrong"
    if not config.acting.enabled:
        yield "acting is disabled (actions.enabled)"
    if memory.paused is not None:
        yield f"actions are paused ({memory.paused}); resume with: queuekeeper resume"
    yield from _not_heard(rule, memory.past, now)
    yield from memory.limits
    yield from window_state.against(config.acting, rule.action, now)
    if (refused := _refused(rule, profile)) is not None:
        yield refused


def _not_heard(rule: Rule, past: Past, now: float) -> Iterator[str]:
    decision = decide(past, rule.cooldown, now)
    if decision == "duplicate":
        yield f"{rule.action} waits or runs already (run {past.busy})"
    if decision == "disabled":
        since = moment(past.standing.since or 0.0)
        yield f"suspended since {since}: {past.standing.why} ({past.standing.cure})"
    if decision == "cooldown":
        yield f"cooldown: {duration(rest(past, rule.cooldown, now))} of {duration(rule.cooldown)} are left"


def _refused(rule: Rule, profile: Profile | None) -> str | None:
    """What requeue itself would refuse (`actions/requeue.py`), told before it is tried."""
    if rule.action != "requeue":
        return None
    requeue = profile.actions.requeue if profile is not None else None
    if requeue is None:
        return "no queue profile fits that knows how to requeue here"
    if requeue.when == "workers_stopped":
        return "requeue here needs all workers stopped: only a person can say so"
    if requeue.when == "guarded" and not (rule.options.get("guarded") and rule.options.get("limit")):
        return "guarded: a slow worker may run its task twice; say in the rule: options: {guarded: true, limit: 500}"
    return None


def _how(rule: Rule) -> str:
    starts = (
        []
        if rule.hold is None
        else [f"once it held for {duration(rule.patience)}" if rule.patience else "at the next poll"]
    )
    if rule.alerts:
        starts.append("when its alert fires")
    return f"{rule.action} " + ", or ".join(starts)
