"""All alerts, by group. Adding one is an Alert in its group, a case in grafana/alerts/cases.yaml, a section in the runbook."""

from exporter.alert_rules import action_alerts, backup_alerts, database_alerts, exporter_alerts, queue_alerts
from exporter.alert_rules.alert import Alert, Group
from exporter.alert_rules.thresholds import THRESHOLDS, Bounds

JOB = "queuekeeper"


def groups(bounds: Bounds = THRESHOLDS, job: str = JOB) -> tuple[Group, ...]:
    """The groups with these bounds. `job` is what Prometheus' configuration calls the agents."""
    return (
        exporter_alerts.group(bounds, job),
        database_alerts.group(bounds),
        queue_alerts.group(bounds),
        backup_alerts.group(bounds),
        action_alerts.group(bounds),
    )


def alerts(bounds: Bounds = THRESHOLDS, job: str = JOB) -> tuple[Alert, ...]:
    """The alerts of all groups, in order."""
    return tuple(alert for group in groups(bounds, job) for alert in group.alerts)
