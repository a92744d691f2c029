"""One database: how it is, its queue, and the rows about its files and its upkeep."""

from grafana.files import log, storage
from grafana.layout import Row, text
from grafana.meanings import GREEN, ORANGE, RED, TASKS, WORKERS
from grafana.overview import BACKUP_AGE, UP_OR_DOWN, WAL_STATES, wal_state
from grafana.panels import OF_DATABASE, QUEUED, WATCHED, Panel, bad_above, bars, grown, lines, mapping, number, target
from grafana.upkeep import actions, keeping

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
            words=TASKS,
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
            words=WORKERS,
        ),
        bars(
            "Tasks enqueued",
            "New tasks per interval, where the file tells it. Good: what your application usually makes.",
            target(grown("sqlite_queue_enqueued_total", "database, instance", WATCHED), OF_DATABASE),
        ),
        bars(
            "Commits lost",
            "How often the number of the newest task went backwards: a restore, a replaced file, damage. Good: nothing but "
            "restores of your own.",
            target(grown("sqlite_queue_sequence_regressions_total", "database, instance", WATCHED), OF_DATABASE),
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
