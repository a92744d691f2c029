"""One database: how it is, its queue, and the rows about its files and its upkeep."""

from grafana.files import storage_panels, wal_detail_panels
from grafana.layout import DashboardRow, dashboard_json
from grafana.meanings import GREEN, ORANGE, RED, TASKS, WORKERS
from grafana.overview import BACKUP_AGE, UP_OR_DOWN, WAL_STATES, wal_state_query
from grafana.panels import (
    OF_DATABASE,
    QUEUED,
    WATCHED,
    Panel,
    bar_panel,
    growth_query,
    line_panel,
    number_panel,
    range_query,
    red_above,
    value_mapping,
)
from grafana.upkeep import action_panels, backup_panels

WHOLE = {"damaged": (0, RED), "whole": (1, GREEN)}


def database_status_panels() -> list[Panel]:
    """How it is now."""
    return [
        number_panel(
            "Readable",
            "Whether the last poll could read it. Good: up.",
            f"min(sqlite_up{{{WATCHED}}})",
            mappings=UP_OR_DOWN,
            alert="QueueDatabaseDown",
        ),
        number_panel(
            "WAL",
            "The state of its write-ahead log. Good: idle. The row WAL below tells more.",
            f"max({wal_state_query()})",
            mappings=value_mapping(WAL_STATES),
            alert="QueueWalPinned",
        ),
        number_panel(
            "Waiting tasks",
            "Tasks that could run now. Good: few, or on their way to few.",
            f'sum(sqlite_queue_tasks{{{QUEUED}, state="waiting"}})',
            alert="QueueTasksWaitingLong",
            none="no queue",
        ),
        number_panel(
            "Oldest waiting",
            "For how long the oldest of them has waited. Good: below what users notice.",
            f"max(sqlite_queue_oldest_waiting_age_seconds{{{QUEUED}}})",
            unit="s",
            thresholds=red_above("waiting"),
            alert="QueueTasksWaitingLong",
            none="unknown",
        ),
        number_panel(
            "Stale leases",
            "Tasks held by workers that are gone. Good: 0.",
            f"sum(sqlite_queue_stale_leases{{{QUEUED}}})",
            thresholds=red_above("stale_leases", ORANGE),
            alert="QueueStaleLeases",
            none="no leases",
        ),
        number_panel(
            "Backup age",
            "Age of the newest backup whose content was proved. Good: below two missed daily backups.",
            f"max({BACKUP_AGE})",
            unit="s",
            thresholds=red_above("backup_age"),
            alert="QueueBackupTooOld",
            none="none",
        ),
        number_panel(
            "Last drill",
            "How long ago a backup was last restored and found healthy. Good: below two missed weekly drills.",
            f"time() - max(sqlite_restore_drill_last_success_timestamp_seconds{{{WATCHED}}})",
            unit="s",
            thresholds=red_above("drill_age"),
            alert="QueueDrillTooOld",
            none="never",
        ),
        number_panel(
            "Integrity",
            "What the checks of the file and of its backup found; a failure stays until a full check succeeds. Good: whole.",
            f"min(sqlite_integrity_ok{{{WATCHED}}})",
            mappings=value_mapping(WHOLE),
            alert="QueueIntegrityFailed",
            none="unchecked",
        ),
    ]


def queue_panels() -> list[Panel]:
    """Tasks, leases and workers."""
    return [
        line_panel(
            "Tasks by state",
            "Tasks of the chosen queues. Good: waiting falls back to a floor; dead and failed do not climb.",
            range_query(f"sum by (state) (sqlite_queue_tasks{{{QUEUED}}})", "{{state}}"),
            unit="short",
            stacked=True,
            alert="QueueFailuresRising",
            words=TASKS,
        ),
        line_panel(
            "Oldest waiting task",
            "For how long the oldest task that could run has waited. 0: nothing waits. Good: below what users notice.",
            range_query(f"sqlite_queue_oldest_waiting_age_seconds{{{QUEUED}}}", "{{queue}}"),
            unit="s",
            thresholds=red_above("waiting"),
            alert="QueueTasksWaitingLong",
        ),
        line_panel(
            "First in line unchanged",
            "For how long the same task has been first in line. Good: short; growing without end means that no worker takes "
            "a task.",
            range_query(f"sqlite_queue_head_unchanged_seconds{{{QUEUED}}}", "{{queue}}"),
            unit="s",
            thresholds=red_above("head"),
            alert="QueueHeadStuck",
        ),
        line_panel(
            "Stale leases",
            "Tasks whose lease is no longer renewed, by the same rule that requeue uses. Good: 0; short peaks are given back.",
            range_query(f"sqlite_queue_stale_leases{{{QUEUED}}}", "{{queue}}"),
            unit="short",
            thresholds=red_above("stale_leases"),
            alert="QueueStaleLeasesNotRemediated",
        ),
        line_panel(
            "Age of the oldest stale lease",
            "Since when the longest forgotten task could have been given back. Good: 0, or minutes.",
            range_query(f"sqlite_queue_oldest_stale_lease_age_seconds{{{QUEUED}}}", "{{queue}}"),
            unit="s",
            alert="QueueStaleLeases",
        ),
        line_panel(
            "Workers",
            "The queue's own list of workers, where it keeps one. Good: as many alive as you started, none stale.",
            range_query(f"sum by (state) (sqlite_queue_workers{{{WATCHED}}})", "{{state}}"),
            unit="short",
            stacked=True,
            alert="QueueDeadWorkers",
            words=WORKERS,
        ),
        bar_panel(
            "Tasks enqueued",
            "New tasks per interval, where the file tells it. Good: what your application usually makes.",
            range_query(growth_query("sqlite_queue_enqueued_total", "database, instance", WATCHED), OF_DATABASE),
        ),
        bar_panel(
            "Commits lost",
            "How often the number of the newest task went backwards: a restore, a replaced file, damage. Good: nothing but "
            "restores of your own.",
            range_query(
                growth_query("sqlite_queue_sequence_regressions_total", "database, instance", WATCHED), OF_DATABASE
            ),
            alert="QueueLostCommits",
        ),
        line_panel(
            "Counts that are lower bounds",
            "1 where counting stopped at its row bound, so that the count of this state is a lower bound. Good: 0; a queue of "
            "millions of rows shows 1.",
            range_query(f"max by (queue, state) (sqlite_queue_tasks_capped{{{QUEUED}}})", "{{queue}}: {{state}}"),
            unit="short",
        ),
    ]


def database_dashboard() -> str:
    """The file."""
    rows: list[DashboardRow] = [
        ("Now", database_status_panels(), False),
        ("Queue", queue_panels(), False),
        ("Write-ahead log", wal_detail_panels(), False),
        ("Storage", storage_panels(), False),
        ("Backups and drills", backup_panels(), False),
        ("Actions", action_panels(), False),
    ]
    return dashboard_json(
        "queuekeeper-database",
        "queuekeeper: one database",
        "Everything that is known about one database, and what queuekeeper did to it.",
        rows,
        ("job", "instance", "database", "queue"),
        one_database=True,
    )
