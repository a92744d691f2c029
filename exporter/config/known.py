"""The actions, options and metrics of this version, against which a configuration is checked."""

from collections.abc import Mapping

from actions.model.options import ActionOption
from actions.runner.catalogue import ACTION_SPECS
from collectors.metric import Metric
from collectors.registry import COLLECTORS


def known_actions() -> Mapping[str, Mapping[str, ActionOption]]:
    """The options of each action that a rule may ask for, by its name."""
    return {name: spec.options for name, spec in ACTION_SPECS.items() if spec.automatic}


def known_metrics() -> Mapping[str, Metric]:
    """The metrics that a rule may use: those of the collectors, since a rule is judged on one database's snapshot."""
    return {metric.name: metric for collector in COLLECTORS for metric in collector.METRICS}
