"""Alerts about actions: failures, runs that do not end, suspended automation."""

from exporter.alert_rules.alert import DAY, MINUTE, AlertGroup, AlertRule
from exporter.alert_rules.thresholds import Bounds

_MISSED = "queuekeeper_schedule_missed_total"
# A failed drill has its own alert, which stays until a drill succeeds.
_FAILURE = 'queuekeeper_action_last_failure_timestamp_seconds{action!="drill"}'


def action_group(bounds: Bounds) -> AlertGroup:
    """The group of alerts about actions."""
    return AlertGroup("queuekeeper-actions", (*_run_alerts(bounds), *_automation_alerts()))


def _run_alerts(bounds: Bounds) -> tuple[AlertRule, ...]:
    return (
        AlertRule(
            "QueueActionFailed",
            f"(\n  {_FAILURE}\n    > (queuekeeper_action_last_success_timestamp_seconds or 0 * {_FAILURE})\n)\n"
            f"and time() - {_FAILURE} < 2 * 86400",
            5 * MINUTE,
            "warning",
            "The last {{ $labels.action }} of {{ $labels.database }} failed.",
            "The newest {{ $labels.action }} of {{ $labels.database }} ended as failed, and none succeeded since. The "
            "history has its message.",
            why="The newest run failed: no success since. Two days, so that one failed manual run does not stay forever.",
        ),
        AlertRule(
            "QueueActionStuck",
            f"time() - queuekeeper_action_started_timestamp_seconds > {bounds['action_time'].promql}",
            MINUTE,
            "warning",
            "The {{ $labels.action }} of {{ $labels.database }} does not end.",
            "{{ $labels.action }} of {{ $labels.database }} runs for {{ $value | humanizeDuration }}. No other action "
            "can run on this database until it ends.",
        ),
    )


def _automation_alerts() -> tuple[AlertRule, ...]:
    return (
        AlertRule(
            "QueueRemediationSuspended",
            "queuekeeper_remediation_suspended == 1",
            MINUTE,
            "warning",
            "queuekeeper gave up on {{ $labels.action }} of {{ $labels.database }}.",
            "Two automatic runs of {{ $labels.action }} on {{ $labels.database }} in a row did not help, so it starts "
            "no more. A person is needed: the history says what blocked it.",
        ),
        AlertRule(
            "QueueScheduleMissed",
            f"{_MISSED}\n  > last_over_time({_MISSED}[1d] offset 1h)\nor increase({_MISSED}[1h]) > 0",
            MINUTE,
            "warning",
            "The schedule {{ $labels.schedule }} of {{ $labels.instance }} was missed.",
            "A time of the schedule {{ $labels.schedule }} passed without a run, noticed within the last hour: queuekeeper was "
            "not running, or the action is suspended because it did not help before.",
            why="More than an hour ago: an agent that was off for a night starts with the missed times counted already.",
        ),
        AlertRule(
            "QueueActionsPaused",
            "queuekeeper_paused == 1",
            DAY,
            "info",
            "queuekeeper on {{ $labels.instance }} is paused.",
            "It was paused more than a day ago. No schedule, threshold or alert starts an action, backups included.",
        ),
    )
