"""What this version can do, for checking a configuration: its actions with their options, and its metrics."""

from collections.abc import Mapping

from actions.model.options import OptionKind
from actions.runner.catalogue import KNOWN
from collectors.metric import Metric
from collectors.registry import COLLECTORS


def known_actions() -> Mapping[str, Mapping[str, OptionKind]]:
    """The options of each action that a rule may ask for, by its name."""
    return {name: known.options for name, known in KNOWN.items() if known.automatic}


def known_metrics() -> Mapping[str, Metric]:
    """What a rule may look at: the collectors' metrics, since a rule is judged on one database's snapshot."""
    return {metric.name: metric for collector in COLLECTORS for metric in collector.METRICS}
