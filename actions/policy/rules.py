"""Rules: what is wrong, what to do about it, what may start it. Pure: readings and a clock in, requests out.

A rule names metrics, so the number on the dashboard, in the alert and in the rule is one number with one name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from actions.policy.matchers import Matcher
from actions.run.condition import Condition, Verdict
from actions.run.request import Option, Request, Trigger
from collectors.metric import Sample


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

    def covers(self, database: str) -> bool:
        """Whether the rule is meant for this database; a rule that names none covers all."""
        return not self.databases or database in self.databases


@dataclass(frozen=True, slots=True)
class Watch:
    """What a rule remembers of one database: since when its condition holds (seconds since the epoch)."""

    wrong_since: float | None = None


def step(rule: Rule, watch: Watch, samples: Iterable[Sample], now: float) -> tuple[Watch, bool]:
    """The watch after one poll, and whether the rule asks for its action.

    It asks at every poll once the condition held for `hold` seconds; the cooldown decides how often that is heard.
    An unreadable value changes nothing: absence is neither a problem nor recovery.
    """
    verdict = rule.condition.judge(rule.condition.measure(samples, now))
    if verdict is Verdict.UNKNOWN:
        return watch, False
    if verdict is Verdict.CLEAR or (verdict is Verdict.BETWEEN and watch.wrong_since is None):
        return Watch(), False
    since = now if watch.wrong_since is None else min(now, watch.wrong_since)
    return Watch(since), rule.hold is not None and now - since >= rule.hold


def request_of(rule: Rule, database: str, trigger: Trigger, episode: str = "") -> Request:
    """The request that a rule makes: condition, action and options are the rule's, never the asker's."""
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
