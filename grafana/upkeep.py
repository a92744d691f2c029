"""Rows of one database about what is done for it: backups, drills, checks, and every other action."""

from grafana.meanings import BACKUPS, BLUE, GREEN, RED
from grafana.overview import BACKUP_AGE, done
from grafana.panels import OF_DATABASE, WATCHED, Panel, bad_above, bars, events, lines, states, target


def keeping() -> list[Panel]:
    """Backups, drills and checks."""
    return [
        lines(
            "Backup age",
            "Age of the newest backup whose content was proved, and of its last proof. Good: a saw-tooth below the line.",
            target(BACKUP_AGE, "snapshot: " + OF_DATABASE),
            target(
                f"time() - sqlite_backup_last_verified_timestamp_seconds{{{WATCHED}}}", "last proved: " + OF_DATABASE
            ),
            unit="s",
            thresholds=bad_above("backup_age"),
            alert="QueueBackupTooOld",
        ),
        lines(
            "Backups kept",
            "Backups in the directory by what is known of them. Good: verified only; failed ones want a look.",
            target(f"sum by (state) (sqlite_backups{{{WATCHED}}})", "{{state}}"),
            unit="short",
            stacked=True,
            alert="QueueBackupDamaged",
            words=BACKUPS,
        ),
        lines(
            "Size of the backups",
            "Bytes of all backups by state, and of the newest. Good: level, once as many are kept as shall be.",
            target(f"sum by (state) (sqlite_backups_size_bytes{{{WATCHED}}})", "all {{state}}"),
            target(f"sqlite_backup_last_size_bytes{{{WATCHED}}}", "newest: " + OF_DATABASE),
            unit="bytes",
            alert="QueueBackupNeverVerified",
        ),
        lines(
            "Duration of backup and drill",
            "How long the newest backup took, and the newest successful restore: that is how long coming back takes. Good: "
            "below the time that you may be down.",
            target(f"sqlite_backup_last_duration_seconds{{{WATCHED}}}", "backup: " + OF_DATABASE),
            target(f"sqlite_restore_drill_duration_seconds{{{WATCHED}}}", "restore: " + OF_DATABASE),
            unit="s",
            alert="QueueDrillFailed",
        ),
        lines(
            "Age of the last drill",
            "Time since a backup was last restored and found healthy. Good: a saw-tooth below the line.",
            target(
                f"time() - sqlite_restore_drill_last_success_timestamp_seconds{{{WATCHED}}}", OF_DATABASE
            ),
            unit="s",
            thresholds=bad_above("drill_age"),
            alert="QueueDrillTooOld",
        ),
        lines(
            "Age of the last integrity check",
            "Time since the file, or its newest backup, was last checked. Good: below the distance of your checks.",
            target(
                f"time() - sqlite_integrity_last_check_timestamp_seconds{{{WATCHED}}}", "{{check}}, {{target}}"
            ),
            unit="s",
            alert="QueueIntegrityFailed",
        ),
    ]  # fmt: skip


def actions() -> list[Panel]:
    """What queuekeeper did to it, and whether it helped."""
    given_back = ("reclaimed_bytes", "requeued_tasks", "purged_tasks")
    room, requeued, purged = (
        events(f"queuekeeper_action_{name}_total", "database, instance", WATCHED) for name in given_back
    )
    return [
        *done(),
        states(
            "Running and suspended",
            "Actions that run now, and actions that queuekeeper no longer starts by itself. Good: short bars, nothing "
            "suspended.",
            target(f"queuekeeper_action_started_timestamp_seconds{{{WATCHED}}} * 0 + 1", "{{action}} runs"),
            target(f"2 * queuekeeper_remediation_suspended{{{WATCHED}}}", "{{action}} suspended"),
            words={"no": (0, GREEN), "runs": (1, BLUE), "suspended": (2, RED)},
            alert="QueueActionStuck",
        ),
        bars(
            "Room given back",
            "Bytes that actions gave back to the disk. Good: what the plan promised.",
            target(room, OF_DATABASE),
            unit="bytes",
            alert="QueueFreePages",
        ),
        bars(
            "Tasks given back and purged",
            "Tasks with a stale lease that were given back to the queue, and finished tasks that were deleted. Good: few "
            "given back; purges at their time.",
            target(requeued, "given back: " + OF_DATABASE),
            target(purged, "purged: " + OF_DATABASE),
            alert="QueueStaleLeasesNotRemediated",
        ),
        bars(
            "Schedules missed",
            "Times of a schedule that passed without a run. Good: none.",
            target(events("queuekeeper_schedule_missed_total", "schedule", WATCHED), "{{schedule}}"),
            alert="QueueScheduleMissed",
        ),
    ]
