"""Alerts about queuekeeper itself: scrapes, readings, configuration, state. All other alerts depend on it."""

from exporter.alert_rules.alert import MINUTE, AlertGroup, AlertRule, time_in_words
from exporter.alert_rules.thresholds import Bounds


def exporter_group(bounds: Bounds, job: str) -> AlertGroup:
    """The group of alerts about the agents. `job` is their job name in the configuration of Prometheus."""
    return AlertGroup("queuekeeper-exporter", (*_scrape_alerts(job), *_reading_alerts(bounds), *_state_alerts()))


def _scrape_alerts(job: str) -> tuple[AlertRule, ...]:
    return (
        AlertRule(
            "QueueExporterDown",
            f'up{{job="{job}"}} == 0',
            5 * MINUTE,
            "critical",
            "queuekeeper on {{ $labels.instance }} cannot be scraped.",
            "Prometheus could not scrape it for 5 minutes. Nothing is known about its queues, no alert about them can "
            "fire, and schedules do not run.",
        ),
        AlertRule(
            "QueueExporterAbsent",
            f'absent(up{{job="{job}"}})',
            10 * MINUTE,
            "critical",
            f"Prometheus has no target of the job {job}.",
            "The job vanished from Prometheus's configuration or from its service discovery, or its name was changed. "
            "No alert about any queue can fire.",
        ),
    )


def _reading_alerts(bounds: Bounds) -> tuple[AlertRule, ...]:
    return (
        AlertRule(
            "QueuePollStalled",
            f"time() - queuekeeper_poll_last_success_timestamp_seconds > {bounds['poll_age'].promql}",
            5 * MINUTE,
            "warning",
            "The database {{ $labels.database }} is no longer read.",
            "The last successful reading of {{ $labels.database }} is {{ $value | humanizeDuration }} old. Its values "
            "are withdrawn, so alerts about them cannot fire.",
        ),
        AlertRule(
            "QueueCollectorFailing",
            "queuekeeper_collector_success == 0",
            15 * MINUTE,
            "warning",
            "The collector {{ $labels.collector }} fails on {{ $labels.database }}.",
            "The collector {{ $labels.collector }} could not read {{ $labels.database }} for 15 minutes. Its values "
            "are absent; queuekeeper_collector_errors_total has the reason.",
        ),
    )


def _state_alerts() -> tuple[AlertRule, ...]:
    window = 15 * MINUTE
    return (
        AlertRule(
            "QueueConfigReloadFailed",
            "queuekeeper_config_last_reload_successful == 0",
            5 * MINUTE,
            "warning",
            "queuekeeper on {{ $labels.instance }} rejected its new configuration.",
            "The last reload failed and the configuration before it is still in use. The next restart will fail.",
        ),
        AlertRule(
            "QueueStateNotWritable",
            "queuekeeper_state_writable == 0",
            5 * MINUTE,
            "warning",
            "queuekeeper on {{ $labels.instance }} cannot write its history.",
            "For 5 minutes the folder of its state is full, gone or not writable. It still observes, but starts no "
            "action: no backup, no schedule, and alerts are answered with 503.",
        ),
        AlertRule(
            "QueueWebhookRefused",
            f'increase(queuekeeper_webhook_requests_total{{code!~"2.."}}[{window // MINUTE}m]) > 0',
            5 * MINUTE,
            "warning",
            "queuekeeper on {{ $labels.instance }} rejects requests of Alertmanager ({{ $labels.code }}).",
            f"Within the last {time_in_words(window)} it answered with HTTP {{{{ $labels.code }}}}: 401 and 403 mean a missing "
            "or wrong token, 503 a state that cannot be written. Until that is repaired, no alert starts an action.",
        ),
    )
