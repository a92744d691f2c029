"""What this version can do, for checking a configuration: its actions with their options, and its metrics."""

from collections.abc import Mapping

from actions.model.options import ActionOption
from actions.runner.catalogue import ACTION_SPECS
from collectors.metric import Metric
from collectors.registry import COLLECTORS


def known_actions() -> Mapping[str, Mapping[str, ActionOption]]:
    """The options of each action that a rule may ask for, by its name."""
    return {name: spec.options for name, spec in ACTION_SPECS.items() if spec.automatic}


def known_metrics() -> Mapping[str, Metric]:
    """What a rule may look at: the collectors' metrics, since a rule is judged on one database's snapshot."""
    return {metric.name: metric for collector in COLLECTORS for metric in collector.METRICS}
