"""All alerts, by group. Adding one is an Alert in its group, a case in grafana/alerts/cases.yaml, a section in the runbook."""

from exporter.alert_rules import of_actions, of_databases, of_exporter, of_keeping, of_work
from exporter.alert_rules.alert import Alert, Group
from exporter.thresholds import THRESHOLDS, Bounds

JOB = "queuekeeper"


def groups(bounds: Bounds = THRESHOLDS, job: str = JOB) -> tuple[Group, ...]:
    """The groups with these bounds. `job` is what Prometheus' configuration calls the agents."""
    return (
        of_exporter.group(bounds, job),
        of_databases.group(bounds),
        of_work.group(bounds),
        of_keeping.group(bounds),
        of_actions.group(bounds),
    )


def alerts(bounds: Bounds = THRESHOLDS, job: str = JOB) -> tuple[Alert, ...]:
    """The alerts of all groups, in order."""
    return tuple(alert for group in groups(bounds, job) for alert in group.alerts)
