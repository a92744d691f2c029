"""Alerts about recovery: backups, restore drills, and integrity checks."""

from exporter.alert_rules.alert import DAY, HOUR, MINUTE, AlertGroup, AlertRule, time_in_words
from exporter.alert_rules.thresholds import Bounds

_VERIFIED_BACKUPS = 'sum without (state) (sqlite_backups{state="verified"})'
_LAST_DRILL = "sqlite_restore_drill_last_success_timestamp_seconds"


def backup_group(bounds: Bounds) -> AlertGroup:
    """The group of alerts about backups, drills and integrity."""
    backups = (*_backup_age_alerts(bounds), *_backup_state_alerts())
    drills = (*_drill_alerts(bounds), _drill_failed_alert())
    return AlertGroup("queuekeeper-keeping", (*backups, *drills, _integrity_alert()))


def _backup_age_alerts(bounds: Bounds) -> tuple[AlertRule, ...]:
    due, late = bounds["backup_due"], bounds["backup_age"]
    return (
        AlertRule(
            "QueueBackupDue",
            f"sqlite_backup_age_seconds > {due.promql}",
            5 * MINUTE,
            "info",
            "The database {{ $labels.database }} is due for a backup.",
            "The newest verified backup of {{ $labels.database }} is {{ $value | humanizeDuration }} old. queuekeeper "
            "takes one where its configuration says so.",
            remediation="backup",
            page="QueueBackupTooOld",
            why=f"{due.why[0].upper()}{due.why[1:]}.",
        ),
        AlertRule(
            "QueueBackupTooOld",
            f"sqlite_backup_age_seconds > {late.promql}",
            10 * MINUTE,
            "critical",
            "The newest verified backup of {{ $labels.database }} is too old.",
            "The newest verified backup of {{ $labels.database }} is {{ $value | humanizeDuration }} old. What "
            "happened since would be lost with the disk.",
            why=f"{late.why[0].upper()}{late.why[1:]}.",
        ),
    )


def _backup_state_alerts() -> tuple[AlertRule, ...]:
    return (
        AlertRule(
            "QueueBackupNeverVerified",
            f"{_VERIFIED_BACKUPS} == 0",
            26 * HOUR,
            "warning",
            "The database {{ $labels.database }} has no verified backup.",
            "A backup directory is configured for {{ $labels.database }}, and for 26 hours it holds no backup whose "
            "content was verified.",
            why="A day for the first daily backup of a new database, and two hours for running it.",
        ),
        AlertRule(
            "QueueBackupDamaged",
            'sum without (state) (sqlite_backups{state="failed"}) > 0',
            15 * MINUTE,
            "warning",
            "A backup of {{ $labels.database }} is damaged.",
            "{{ $value }} backups of {{ $labels.database }} do not hold what their manifest says. They are not used "
            "and not deleted.",
        ),
    )


def _drill_alerts(bounds: Bounds) -> tuple[AlertRule, ...]:
    age = bounds["drill_age"]
    return (
        AlertRule(
            "QueueDrillTooOld",
            f"time() - {_LAST_DRILL} > {age.promql}",
            HOUR,
            "warning",
            "The backups of {{ $labels.database }} were not restored for a long time.",
            "The last successful restore drill of {{ $labels.database }} is {{ $value | humanizeDuration }} ago. "
            "It is not known whether its backups can still be restored, and how long that takes.",
        ),
        AlertRule(
            "QueueDrillNever",
            f"{_VERIFIED_BACKUPS} > 0\n  unless {_LAST_DRILL}",
            15 * DAY,
            "info",
            "The backups of {{ $labels.database }} were never restored.",
            f"The database {{{{ $labels.database }}}} has verified backups for {time_in_words(15 * DAY)}, and no drill "
            "restored one successfully.",
        ),
    )


def _drill_failed_alert() -> AlertRule:
    failed, done = (
        f'queuekeeper_action_last_{end}_timestamp_seconds{{action="drill"}}' for end in ("failure", "success")
    )
    return AlertRule(
        "QueueDrillFailed",
        f"{failed}\n  > ({done} or 0 * {failed})",
        5 * MINUTE,
        "critical",
        "The last restore drill of {{ $labels.database }} failed.",
        "The newest restore drill of {{ $labels.database }} did not bring back a healthy queue, and none succeeded since.",
    )


def _integrity_alert() -> AlertRule:
    return AlertRule(
        "QueueIntegrityFailed",
        "sqlite_integrity_ok == 0",
        MINUTE,
        "critical",
        "The {{ $labels.target }} file of {{ $labels.database }} is damaged.",
        "The {{ $labels.check }} check of the {{ $labels.target }} file of {{ $labels.database }} found damage. It "
        "stays so until a full check of the same file succeeds.",
        why="Sticky: a quick check that finds nothing does not take it back.",
    )
