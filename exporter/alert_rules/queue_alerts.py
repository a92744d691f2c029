"""The queue itself: tasks nobody works on, workers that are gone, failures."""

from exporter.alert_rules.alert import MINUTE, AlertGroup, AlertRule, with_paging_alert
from exporter.alert_rules.thresholds import Bounds


def queue_group(bounds: Bounds) -> AlertGroup:
    """Everything about tasks and workers."""
    return AlertGroup(
        "queuekeeper-work",
        (*_lease_alerts(bounds), *_waiting_alerts(bounds), *_worker_alerts(bounds), _failure_alert(bounds)),
    )


def _lease_alerts(bounds: Bounds) -> tuple[AlertRule, AlertRule]:
    stale = AlertRule(
        "QueueStaleLeases",
        f"sqlite_queue_stale_leases > {bounds['stale_leases'].promql}",
        2 * MINUTE,
        "info",
        "Tasks of {{ $labels.queue }} in {{ $labels.database }} are held by workers that are gone.",
        "{{ $value }} tasks of {{ $labels.queue }} in {{ $labels.database }} have a lease that nobody renews. "
        "queuekeeper gives them back where its configuration says so.",
        remediation="requeue",
    )
    return with_paging_alert(
        stale,
        30 * MINUTE,
        "Tasks of {{ $labels.queue }} in {{ $labels.database }} stay with workers that are gone.",
        "{{ $value }} tasks of {{ $labels.queue }} in {{ $labels.database }} wait for 30 minutes behind leases that "
        "nobody renews. Nobody gave them back, or they are taken and lost again.",
    )


def _waiting_alerts(bounds: Bounds) -> tuple[AlertRule, ...]:
    return (
        AlertRule(
            "QueueTasksWaitingLong",
            f"sqlite_queue_oldest_waiting_age_seconds > {bounds['waiting'].promql}",
            10 * MINUTE,
            "warning",
            "Tasks of {{ $labels.queue }} in {{ $labels.database }} wait too long.",
            "The oldest task of {{ $labels.queue }} in {{ $labels.database }} waits for {{ $value | humanizeDuration "
            "}}. Workers are missing, too slow, or stuck.",
        ),
        AlertRule(
            "QueueHeadStuck",
            f"sqlite_queue_head_unchanged_seconds > {bounds['head'].promql}",
            10 * MINUTE,
            "warning",
            "The queue {{ $labels.queue }} in {{ $labels.database }} does not move.",
            "The same task of {{ $labels.queue }} in {{ $labels.database }} is first in line for {{ $value | "
            "humanizeDuration }}, and nobody takes it.",
        ),
    )


def _worker_alerts(bounds: Bounds) -> tuple[AlertRule, ...]:
    return (
        AlertRule(
            "QueueDeadWorkers",
            f'sum without (state) (sqlite_queue_workers{{state="stale"}}) > {bounds["dead_workers"].promql}',
            15 * MINUTE,
            "warning",
            "Workers of {{ $labels.database }} died without saying so.",
            "{{ $value }} workers in the list of {{ $labels.database }} have not given a sign of life for 15 minutes "
            "or more. What they held is stale or becomes so.",
        ),
        AlertRule(
            "QueueNoWorkers",
            'sum without (state) (sqlite_queue_workers{state="alive"}) == 0\n'
            '  and sum without (queue, state) (sqlite_queue_tasks{state="waiting"}) > 0',
            10 * MINUTE,
            "critical",
            "Nobody works on {{ $labels.database }}.",
            "Tasks wait in {{ $labels.database }}, and for 10 minutes no worker in its list is alive.",
        ),
    )


def _failure_alert(bounds: Bounds) -> AlertRule:
    failed = 'sqlite_queue_tasks{state=~"failed|dead"}'
    return AlertRule(
        "QueueFailuresRising",
        f"sum without (state) ({failed} - min_over_time({failed}[1h])) > {bounds['failures'].promql}",
        5 * MINUTE,
        "warning",
        "Tasks of {{ $labels.queue }} in {{ $labels.database }} fail.",
        "{{ $value }} more tasks of {{ $labels.queue }} in {{ $labels.database }} are failed or dead than at the "
        "lowest point of the last hour.",
        why="A gauge that a purge lowers: the distance from its lowest point is what was added since.",
    )
