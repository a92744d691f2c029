"""Alerts about database files: the write-ahead log, free pages, disks, and lost commits."""

from exporter.alert_rules.alert import DAY, HOUR, MINUTE, AlertGroup, AlertRule, time_in_words, with_paging_alert
from exporter.alert_rules.thresholds import Bounds


def database_group(bounds: Bounds) -> AlertGroup:
    """The group of alerts about database files."""
    return AlertGroup(
        "queuekeeper-databases",
        (*_file_alerts(bounds), *_wal_alerts(bounds), *_free_page_alerts(bounds), *_disk_alerts(bounds)),
    )


def _file_alerts(bounds: Bounds) -> tuple[AlertRule, ...]:
    return (
        AlertRule(
            "QueueDatabaseDown",
            "sqlite_up == 0",
            5 * MINUTE,
            "critical",
            "The database {{ $labels.database }} cannot be read.",
            "For 5 minutes {{ $labels.database }} is missing, unreadable, no SQLite database, or a reading of it does "
            "not end. Its application probably fails too.",
        ),
        AlertRule(
            "QueueContentLost",
            f"sqlite_content_lost_ratio > {bounds['content_lost'].promql}",
            MINUTE,
            "critical",
            "The database {{ $labels.database }} lost most of its content.",
            "{{ $value | humanizePercentage }} of the tables or filled tables of {{ $labels.database }} are gone or empty, "
            "against earlier readings and its newest backup. It was emptied, replaced or cut. queuekeeper refuses to prune its "
            "backups and to act by itself until the content is back or accepted.",
        ),
        AlertRule(
            "QueueLostCommits",
            "increase(sqlite_queue_sequence_regressions_total[1h]) > 0",
            MINUTE,
            "critical",
            "The database {{ $labels.database }} went back in time.",
            "The number of the newest task of {{ $labels.database }} became smaller within the last hour: commits were "
            "lost, since the file was restored, replaced or damaged, or the application reset its numbers.",
        ),
        AlertRule(
            "QueueOwnerVulnerable",
            "sqlite_owner_wal_reset_vulnerable == 1",
            HOUR,
            "info",
            "The application of {{ $labels.database }} may run a SQLite with the WAL-reset bug.",
            "Nothing proves that the application's SQLite has the fix, so checkpoints of {{ $labels.database }} are "
            "limited. Upgrade it, then set owner_sqlite in the configuration.",
        ),
    )


def _wal_alerts(bounds: Bounds) -> tuple[AlertRule, ...]:
    return (*_backlog_alerts(bounds), _pinned_alert(bounds), *_starved_alerts())


def _backlog_alerts(bounds: Bounds) -> tuple[AlertRule, AlertRule]:
    backlog = AlertRule(
        "QueueWalBacklog",
        f"sqlite_wal_backlog_bytes > {bounds['wal'].promql}",
        MINUTE,
        "info",
        "The write-ahead log of {{ $labels.database }} is not copied back.",
        "{{ $value | humanize1024 }}B of {{ $labels.database }} wait in the write-ahead log. Reads become slower and "
        "the file grows. queuekeeper checkpoints where its configuration says so.",
        remediation="checkpoint",
    )
    return with_paging_alert(
        backlog,
        30 * MINUTE,
        "The write-ahead log of {{ $labels.database }} stays long.",
        "{{ $value | humanize1024 }}B of {{ $labels.database }} wait in the write-ahead log for 30 minutes. No "
        "checkpoint ran, or none helped; mostly a reader blocks it.",
    )


def _pinned_alert(bounds: Bounds) -> AlertRule:
    return AlertRule(
        "QueueWalPinned",
        f"sqlite_wal_pinned_seconds > {bounds['pinned'].promql}",
        2 * MINUTE,
        "warning",
        "A reader holds back the write-ahead log of {{ $labels.database }}.",
        "{{ $labels.command }} has an open read of {{ $labels.database }} for {{ $value | humanizeDuration }}. No "
        "checkpoint can help until it ends.",
    )


def _starved_alerts() -> tuple[AlertRule, AlertRule]:
    starved = AlertRule(
        "QueueWalResetStarved",
        'sqlite_wal_state{state="reset_starved"} == 1',
        5 * MINUTE,
        "info",
        "The write-ahead log of {{ $labels.database }} does not start over.",
        "For 5 minutes overlapping short reads keep the write-ahead log of {{ $labels.database }} from being reset. It "
        "is copied back, but its file still grows. queuekeeper checkpoints where its configuration says so.",
        remediation="checkpoint",
    )
    return with_paging_alert(
        starved,
        30 * MINUTE,
        "The write-ahead log of {{ $labels.database }} never starts over.",
        "For 30 minutes overlapping short reads keep the write-ahead log of {{ $labels.database }} from being "
        "reset. No checkpoint ran, or none found a gap between them.",
    )


def _free_page_alerts(bounds: Bounds) -> tuple[AlertRule, AlertRule]:
    free = AlertRule(
        "QueueFreePages",
        f"sqlite_fragmentation_ratio > {bounds['free_ratio'].promql}\n"
        f"  and sqlite_free_pages * sqlite_page_size_bytes > {bounds['free_room'].promql}",
        HOUR,
        "info",
        "The database {{ $labels.database }} holds much empty room.",
        "{{ $value | humanizePercentage }} of the pages of {{ $labels.database }} hold nothing. queuekeeper vacuums "
        "inside its window where its configuration says so.",
        remediation="vacuum",
    )
    return with_paging_alert(
        free,
        2 * DAY,
        "The database {{ $labels.database }} keeps much empty room.",
        "For 2 days {{ $value | humanizePercentage }} of the pages of {{ $labels.database }} hold nothing. No vacuum "
        "ran, or none helped.",
    )


def _disk_alerts(bounds: Bounds) -> tuple[AlertRule, ...]:
    share = "sqlite_disk_free_bytes / sqlite_disk_size_bytes"
    return (
        AlertRule(
            "QueueDiskLow",
            f"{share} < {bounds['disk_low'].promql}",
            15 * MINUTE,
            "warning",
            "The disk for {{ $labels.role }} of {{ $labels.database }} is nearly full.",
            "{{ $value | humanizePercentage }} of the disk for {{ $labels.role }} of {{ $labels.database }} are free.",
        ),
        AlertRule(
            "QueueDiskFull",
            f"sqlite_disk_free_bytes < {bounds['disk_full'].promql}",
            5 * MINUTE,
            "critical",
            "The disk for {{ $labels.role }} of {{ $labels.database }} is full.",
            "{{ $value | humanize1024 }}B are free on the disk for {{ $labels.role }} of {{ $labels.database }}. That "
            "is below the reserve that queuekeeper leaves alone, and writes of the application will fail soon.",
        ),
        AlertRule(
            "QueueDiskFullSoon",
            f"predict_linear(sqlite_disk_free_bytes[6h], {bounds['disk_soon'].promql}) < 0\n  and {share} < 0.4",
            HOUR,
            "warning",
            "The disk for {{ $labels.role }} of {{ $labels.database }} fills up.",
            "By the trend of the last 6 hours the disk for {{ $labels.role }} of {{ $labels.database }} will be full within "
            f"{time_in_words(bounds['disk_soon'].value)}.",
            why="A database grows and shrinks in steps: six hours and a disk that is not empty keep one step from firing.",
        ),
    )
