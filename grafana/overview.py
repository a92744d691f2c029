"""All databases at a glance: is anything wrong, where, and did queuekeeper help?"""

from grafana.layout import Row, text
from grafana.meanings import EFFECTS, GREEN, GREY, ORANGE, OUTCOMES, RED
from grafana.panels import (
    AGENT,
    OF_DATABASE,
    WATCHED,
    Panel,
    bad_above,
    bad_below,
    bars,
    column,
    events,
    lines,
    mapping,
    now,
    number,
    rows_of,
    states,
    steps,
    target,
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
UP_OR_DOWN = mapping({"down": (0, RED), "up": (1, GREEN)})
DETAIL = (
    "/d/queuekeeper-database?${datasource:queryparam}&${job:queryparam}&${instance:queryparam}"
    "&var-database=${__data.fields.Database}&${__url_time_range}"
)
BACKUP_AGE = f"sqlite_backup_age_seconds{{{WATCHED}}}"
OLDEST_WAITING = f"sqlite_queue_oldest_waiting_age_seconds{{{WATCHED}}}"
BACKLOG = f"sqlite_wal_backlog_bytes{{{WATCHED}}}"
FREE_SHARE = f"sqlite_disk_free_bytes{{{WATCHED}}} / sqlite_disk_size_bytes{{{WATCHED}}}"


def wal_state() -> str:
    """One number for the state of each WAL, as WAL_STATES has it."""
    parts = (f'{value} * sqlite_wal_state{{{WATCHED}, state="{name}"}}' for name, (value, _) in WAL_STATES.items())
    return f"sum by (instance, database) ({' or '.join(parts)})"


def health() -> list[Panel]:
    """The first row: is anything wrong?"""
    return [
        number(
            "Databases down",
            "Configured databases that the last poll could not read. Good: 0. No data: the exporter itself is gone.",
            f"count(sqlite_up{{{WATCHED}}}) - sum(sqlite_up{{{WATCHED}}})",
            thresholds=steps((None, GREEN), (1, RED)),
            alert="QueueDatabaseDown",
        ),
        number(
            "Oldest backup",
            "Age of the newest proved backup, of the database where it is oldest. Good: below two missed daily backups. "
            "None: no database has a proved backup.",
            f"max({BACKUP_AGE})",
            unit="s",
            thresholds=bad_above("backup_age"),
            alert="QueueBackupTooOld",
            none="none",
        ),
        number(
            "Largest backlog",
            "Bytes in a write-ahead log that no checkpoint copied back yet. Good: a few MiB that come and go.",
            f"max({BACKLOG})",
            unit="bytes",
            thresholds=bad_above("wal", ORANGE),
            alert="QueueWalBacklog",
            none="no WAL",
        ),
        number(
            "Stale leases",
            "Tasks held by workers that are gone. Good: 0, or back to 0 within minutes.",
            f"sum(sqlite_queue_stale_leases{{{WATCHED}}})",
            thresholds=bad_above("stale_leases", ORANGE),
            alert="QueueStaleLeases",
            none="no leases",
        ),
        number(
            "Longest wait",
            "For how long the oldest task that could run has waited, of the slowest queue. Good: below what users notice.",
            f"max({OLDEST_WAITING})",
            unit="s",
            thresholds=bad_above("waiting"),
            alert="QueueTasksWaitingLong",
            none="no queue",
        ),
        number(
            "Least free disk",
            "The free share of the fullest disk that holds a database, its backups, temporary files or our state. "
            "Good: green, above a tenth.",
            f"min({FREE_SHARE})",
            unit="percentunit",
            thresholds=bad_below("disk_low"),
            alert="QueueDiskLow",
        ),
        number(
            "Failed actions",
            "Runs that failed within the time shown above. Good: 0.",
            f'sum(increase(queuekeeper_action_runs_total{{{WATCHED}, outcome="failed"}}[$__range]))',
            thresholds=steps((None, GREEN), (0.5, RED)),
            alert="QueueActionFailed",
            none="none ran",
        ),
        number(
            "Suspended",
            "Actions that queuekeeper no longer starts by itself, because two runs in a row did not help. Good: 0; "
            "more want a person.",
            f"sum(queuekeeper_remediation_suspended{{{WATCHED}}})",
            thresholds=steps((None, GREEN), (1, RED)),
            alert="QueueRemediationSuspended",
            none="none",
        ),
    ]


def each() -> list[Panel]:
    """One line for each database."""
    one = "sum by (database, instance)", "max by (database, instance)"
    columns = {
        "Readable": now(f"min by (database, instance) (sqlite_up{{{WATCHED}}})"),
        "Size": now(f"{one[1]} (sqlite_database_size_bytes{{{WATCHED}}})"),
        "WAL backlog": now(f"{one[1]} ({BACKLOG})"),
        "Waiting": now(f'{one[0]} (sqlite_queue_tasks{{{WATCHED}, state="waiting"}})'),
        "Oldest waiting": now(f"{one[1]} ({OLDEST_WAITING})"),
        "Stale leases": now(f"{one[0]} (sqlite_queue_stale_leases{{{WATCHED}}})"),
        "Failed or dead": now(f'{one[0]} (sqlite_queue_tasks{{{WATCHED}, state=~"failed|dead"}})'),
        "Backup age": now(f"{one[1]} ({BACKUP_AGE})"),
        "Least free disk": now(f"min by (database, instance) ({FREE_SHARE})"),
    }
    looks = {
        "Database": column(link=DETAIL),
        "Readable": column(thresholds=steps((None, RED), (1, GREEN)), words=UP_OR_DOWN),
        "Size": column(unit="bytes"),
        "WAL backlog": column(unit="bytes", thresholds=bad_above("wal", ORANGE)),
        "Oldest waiting": column(unit="s", thresholds=bad_above("waiting")),
        "Stale leases": column(thresholds=bad_above("stale_leases", ORANGE)),
        "Backup age": column(unit="s", thresholds=bad_above("backup_age")),
        "Least free disk": column(unit="percentunit", thresholds=bad_below("disk_low")),
    }
    return [
        rows_of(
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


def news() -> list[Panel]:
    """What fires, what was done about it, and did it help?"""
    return [
        rows_of(
            "Alerts that fire now",
            "What Prometheus fires about these agents and databases, as its rules say. Good: no line, or info only.",
            {
                "Since": now(
                    "1000 * max by (alertname, severity, database) (ALERTS_FOR_STATE"
                    f'{{{AGENT}, database=~"$database|"}} and ignoring (alertstate)'
                    f' ALERTS{{{AGENT}, database=~"$database|", alertstate="firing"}})'
                )
            },
            by=("alertname", "severity", "database"),
            overrides={"Since": column(unit="dateTimeFromNow")},
            width=8,
            height=10,
        ),
        *done(),
    ]


def trends() -> list[Panel]:
    """The curves that tell when it began."""
    return [
        *wal(),
        lines(
            "Oldest waiting task",
            "For how long the oldest task that could run has waited. 0: nothing waits. Good: below what users notice.",
            target(OLDEST_WAITING, "{{queue}}: " + OF_DATABASE),
            unit="s",
            thresholds=bad_above("waiting"),
            alert="QueueTasksWaitingLong",
        ),
        lines(
            "Stale leases",
            "Tasks whose lease nobody renews, by the same rule that requeue uses. Good: 0; short peaks are given back.",
            target(f"sqlite_queue_stale_leases{{{WATCHED}}}", "{{queue}}: " + OF_DATABASE),
            unit="short",
            thresholds=bad_above("stale_leases"),
            alert="QueueStaleLeasesNotRemediated",
        ),
        lines(
            "Backup age",
            "Age of the newest backup whose content was proved. Good: a saw-tooth below the line.",
            target(BACKUP_AGE, OF_DATABASE),
            unit="s",
            thresholds=bad_above("backup_age"),
            alert="QueueBackupTooOld",
        ),
        lines(
            "Free disk space",
            "Free share of the disks that hold the databases, their backups, temporary files and our state. Good: above the "
            "line.",
            target(FREE_SHARE, "{{role}}: " + OF_DATABASE),
            unit="percentunit",
            thresholds=bad_below("disk_low"),
            alert="QueueDiskLow",
        ),
    ]


def done() -> list[Panel]:
    """What was done about it, and did it help? For one database too."""
    return [
        bars(
            "Actions by outcome",
            "Ended runs. Good: done and nothing_to_do. Blocked and locked: somebody stood in the way, nothing was harmed.",
            target(events("queuekeeper_action_runs_total", "action, outcome", WATCHED), "{{action}}: {{outcome}}"),
            alert="QueueActionFailed",
            words=OUTCOMES,
            height=10,
        ),
        bars(
            "Did it help?",
            "Effect of automatic actions, measured by the reading that asked for them. Good: fixed. Blocked names somebody in "
            "its history. No_effect again and again: the cause lies elsewhere, a person is needed.",
            target(events("queuekeeper_remediation_effect_total", "rule, effect", WATCHED), "{{rule}}: {{effect}}"),
            alert="QueueRemediationSuspended",
            words=EFFECTS,
            height=10,
        ),
    ]


def wal() -> list[Panel]:
    """The write-ahead log: how much waits in it, and why. For one database too."""
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
    ]


def board() -> str:
    """The file."""
    rows: list[Row] = [
        ("Health", health(), False),
        ("Databases", each(), False),
        ("Alerts and actions", news(), False),
        ("Trends", trends(), False),
    ]
    return text(
        "queuekeeper-overview",
        "queuekeeper: all databases",
        "Task queues in SQLite files: their health, and what queuekeeper did about it.",
        rows,
        ("job", "instance", "database"),
    )
