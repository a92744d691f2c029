"""One database: its files, its write-ahead log and who holds it, its queue, its backups, what was done to it."""

from grafana.layout import Row, text
from grafana.overview import BACKLOG, BACKUP_AGE, FREE_SHARE, UP_OR_DOWN, WAL_STATES, wal_state
from grafana.panels import (
    BLUE,
    GREEN,
    OF_DATABASE,
    ORANGE,
    QUEUED,
    RED,
    WATCHED,
    Panel,
    bad_above,
    bad_below,
    bars,
    events,
    lines,
    mapping,
    now,
    number,
    rows_of,
    states,
    target,
)

WHOLE = {"damaged": (0, RED), "whole": (1, GREEN)}


def present() -> list[Panel]:
    """How it is now."""
    return [
        number(
            "Readable",
            "Whether the last poll could read it. Good: up.",
            f"min(sqlite_up{{{WATCHED}}})",
            mappings=UP_OR_DOWN,
            alert="QueueDatabaseDown",
        ),
        number(
            "WAL",
            "The state of its write-ahead log. Good: idle. The row WAL below tells more.",
            f"max({wal_state()})",
            mappings=mapping(WAL_STATES),
            alert="QueueWalPinned",
        ),
        number(
            "Waiting tasks",
            "Tasks that could run now. Good: few, or on their way to few.",
            f'sum(sqlite_queue_tasks{{{QUEUED}, state="waiting"}})',
            alert="QueueTasksWaitingLong",
            none="no queue",
        ),
        number(
            "Oldest waiting",
            "For how long the oldest of them has waited. Good: below what users notice.",
            f"max(sqlite_queue_oldest_waiting_age_seconds{{{QUEUED}}})",
            unit="s",
            thresholds=bad_above("waiting"),
            alert="QueueTasksWaitingLong",
            none="unknown",
        ),
        number(
            "Stale leases",
            "Tasks held by workers that are gone. Good: 0.",
            f"sum(sqlite_queue_stale_leases{{{QUEUED}}})",
            thresholds=bad_above("stale_leases", ORANGE),
            alert="QueueStaleLeases",
            none="no leases",
        ),
        number(
            "Backup age",
            "Age of the newest backup whose content was proved. Good: below two missed daily backups.",
            f"max({BACKUP_AGE})",
            unit="s",
            thresholds=bad_above("backup_age"),
            alert="QueueBackupTooOld",
            none="none",
        ),
        number(
            "Last drill",
            "How long ago a backup was last restored and found healthy. Good: below two missed weekly drills.",
            f"time() - max(sqlite_restore_drill_last_success_timestamp_seconds{{{WATCHED}}})",
            unit="s",
            thresholds=bad_above("drill_age"),
            alert="QueueDrillTooOld",
            none="never",
        ),
        number(
            "Integrity",
            "What the checks of the file and of its backup found; a failure stays until a full check succeeds. Good: whole.",
            f"min(sqlite_integrity_ok{{{WATCHED}}})",
            mappings=mapping(WHOLE),
            alert="QueueIntegrityFailed",
            none="unchecked",
        ),
    ]


def storage() -> list[Panel]:
    """Files, pages and disks."""
    return [
        lines(
            "File sizes",
            "Size of the database and of its write-ahead log. The log's size is a high-water mark, not a backlog: SQLite "
            "reuses the file. Good: both level.",
            target(f"sqlite_database_size_bytes{{{WATCHED}}}", OF_DATABASE),
            target(f"sqlite_wal_size_bytes{{{WATCHED}}}", OF_DATABASE + ", WAL"),
            unit="bytes",
            alert="QueueWalResetStarvedNotRemediated",
        ),
        lines(
            "Pages",
            "What the pages of the file hold: used, free (a vacuum gives them back), and room inside used pages where it was "
            "measured. Good: free small beside used, or soon used again.",
            target(
                f"(sqlite_pages{{{WATCHED}}} - sqlite_free_pages{{{WATCHED}}}) * sqlite_page_size_bytes{{{WATCHED}}}",
                "used: " + OF_DATABASE,
            ),
            target(
                f"sqlite_free_pages{{{WATCHED}}} * sqlite_page_size_bytes{{{WATCHED}}}", "free: " + OF_DATABASE
            ),
            target(f"sqlite_unused_bytes{{{WATCHED}}}", "inside used pages: " + OF_DATABASE),
            unit="bytes",
            alert="QueueFreePagesNotRemediated",
        ),
        lines(
            "Free and scattered pages",
            "Share of pages that are empty, and of pages that do not follow the page before them. Good: level. A high free "
            "share after a purge is room that a vacuum would give back; the order matters on spinning disks only.",
            target(f"sqlite_fragmentation_ratio{{{WATCHED}}}", "free: " + OF_DATABASE),
            target(f"sqlite_out_of_order_pages_ratio{{{WATCHED}}}", "out of order: " + OF_DATABASE),
            unit="percentunit",
            thresholds=bad_above("free_ratio", ORANGE),
            most=1,
            alert="QueueFreePages",
        ),
        lines(
            "Free disk space",
            "Free share of the disks that hold the database, its backups, temporary files and our state. Good: above the line.",
            target(FREE_SHARE, "{{role}}: " + OF_DATABASE),
            unit="percentunit",
            thresholds=bad_below("disk_low"),
            most=1,
            alert="QueueDiskFullSoon",
        ),
        rows_of(
            "What it is",
            "Facts about the file, and whether its application is exposed to the WAL-reset bug. Good: the profile is the right "
            "one, the bug is ruled out (owner_sqlite in the configuration).",
            {
                "Known": now(
                    "max by (database, instance, path, journal_mode, auto_vacuum, profile, lease_kind, "
                    f"owner_sqlite_version) (sqlite_info{{{WATCHED}}})"
                ),
                "May have the WAL-reset bug": now(
                    f"max by (database, instance) (sqlite_owner_wal_reset_vulnerable{{{WATCHED}}})"
                ),
            },
            by=(
                "database", "instance", "path", "journal_mode", "auto_vacuum", "profile", "lease_kind",
                "owner_sqlite_version",
            ),
            overrides={},
            width=16,
            alert="QueueOwnerVulnerable",
        ),
    ]  # fmt: skip


def log() -> list[Panel]:
    """The write-ahead log, and who holds it."""
    return [
        lines(
            "WAL backlog",
            "Bytes that wait in the write-ahead log to be copied into the database. Good: a saw-tooth far below the line.",
            target(BACKLOG, OF_DATABASE),
            unit="bytes",
            thresholds=bad_above("wal"),
            alert="QueueWalBacklogNotRemediated",
        ),
        states(
            "WAL state",
            "Good: idle, with short backlogs. Pinned: a reader holds everything back, only its end helps. Reset starved: "
            "short reads overlap, a truncating checkpoint helps. Absent: no write-ahead log now.",
            target(wal_state(), OF_DATABASE),
            words=WAL_STATES,
            alert="QueueWalResetStarved",
        ),
        lines(
            "WAL held back, by program",
            "For how long a program's open read has held the write-ahead log back. Good: no data, or seconds.",
            target(f"sqlite_wal_pinned_seconds{{{WATCHED}}}", "{{command}}: " + OF_DATABASE),
            unit="s",
            thresholds=bad_above("pinned"),
            alert="QueueWalPinned",
        ),
        lines(
            "Frames",
            "Live frames in the log, and how many of them are copied back. Good: the two meet again and again, and both fall "
            "to 0 now and then.",
            target(f"sqlite_wal_frames{{{WATCHED}}}", "live: " + OF_DATABASE),
            target(f"sqlite_wal_checkpointed_frames{{{WATCHED}}}", "copied: " + OF_DATABASE),
            unit="short",
            alert="QueueWalBacklog",
        ),
        lines(
            "Write lock busy",
            "Share of the time in which somebody held the write lock; SQLite has one writer at a time. Good: below a half; "
            'near 1 everybody else gets "database is locked".',
            target(f"sqlite_write_lock_busy_ratio{{{WATCHED}}}", OF_DATABASE),
            unit="percentunit",
            most=1,
        ),
    ]


def work() -> list[Panel]:
    """Tasks, leases and workers."""
    return [
        lines(
            "Tasks by state",
            "Tasks of the chosen queues. Good: waiting falls back to a floor; dead and failed do not climb.",
            target(f"sum by (state) (sqlite_queue_tasks{{{QUEUED}}})", "{{state}}"),
            unit="short",
            stacked=True,
            alert="QueueFailuresRising",
        ),
        lines(
            "Oldest waiting task",
            "For how long the oldest task that could run has waited. 0: nothing waits. Good: below what users notice.",
            target(f"sqlite_queue_oldest_waiting_age_seconds{{{QUEUED}}}", "{{queue}}"),
            unit="s",
            thresholds=bad_above("waiting"),
            alert="QueueTasksWaitingLong",
        ),
        lines(
            "First in line unchanged",
            "For how long the same task has been first in line. Good: short; growing without end means that nobody takes "
            "anything.",
            target(f"sqlite_queue_head_unchanged_seconds{{{QUEUED}}}", "{{queue}}"),
            unit="s",
            thresholds=bad_above("head"),
            alert="QueueHeadStuck",
        ),
        lines(
            "Stale leases",
            "Tasks whose lease nobody renews, by the same rule that requeue uses. Good: 0; short peaks are given back.",
            target(f"sqlite_queue_stale_leases{{{QUEUED}}}", "{{queue}}"),
            unit="short",
            thresholds=bad_above("stale_leases"),
            alert="QueueStaleLeasesNotRemediated",
        ),
        lines(
            "Age of the oldest stale lease",
            "Since when the longest forgotten task could have been given back. Good: 0, or minutes.",
            target(f"sqlite_queue_oldest_stale_lease_age_seconds{{{QUEUED}}}", "{{queue}}"),
            unit="s",
            alert="QueueStaleLeases",
        ),
        lines(
            "Workers",
            "The queue's own list of workers, where it keeps one. Good: as many alive as you started, none stale.",
            target(f"sum by (state) (sqlite_queue_workers{{{WATCHED}}})", "{{state}}"),
            unit="short",
            stacked=True,
            alert="QueueDeadWorkers",
        ),
        bars(
            "Tasks enqueued",
            "New tasks per interval, where the file tells it. Good: what your application usually makes.",
            target(events("sqlite_queue_enqueued_total", "database, instance", WATCHED), OF_DATABASE),
        ),
        bars(
            "Commits lost",
            "How often the number of the newest task went backwards: a restore, a replaced file, damage. Good: nothing but "
            "restores of your own.",
            target(events("sqlite_queue_sequence_regressions_total", "database, instance", WATCHED), OF_DATABASE),
            alert="QueueLostCommits",
        ),
        lines(
            "Counts that are lower bounds",
            "1 where counting stopped at its row bound, so that the count of this state is a lower bound. Good: 0; a queue of "
            "millions of rows shows 1.",
            target(f"max by (queue, state) (sqlite_queue_tasks_capped{{{QUEUED}}})", "{{queue}}: {{state}}"),
            unit="short",
        ),
    ]


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
        bars(
            "Actions by outcome",
            "Ended runs. Good: done and nothing_to_do. Blocked and locked: somebody stood in the way, nothing was harmed.",
            target(events("queuekeeper_action_runs_total", "action, outcome", WATCHED), "{{action}}: {{outcome}}"),
            alert="QueueActionFailed",
        ),
        bars(
            "Did it help?",
            "Effect of automatic actions, measured by the reading that asked for them. Good: fixed. No_effect again and "
            "again: the cause lies elsewhere, a person is needed.",
            target(events("queuekeeper_remediation_effect_total", "rule, effect", WATCHED), "{{rule}}: {{effect}}"),
            alert="QueueRemediationSuspended",
        ),
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


def board() -> str:
    """The file."""
    rows: list[Row] = [
        ("Now", present(), False),
        ("Queue", work(), False),
        ("Write-ahead log", log(), False),
        ("Storage", storage(), False),
        ("Backups and drills", keeping(), False),
        ("Actions", actions(), False),
    ]
    return text(
        "queuekeeper-database",
        "queuekeeper: one database",
        "Everything that is known about one database, and what queuekeeper did to it.",
        rows,
        ("job", "instance", "database", "queue"),
        one_database=True,
    )
