"""Rules: a condition, the action against it, and what may start it. Pure: readings and a clock in, requests out.

A rule names a metric, so the number on the dashboard, in the alert and in the rule is one number with one name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from actions.model.condition import Condition, ConditionVerdict, Measurement
from actions.model.request import Option, Request, Trigger
from actions.policy.matchers import Matcher, all_match


@dataclass(frozen=True, slots=True)
class BlastRadius:
    """On how many databases one rule may act within `within` seconds: the larger of a number and a share of all.

    A rule that is suddenly wrong everywhere (a bad deployment, a bad threshold) must not act everywhere at once.
    """

    databases: int = 10
    share: float = 0.1
    within: float = 600.0

    def max_databases(self, watched: int) -> int:
        """The largest number of databases, where so many are watched."""
        return max(self.databases, int(self.share * watched))


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the configuration. `hold` is the threshold's `for` in seconds; None: no threshold starts it.

    `alerts`: one list of matchers for each alert that may start it; an alert starts it when all of a list match.
    """

    name: str
    condition: Condition
    action: str
    options: Mapping[str, Option] = field(default_factory=dict)
    hold: float | None = None
    alerts: tuple[tuple[Matcher, ...], ...] = ()
    cooldown: float = 600.0
    databases: tuple[str, ...] = ()
    priority: int = 0
    radius: BlastRadius = BlastRadius()

    @property
    def required_hold(self) -> float:
        """How long the condition must hold before the threshold requests the action, in seconds."""
        return (self.condition.absent or 0.0) + (self.hold or 0.0)

    def covers_database(self, database: str) -> bool:
        """Whether the rule applies to this database; a rule that names none applies to all."""
        return not self.databases or database in self.databases

    def is_started_by(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels may start it."""
        return any(all_match(matchers, labels) for matchers in self.alerts)


@dataclass(frozen=True, slots=True)
class ConditionWatch:
    """Since when a rule's condition holds on one database (seconds since the epoch); None: it does not hold."""

    wrong_since: float | None = None


def advance_watch(rule: Rule, watch: ConditionWatch, measured: Measurement, now: float) -> tuple[ConditionWatch, bool]:
    """The watch after one poll, and whether the rule requests its action.

    It does at every poll once the condition has held for long enough; the cooldown decides which requests are accepted.
    An unreadable value changes nothing: absence is neither a problem nor recovery.
    """
    verdict = rule.condition.judge_measurement(measured)
    if verdict is ConditionVerdict.UNKNOWN:
        return watch, False
    if verdict is ConditionVerdict.CLEAR or (verdict is ConditionVerdict.BETWEEN and watch.wrong_since is None):
        return ConditionWatch(), False
    since = now if watch.wrong_since is None else min(now, watch.wrong_since)
    return ConditionWatch(since), rule.hold is not None and now - since >= rule.required_hold


def rule_request(rule: Rule, database: str, trigger: Trigger, episode: str = "") -> Request:
    """The request that a rule makes. Condition, action and options are the rule's, never those of an alert."""
    return Request(
        action=rule.action,
        database=database,
        trigger=trigger,
        options=rule.options,
        rule=rule.name,
        condition=rule.condition,
        episode=episode,
        cooldown=rule.cooldown,
        priority=rule.priority,
    )
