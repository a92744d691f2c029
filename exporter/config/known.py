"""What this version can do, for checking a configuration: its actions with their options, and its metrics."""

from collections.abc import Collection, Mapping

from actions.registry import ACTIONS
from collectors.metric import Metric
from collectors.registry import COLLECTORS


def known_actions() -> Mapping[str, Collection[str]]:
    """The names of each action's options."""
    return {name: tuple(action.OPTIONS) for name, action in ACTIONS.items()}


def known_metrics() -> Mapping[str, Metric]:
    """What a rule may look at: the collectors' metrics, since a rule is judged on one database's snapshot."""
    return {metric.name: metric for collector in COLLECTORS for metric in collector.METRICS}
