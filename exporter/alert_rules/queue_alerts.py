"""Alerts about the queue itself: waiting tasks, expired leases, dead workers, failures."""

from exporter.alert_rules.alert import MINUTE, AlertGroup, AlertRule, with_paging_alert
from exporter.alert_rules.thresholds import Bounds


def queue_group(bounds: Bounds) -> AlertGroup:
    """The group of alerts about tasks and workers."""
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
        "{{ $value }} tasks of {{ $labels.queue }} in {{ $labels.database }} have a lease that no worker renews. "
        "queuekeeper requeues them where its configuration says so.",
        remediation="requeue",
    )
    return with_paging_alert(
        stale,
        30 * MINUTE,
        "Tasks of {{ $labels.queue }} in {{ $labels.database }} stay with workers that are gone.",
        "{{ $value }} tasks of {{ $labels.queue }} in {{ $labels.database }} wait for 30 minutes behind leases that "
        "no worker renews. They were not requeued, or they are claimed and lost again.",
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
            "humanizeDuration }}, and no worker claims it.",
        ),
    )


def _worker_alerts(bounds: Bounds) -> tuple[AlertRule, ...]:
    return (
        AlertRule(
            "QueueDeadWorkers",
            f'sum without (state) (sqlite_queue_workers{{state="stale"}}) > {bounds["dead_workers"].promql}',
            15 * MINUTE,
            "warning",
            "Workers of {{ $labels.database }} died without signing off.",
            "{{ $value }} workers in the list of {{ $labels.database }} have sent no heartbeat for 15 minutes "
            "or more. Their leases are stale or will be.",
        ),
        AlertRule(
            "QueueNoWorkers",
            'sum without (state) (sqlite_queue_workers{state="alive"}) == 0\n'
            '  and sum without (queue, state) (sqlite_queue_tasks{state="waiting"}) > 0',
            10 * MINUTE,
            "critical",
            "No worker of {{ $labels.database }} is alive.",
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
