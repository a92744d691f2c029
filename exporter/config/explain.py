"""What the configuration means for one database now: its profile's settings, and for each rule whether it would act. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from actions.policy.rules import Rule
from actions.run.condition import Condition, Verdict
from collectors.queue_profiles.schema import Profile
from collectors.reading.snapshot import Snapshot
from exporter.config import window_words
from exporter.config.settings import Config
from exporter.units import duration


@dataclass(frozen=True, slots=True)
class Past:
    """What history knows of one action on one database: when it last ended (seconds since the epoch), and whether it runs."""

    last_ended: float | None = None
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Sentence:
    """One rule on one database. `value` is None when the metric could not be read; `acts`: nothing stands in the way."""

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
    rule: Rule, snapshot: Snapshot, config: Config, past: Past, paused: str | None, profile: Profile | None, now: float
) -> Sentence:
    """Whether this rule would act on this database at `now` (seconds since the epoch), and why not."""
    value = rule.condition.measure(snapshot.samples, now)
    against = next(_against(rule, value, config, past, paused, profile, now), "")
    return Sentence(rule.name, rule.condition.metric, value, bound(rule.condition), not against, against or _how(rule))


def bound(condition: Condition) -> str:
    """`above 67108864, healed at 8388608`."""
    word = f"above {condition.above:.12g}" if condition.above is not None else f"below {condition.below:.12g}"
    return word if condition.clear is None else f"{word}, healed at {condition.clear:.12g}"


def _against(
    rule: Rule,
    value: float | None,
    config: Config,
    past: Past,
    paused: str | None,
    profile: Profile | None,
    now: float,
) -> Iterator[str]:
    """Everything that stands in the way, what weighs most first."""
    verdict = rule.condition.judge(value)
    if verdict is Verdict.UNKNOWN:
        yield "its metric could not be read: nothing is done on a guess"
    if verdict is not Verdict.WRONG:
        yield "nothing is wrong"
    if not config.acting.enabled:
        yield "acting is disabled (actions.enabled)"
    if paused is not None:
        yield f"actions are paused ({paused}); resume with: queuekeeper resume"
    if past.busy:
        yield f"{rule.action} waits or runs already"
    if past.last_ended is not None and (left := past.last_ended + rule.cooldown - now) > 0:
        yield f"cooldown: {duration(left)} of {duration(rule.cooldown)} are left"
    yield from window_words.against(config.acting, rule.action, now)
    if (refused := _refused(rule, profile)) is not None:
        yield refused


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
        [] if rule.hold is None else [f"once it held for {duration(rule.hold)}" if rule.hold else "at the next poll"]
    )
    if rule.alerts:
        starts.append("when its alert fires")
    return f"{rule.action} " + ", or ".join(starts)
