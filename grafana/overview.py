"""All databases at a glance: is anything wrong, where, and did queuekeeper help?"""

from grafana.layout import DashboardRow, dashboard_json
from grafana.meanings import EFFECTS, GREEN, GREY, ORANGE, OUTCOMES, RED
from grafana.panels import (
    AGENT,
    OF_DATABASE,
    WATCHED,
    Panel,
    bar_panel,
    column_style,
    event_query,
    instant_query,
    line_panel,
    number_panel,
    range_query,
    red_above,
    red_below,
    state_panel,
    table_panel,
    threshold_steps,
    value_mapping,
)

# The order is the severity: a bar that shows several databases in one shows the worst.
WAL_STATES = {
    "unknown": (0, GREY),
    "absent": (1, GREY),
    "idle": (2, GREEN),
    "backlog": (3, ORANGE),
    "reset_starved": (4, ORANGE),
    "pinned": (5, RED),
}
UP_OR_DOWN = value_mapping({"down": (0, RED), "up": (1, GREEN)})
DETAIL = (
    "/d/queuekeeper-database?${datasource:queryparam}&${job:queryparam}&${instance:queryparam}"
    "&var-database=${__data.fields.Database}&${__url_time_range}"
)
BACKUP_AGE = f"sqlite_backup_age_seconds{{{WATCHED}}}"
OLDEST_WAITING = f"sqlite_queue_oldest_waiting_age_seconds{{{WATCHED}}}"
BACKLOG = f"sqlite_wal_backlog_bytes{{{WATCHED}}}"
FREE_SHARE = f"sqlite_disk_free_bytes{{{WATCHED}}} / sqlite_disk_size_bytes{{{WATCHED}}}"


def wal_state_query() -> str:
    """One number for the state of each WAL, as WAL_STATES has it."""
    parts = (f'{value} * sqlite_wal_state{{{WATCHED}, state="{name}"}}' for name, (value, _) in WAL_STATES.items())
    return f"sum by (instance, database) ({' or '.join(parts)})"


def health_panels() -> list[Panel]:
    """The first row: is anything wrong?"""
    return [
        number_panel(
            "Databases down",
            "Configured databases that the last poll could not read. Good: 0. No data: the exporter itself is gone.",
            f"count(sqlite_up{{{WATCHED}}}) - sum(sqlite_up{{{WATCHED}}})",
            thresholds=threshold_steps((None, GREEN), (1, RED)),
            alert="QueueDatabaseDown",
        ),
        number_panel(
            "Oldest backup",
            "Age of the newest proved backup, of the database where it is oldest. Good: below two missed daily backups. "
            "None: no database has a proved backup.",
            f"max({BACKUP_AGE})",
            unit="s",
            thresholds=red_above("backup_age"),
            alert="QueueBackupTooOld",
            none="none",
        ),
        number_panel(
            "Largest backlog",
            "Bytes in a write-ahead log that no checkpoint copied back yet. Good: a few MiB that come and go.",
            f"max({BACKLOG})",
            unit="bytes",
            thresholds=red_above("wal", ORANGE),
            alert="QueueWalBacklog",
            none="no WAL",
        ),
        number_panel(
            "Stale leases",
            "Tasks held by workers that are gone. Good: 0, or back to 0 within minutes.",
            f"sum(sqlite_queue_stale_leases{{{WATCHED}}})",
            thresholds=red_above("stale_leases", ORANGE),
            alert="QueueStaleLeases",
            none="no leases",
        ),
        number_panel(
            "Longest wait",
            "For how long the oldest task that could run has waited, of the slowest queue. Good: below what users notice.",
            f"max({OLDEST_WAITING})",
            unit="s",
            thresholds=red_above("waiting"),
            alert="QueueTasksWaitingLong",
            none="no queue",
        ),
        number_panel(
            "Least free disk",
            "The free share of the fullest disk that holds a database, its backups, temporary files or our state. "
            "Good: green, above a tenth.",
            f"min({FREE_SHARE})",
            unit="percentunit",
            thresholds=red_below("disk_low"),
            alert="QueueDiskLow",
        ),
        number_panel(
            "Failed actions",
            "Runs that failed within the time shown above. Good: 0.",
            f'sum(increase(queuekeeper_action_runs_total{{{WATCHED}, outcome="failed"}}[$__range]))',
            thresholds=threshold_steps((None, GREEN), (0.5, RED)),
            alert="QueueActionFailed",
            none="none ran",
        ),
        number_panel(
            "Suspended",
            "Actions that queuekeeper no longer starts by itself, because two runs in a row did not help. Good: 0; "
            "more want a person.",
            f"sum(queuekeeper_remediation_suspended{{{WATCHED}}})",
            thresholds=threshold_steps((None, GREEN), (1, RED)),
            alert="QueueRemediationSuspended",
            none="none",
        ),
    ]


def database_table() -> list[Panel]:
    """One line for each database."""
    total, largest = "sum by (database, instance)", "max by (database, instance)"
    columns = {
        "Readable": instant_query(f"min by (database, instance) (sqlite_up{{{WATCHED}}})"),
        "Size": instant_query(f"{largest} (sqlite_database_size_bytes{{{WATCHED}}})"),
        "WAL backlog": instant_query(f"{largest} ({BACKLOG})"),
        "Waiting": instant_query(f'{total} (sqlite_queue_tasks{{{WATCHED}, state="waiting"}})'),
        "Oldest waiting": instant_query(f"{largest} ({OLDEST_WAITING})"),
        "Stale leases": instant_query(f"{total} (sqlite_queue_stale_leases{{{WATCHED}}})"),
        "Failed or dead": instant_query(f'{total} (sqlite_queue_tasks{{{WATCHED}, state=~"failed|dead"}})'),
        "Backup age": instant_query(f"{largest} ({BACKUP_AGE})"),
        "Least free disk": instant_query(f"min by (database, instance) ({FREE_SHARE})"),
    }
    looks = {
        "Database": column_style(link=DETAIL),
        "Readable": column_style(thresholds=threshold_steps((None, RED), (1, GREEN)), words=UP_OR_DOWN),
        "Size": column_style(unit="bytes"),
        "WAL backlog": column_style(unit="bytes", thresholds=red_above("wal", ORANGE)),
        "Oldest waiting": column_style(unit="s", thresholds=red_above("waiting")),
        "Stale leases": column_style(thresholds=red_above("stale_leases", ORANGE)),
        "Backup age": column_style(unit="s", thresholds=red_above("backup_age")),
        "Least free disk": column_style(unit="percentunit", thresholds=red_below("disk_low")),
    }
    return [
        table_panel(
            "Databases",
            "One line for each database; its name leads to its own dashboard. Good: all readable, no colour but green. "
            "An empty cell: not known, or there is no such thing.",
            columns,
            by=("database", "instance"),
            overrides=looks,
            alert="QueueDatabaseDown",
            height=6,
        ),
    ]


def alert_panels() -> list[Panel]:
    """What fires, what was done about it, and did it help?"""
    return [
        table_panel(
            "Alerts that fire now",
            "What Prometheus fires about these agents and databases, as its rules say. Good: no line, or info only.",
            {
                "Since": instant_query(
                    "1000 * max by (alertname, severity, database) (ALERTS_FOR_STATE"
                    f'{{{AGENT}, database=~"$database|"}} and ignoring (alertstate)'
                    f' ALERTS{{{AGENT}, database=~"$database|", alertstate="firing"}})'
                )
            },
            by=("alertname", "severity", "database"),
            overrides={"Since": column_style(unit="dateTimeFromNow")},
            width=8,
            height=10,
        ),
        *outcome_panels(),
    ]


def trend_panels() -> list[Panel]:
    """The curves that tell when it began."""
    return [
        *wal_panels(),
        line_panel(
            "Oldest waiting task",
            "For how long the oldest task that could run has waited. 0: nothing waits. Good: below what users notice.",
            range_query(OLDEST_WAITING, "{{queue}}: " + OF_DATABASE),
            unit="s",
            thresholds=red_above("waiting"),
            alert="QueueTasksWaitingLong",
        ),
        line_panel(
            "Stale leases",
            "Tasks whose lease is no longer renewed, by the same rule that requeue uses. Good: 0; short peaks are given back.",
            range_query(f"sqlite_queue_stale_leases{{{WATCHED}}}", "{{queue}}: " + OF_DATABASE),
            unit="short",
            thresholds=red_above("stale_leases"),
            alert="QueueStaleLeasesNotRemediated",
        ),
        line_panel(
            "Backup age",
            "Age of the newest backup whose content was proved. Good: a saw-tooth below the line.",
            range_query(BACKUP_AGE, OF_DATABASE),
            unit="s",
            thresholds=red_above("backup_age"),
            alert="QueueBackupTooOld",
        ),
        line_panel(
            "Free disk space",
            "Free share of the disks that hold the databases, their backups, temporary files and our state. Good: above the "
            "line.",
            range_query(FREE_SHARE, "{{role}}: " + OF_DATABASE),
            unit="percentunit",
            thresholds=red_below("disk_low"),
            alert="QueueDiskLow",
        ),
    ]


def outcome_panels() -> list[Panel]:
    """What was done about it, and did it help? For one database too."""
    return [
        bar_panel(
            "Actions by outcome",
            "Ended runs. Good: done and nothing_to_do. Blocked and locked: another process held a lock, nothing was harmed.",
            range_query(
                event_query("queuekeeper_action_runs_total", "action, outcome", WATCHED), "{{action}}: {{outcome}}"
            ),
            alert="QueueActionFailed",
            words=OUTCOMES,
            height=10,
        ),
        bar_panel(
            "Did it help?",
            "Effect of automatic actions, measured by the reading that asked for them. Good: fixed. Blocked names a process in "
            "its history. No_effect again and again: the cause lies elsewhere, a person is needed.",
            range_query(
                event_query("queuekeeper_remediation_effect_total", "rule, effect", WATCHED), "{{rule}}: {{effect}}"
            ),
            alert="QueueRemediationSuspended",
            words=EFFECTS,
            height=10,
        ),
    ]


def wal_panels() -> list[Panel]:
    """The write-ahead log: how much waits in it, and why. For one database too."""
    return [
        line_panel(
            "WAL backlog",
            "Bytes that wait in the write-ahead log to be copied into the database. Good: a saw-tooth far below the line.",
            range_query(BACKLOG, OF_DATABASE),
            unit="bytes",
            thresholds=red_above("wal"),
            alert="QueueWalBacklogNotRemediated",
        ),
        state_panel(
            "WAL state",
            "Good: idle, with short backlogs. Pinned: a reader holds everything back, only its end helps. Reset starved: "
            "short reads overlap, a truncating checkpoint helps. Absent: no write-ahead log now.",
            range_query(wal_state_query(), OF_DATABASE),
            words=WAL_STATES,
            alert="QueueWalResetStarved",
        ),
    ]


def overview_dashboard() -> str:
    """The file."""
    rows: list[DashboardRow] = [
        ("Health", health_panels(), False),
        ("Databases", database_table(), False),
        ("Alerts and actions", alert_panels(), False),
        ("Trends", trend_panels(), False),
    ]
    return dashboard_json(
        "queuekeeper-overview",
        "queuekeeper: all databases",
        "Task queues in SQLite files: their health, and what queuekeeper did about it.",
        rows,
        ("job", "instance", "database"),
    )
