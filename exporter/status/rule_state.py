"""The state of rules, schedules and maintenance windows: would each act on a database now, and if not, why not. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from actions.model.condition import Condition, ConditionVerdict
from actions.policy.cooldown import ActionHistory, admit_request, cooldown_left
from actions.policy.effect import condition_measurement
from actions.policy.rules import Rule
from actions.policy.schedules import Schedule, due_firing
from actions.policy.windows import window_closes_at, window_opens_at
from actions.runner.catalogue import ACTION_SPECS
from collectors.access.snapshot import Snapshot
from collectors.queue_profiles.schema import QueueProfile
from exporter.config.settings import ActingSettings, Config
from exporter.text.units import format_duration, format_time


@dataclass(frozen=True, slots=True)
class RuleHistory:
    """The part of the history that decides about one rule and one database. `limits`: exhausted limits, in words."""

    past: ActionHistory = field(default_factory=ActionHistory)
    paused: str | None = None
    limits: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class RuleState:
    """Whether one rule would act on one database, and why. `value` is None when the metric has no value."""

    rule: str
    metric: str
    value: float | None
    bound: str
    acts: bool
    reason: str


def describe_settings(profile: QueueProfile, given: Mapping[str, float | str]) -> Iterator[str]:
    """One line for each setting of the profile: its value, its origin, and its meaning."""
    for name, setting in profile.settings.items():
        value = given.get(name, setting.default)
        origin = "configured" if name in given else "default"
        shown = "not set" if value in (None, "") else f"{value:g}" if isinstance(value, float) else value
        yield f"{name} = {shown} ({origin}): {setting.help}"


def explain_rule(
    rule: Rule, snapshot: Snapshot, config: Config, memory: RuleHistory, profile: QueueProfile | None, now: float
) -> RuleState:
    """Whether this rule would act on this database at `now` (seconds since the epoch), or why not."""
    measured = condition_measurement(rule.condition, snapshot, now)
    against = next(_rule_obstacles(rule, rule.condition.judge_measurement(measured), config, memory, profile, now), "")
    bounds = bound_in_words(rule.condition)
    return RuleState(
        rule.name, rule.condition.metric, measured.value, bounds, not against, against or _start_in_words(rule)
    )


def explain_schedule(schedule: Schedule, database: str, config: Config, paused: str | None, now: float) -> str:
    """When this schedule runs next on this database, and what would prevent it."""
    at = due_firing(schedule, database, now, now).next_at
    when = "never again" if at is None else f"next {schedule.action} at {format_time(at)}"
    if not config.acting.enabled:
        return f"{when}; acting is disabled (actions.enabled)"
    return when if paused is None else f"{when}; actions are paused ({paused}): it waits until queuekeeper resume"


def bound_in_words(condition: Condition) -> str:
    """The bound of a condition in words: `above 67108864, healed at 8388608`."""
    if condition.absent is not None:
        return f"absent for {format_duration(condition.absent)}"
    word = f"above {condition.above:.12g}" if condition.above is not None else f"below {condition.below:.12g}"
    return word if condition.clear is None else f"{word}, healed at {condition.clear:.12g}"


def _rule_obstacles(
    rule: Rule, verdict: ConditionVerdict, config: Config, memory: RuleHistory, profile: QueueProfile | None, now: float
) -> Iterator[str]:
    """Every reason why the rule does not act, the most important first."""
    if verdict is ConditionVerdict.UNKNOWN:
        yield "its metric could not be read, so no action runs"
    if verdict is not ConditionVerdict.WRONG:
        yield "nothing is wrong"
    if not config.acting.enabled:
        yield "acting is disabled (actions.enabled)"
    if memory.paused is not None:
        yield f"actions are paused ({memory.paused}); resume with: queuekeeper resume"
    yield from _cooldown_obstacles(rule, memory.past, now)
    yield from memory.limits
    yield from window_obstacles(config.acting, rule.action, now)
    if (refused := _requeue_refusal(rule, profile)) is not None:
        yield refused


def _cooldown_obstacles(rule: Rule, past: ActionHistory, now: float) -> Iterator[str]:
    decision = admit_request(past, rule.cooldown, now)
    if decision == "duplicate":
        yield f"{rule.action} waits or runs already (run {past.unfinished_run})"
    if decision == "disabled":
        since = format_time(past.suspension.since or 0.0)
        yield f"suspended since {since}: {past.suspension.suspension_reason} ({past.suspension.suspension_cure})"
    if decision == "cooldown":
        remaining = format_duration(cooldown_left(past, rule.cooldown, now))
        yield f"cooldown: {remaining} of {format_duration(rule.cooldown)} are left"


def _requeue_refusal(rule: Rule, profile: QueueProfile | None) -> str | None:
    """Why requeue would be refused (`actions/requeue.py`), or None."""
    if rule.action != "requeue":
        return None
    requeue = profile.actions.requeue if profile is not None else None
    if requeue is None:
        return "no queue profile that can requeue fits this database"
    if requeue.when == "workers_stopped":
        return "requeue here needs all workers stopped: only a person can confirm that"
    if requeue.when == "guarded" and not (rule.options.get("guarded") and rule.options.get("limit")):
        return "guarded: a slow worker may run its task twice; say in the rule: options: {guarded: true, limit: 500}"
    return None


def _start_in_words(rule: Rule) -> str:
    starts = (
        []
        if rule.hold is None
        else [f"once it held for {format_duration(rule.required_hold)}" if rule.required_hold else "at the next poll"]
    )
    if rule.alerts:
        starts.append("when its alert fires")
    return f"{rule.action} " + ", or ".join(starts)


def window_lines(acting: ActingSettings, now: float) -> Iterator[str]:
    """One line for each action that has a window, or needs one."""
    for name in sorted({*acting.windows, *(name for name, spec in ACTION_SPECS.items() if spec.needs_window)}):
        yield f"{name}: {_describe_window(acting, name, now)}"


def window_obstacles(acting: ActingSettings, action: str, now: float) -> Iterator[str]:
    """Why this action cannot run automatically now; nothing when it can."""
    window = acting.windows.get(action)
    if window is None:
        if action in ACTION_SPECS and ACTION_SPECS[action].needs_window:
            yield f"{action} runs automatically only inside a window, and none is configured (actions.windows.{action})"
    elif window_closes_at(window, now) is None:
        yield f"its window {window} is closed: it waits until {format_time(window_opens_at(window, now))}"


def _describe_window(acting: ActingSettings, action: str, now: float) -> str:
    window = acting.windows.get(action)
    if window is None:
        return "no window configured, so it never runs automatically"
    closes = window_closes_at(window, now)
    if closes is None:
        return f"{window}, closed until {format_time(window_opens_at(window, now))}"
    return f"{window}, open" + ("" if closes == float("inf") else f" until {format_time(closes)}")
