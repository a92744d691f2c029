"""Rows of one database about what is done for it: backups, drills, checks, and every other action."""

from grafana.meanings import BACKUPS, BLUE, GREEN, RED
from grafana.overview import BACKUP_AGE, outcome_panels
from grafana.panels import (
    OF_DATABASE,
    WATCHED,
    Panel,
    bar_panel,
    event_query,
    line_panel,
    range_query,
    red_above,
    state_panel,
)


def backup_panels() -> list[Panel]:
    """Backups, drills and checks."""
    return [
        line_panel(
            "Backup age",
            "Age of the newest backup whose content was proved, and of its last proof. Good: a saw-tooth below the line.",
            range_query(BACKUP_AGE, "snapshot: " + OF_DATABASE),
            range_query(
                f"time() - sqlite_backup_last_verified_timestamp_seconds{{{WATCHED}}}", "last proved: " + OF_DATABASE
            ),
            unit="s",
            thresholds=red_above("backup_age"),
            alert="QueueBackupTooOld",
        ),
        line_panel(
            "Backups kept",
            "Backups in the directory by what is known of them. Good: verified only; failed ones want a look.",
            range_query(f"sum by (state) (sqlite_backups{{{WATCHED}}})", "{{state}}"),
            unit="short",
            stacked=True,
            alert="QueueBackupDamaged",
            words=BACKUPS,
        ),
        line_panel(
            "Size of the backups",
            "Bytes of all backups by state, and of the newest. Good: level, once as many are kept as shall be.",
            range_query(f"sum by (state) (sqlite_backups_size_bytes{{{WATCHED}}})", "all {{state}}"),
            range_query(f"sqlite_backup_last_size_bytes{{{WATCHED}}}", "newest: " + OF_DATABASE),
            unit="bytes",
            alert="QueueBackupNeverVerified",
        ),
        line_panel(
            "Duration of backup and drill",
            "How long the newest backup took, and the newest successful restore: that is how long coming back takes. Good: "
            "below the time that you may be down.",
            range_query(f"sqlite_backup_last_duration_seconds{{{WATCHED}}}", "backup: " + OF_DATABASE),
            range_query(f"sqlite_restore_drill_duration_seconds{{{WATCHED}}}", "restore: " + OF_DATABASE),
            unit="s",
            alert="QueueDrillFailed",
        ),
        line_panel(
            "Age of the last drill",
            "Time since a backup was last restored and found healthy. Good: a saw-tooth below the line.",
            range_query(
                f"time() - sqlite_restore_drill_last_success_timestamp_seconds{{{WATCHED}}}", OF_DATABASE
            ),
            unit="s",
            thresholds=red_above("drill_age"),
            alert="QueueDrillTooOld",
        ),
        line_panel(
            "Age of the last integrity check",
            "Time since the file, or its newest backup, was last checked. Good: below the distance of your checks.",
            range_query(
                f"time() - sqlite_integrity_last_check_timestamp_seconds{{{WATCHED}}}", "{{check}}, {{target}}"
            ),
            unit="s",
            alert="QueueIntegrityFailed",
        ),
    ]  # fmt: skip


def action_panels() -> list[Panel]:
    """What queuekeeper did to it, and whether it helped."""
    given_back = ("reclaimed_bytes", "requeued_tasks", "purged_tasks")
    room, requeued, purged = (
        event_query(f"queuekeeper_action_{name}_total", "database, instance", WATCHED) for name in given_back
    )
    return [
        *outcome_panels(),
        state_panel(
            "Running and suspended",
            "Actions that run now, and actions that queuekeeper no longer starts by itself. Good: short bars, nothing "
            "suspended.",
            range_query(f"queuekeeper_action_started_timestamp_seconds{{{WATCHED}}} * 0 + 1", "{{action}} runs"),
            range_query(f"2 * queuekeeper_remediation_suspended{{{WATCHED}}}", "{{action}} suspended"),
            words={"no": (0, GREEN), "runs": (1, BLUE), "suspended": (2, RED)},
            alert="QueueActionStuck",
        ),
        bar_panel(
            "Room given back",
            "Bytes that actions gave back to the disk. Good: what the plan promised.",
            range_query(room, OF_DATABASE),
            unit="bytes",
            alert="QueueFreePages",
        ),
        bar_panel(
            "Tasks given back and purged",
            "Tasks with a stale lease that were given back to the queue, and finished tasks that were deleted. Good: few "
            "given back; purges at their time.",
            range_query(requeued, "given back: " + OF_DATABASE),
            range_query(purged, "purged: " + OF_DATABASE),
            alert="QueueStaleLeasesNotRemediated",
        ),
        bar_panel(
            "Schedules missed",
            "Times of a schedule that passed without a run. Good: none.",
            range_query(event_query("queuekeeper_schedule_missed_total", "schedule", WATCHED), "{{schedule}}"),
            alert="QueueScheduleMissed",
        ),
    ]
