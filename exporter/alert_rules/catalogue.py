"""All alert rules by group. A new one: an AlertRule in its group, a case in grafana/alerts/cases.yaml, a runbook section."""

from exporter.alert_rules import action_alerts, backup_alerts, database_alerts, exporter_alerts, queue_alerts
from exporter.alert_rules.alert import AlertGroup, AlertRule
from exporter.alert_rules.thresholds import THRESHOLDS, Bounds

JOB = "queuekeeper"


def alert_groups(bounds: Bounds = THRESHOLDS, job: str = JOB) -> tuple[AlertGroup, ...]:
    """The groups with these thresholds. `job` is the job name of the agents in the configuration of Prometheus."""
    return (
        exporter_alerts.exporter_group(bounds, job),
        database_alerts.database_group(bounds),
        queue_alerts.queue_group(bounds),
        backup_alerts.backup_group(bounds),
        action_alerts.action_group(bounds),
    )


def all_alerts(bounds: Bounds = THRESHOLDS, job: str = JOB) -> tuple[AlertRule, ...]:
    """The alert rules of all groups, in order."""
    return tuple(alert for group in alert_groups(bounds, job) for alert in group.alerts)
