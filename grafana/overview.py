"""What the overview shows, row by row: one question for each panel, and in its description what good looks like."""

from exporter.thresholds import THRESHOLDS
from grafana.layout import Row, annotations, links, rows, variables
from grafana.panels import (
    AGENT,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    WATCHED,
    Json,
    bad_above,
    bad_below,
    bars,
    increase,
    lines,
    mapping,
    panel,
    stat,
    steps,
    target,
)

# The order is the severity: a panel that shows several databases in one line shows the worst.
WAL_STATES = {
    "unknown": (0, GREY),
    "absent": (1, GREY),
    "idle": (2, GREEN),
    "backlog": (3, ORANGE),
    "reset_starved": (4, ORANGE),
    "pinned": (5, RED),
}


def health() -> list[Json]:
    """The first row: is anything wrong?"""
    return [
        stat(
            "Databases down",
            "Configured databases that the last poll could not read. Good: 0. No data: the exporter itself is gone.",
            f"count(sqlite_up{{{WATCHED}}}) - sum(sqlite_up{{{WATCHED}}})",
            unit="short",
            thresholds=steps((None, GREEN), (1, RED)),
            alert="QueueDatabaseDown",
        ),
        stat(
            "Oldest backup",
            "Age of the newest proved backup, of the database where it is oldest. Good: below two "
            "missed daily backups. "
            "No data: no database has a proved backup.",
            f"max(sqlite_backup_age_seconds{{{WATCHED}}})",
            unit="s",
            thresholds=bad_above("backup_age"),
            alert="QueueBackupTooOld",
        ),
        stat(
            "Largest WAL backlog",
            "Bytes in a write-ahead log that no checkpoint copied back yet. Good: a few MiB that come and go.",
            f"max(sqlite_wal_backlog_bytes{{{WATCHED}}})",
            unit="bytes",
            thresholds=bad_above("wal", ORANGE),
            alert="QueueWalBacklog",
        ),
        stat(
            "Stale leases",
            "Tasks held by workers that are gone. Good: 0, or back to 0 within minutes.",
            f"sum(sqlite_queue_stale_leases{{{WATCHED}}})",
            # The alert is about any at all, and this counts whole tasks.
            unit="short",
            thresholds=steps((None, GREEN), (THRESHOLDS["stale_leases"].value + 1, ORANGE)),
            alert="QueueStaleLeases",
        ),
        stat(
            "Failed actions",
            "Runs that failed within the time shown above. Good: 0.",
            f'sum(increase(queuekeeper_action_runs_total{{{WATCHED}, outcome="failed"}}[$__range]))',
            unit="short",
            thresholds=steps((None, GREEN), (0.5, RED)),
            alert="QueueActionFailed",
        ),
        stat(
            "Acting",
            "Whether queuekeeper may act. Observing: actions are off in the configuration. Paused: "
            "somebody stopped them.",
            f"max(queuekeeper_actions_enabled{{{AGENT}}} + 2 * queuekeeper_paused{{{AGENT}}})",
            unit="short",
            alert="QueueActionsPaused",
            mappings=mapping(
                {"observing": (0, BLUE), "acting": (1, GREEN), "observing, paused": (2, ORANGE), "paused": (3, ORANGE)}
            ),
        ),
    ]


def storage() -> list[Json]:
    """Files, the write-ahead log and free pages."""
    state = " or ".join(
        f'{number} * sqlite_wal_state{{{WATCHED}, state="{name}"}}' for name, (number, _) in WAL_STATES.items()
    )
    return [
        lines(
            "File sizes",
            "Size of the database and of its write-ahead log. The log's size is a high-water mark, not "
            "a backlog: SQLite "
            "reuses the file. Good: both level.",
            [
                target(f"sqlite_database_size_bytes{{{WATCHED}}}", "{{database}} on {{instance}}"),
                target(f"sqlite_wal_size_bytes{{{WATCHED}}}", "{{database}} on {{instance}}, WAL"),
            ],
            unit="bytes",
        ),
        lines(
            "WAL backlog",
            "Bytes that wait in the write-ahead log to be copied into the database. Good: a saw-tooth "
            "far below the line.",
            [target(f"sqlite_wal_backlog_bytes{{{WATCHED}}}", "{{database}} on {{instance}}")],
            unit="bytes",
            thresholds=bad_above("wal"),
            alert="QueueWalBacklogNotRemediated",
        ),
        panel(
            "state-timeline",
            "WAL state",
            "Good: idle, with short backlogs. Pinned: a reader holds everything back, only its end "
            "helps. Reset starved: "
            "short reads overlap, a truncating checkpoint helps. Absent: no write-ahead log now.",
            [target(f"sum by (instance, database) ({state})", "{{database}} on {{instance}}")],
            unit="short",
            width=8,
            custom={"fillOpacity": 80, "lineWidth": 0},
            mappings=mapping(WAL_STATES),
            options={"mergeValues": True, "showValue": "auto", "rowHeight": 0.9, "legend": {"showLegend": False}},
            alert="QueueWalResetStarved",
        ),
        lines(
            "WAL held back, by program",
            "For how long a program's open read has held the write-ahead log back. Good: no data, or seconds.",
            [target(f"sqlite_wal_pinned_seconds{{{WATCHED}}}", "{{command}}: {{database}} on {{instance}}")],
            unit="s",
            thresholds=bad_above("pinned"),
            alert="QueueWalPinned",
        ),
        lines(
            "Free pages",
            "Share of the database's pages that are empty and will be reused. It says nothing about "
            "the order of pages. "
            "Good: level; a high share after a purge is room that a vacuum would give back.",
            [target(f"sqlite_fragmentation_ratio{{{WATCHED}}}", "{{database}} on {{instance}}")],
            unit="percentunit",
        ),
        lines(
            "Room inside the databases",
            "Bytes in free pages: what a vacuum would give back to the disk. Good: small beside the "
            "file, or reused soon.",
            [
                target(
                    f"sqlite_free_pages{{{WATCHED}}} * sqlite_page_size_bytes{{{WATCHED}}}",
                    "{{database}} on {{instance}}",
                )
            ],
            unit="bytes",
        ),
    ]


def work() -> list[Json]:
    """Tasks and leases."""
    return [
        lines(
            "Tasks by state",
            "Tasks of all chosen databases. Good: waiting falls back to a floor; dead and failed do not climb.",
            [target(f"sum by (state) (sqlite_queue_tasks{{{WATCHED}}})", "{{state}}")],
            unit="short",
            stacked=True,
        ),
        lines(
            "Oldest waiting task",
            "For how long the oldest task that could run has waited. 0: nothing waits. Good: below "
            "what users would notice.",
            [
                target(
                    f"sqlite_queue_oldest_waiting_age_seconds{{{WATCHED}}}", "{{queue}}: {{database}} on {{instance}}"
                )
            ],
            unit="s",
            thresholds=bad_above("waiting"),
            alert="QueueTasksWaitingLong",
        ),
        lines(
            "Stale leases",
            "Tasks whose lease nobody renews, by the same rule that requeue uses. Good: 0; short peaks are given back.",
            [target(f"sqlite_queue_stale_leases{{{WATCHED}}}", "{{queue}}: {{database}} on {{instance}}")],
            unit="short",
            thresholds=bad_above("stale_leases"),
            alert="QueueStaleLeasesNotRemediated",
        ),
    ]


def backups() -> list[Json]:
    """Can it be restored, and is there room?"""
    return [
        lines(
            "Backup age",
            "Age of the newest backup whose content was proved. Good: a saw-tooth below the line.",
            [target(f"sqlite_backup_age_seconds{{{WATCHED}}}", "{{database}} on {{instance}}")],
            unit="s",
            thresholds=bad_above("backup_age"),
            alert="QueueBackupTooOld",
        ),
        lines(
            "Backups kept",
            "Backups in the directory by what is known of them. Good: verified only; failed ones want a look.",
            [target(f"sum by (state) (sqlite_backups{{{WATCHED}}})", "{{state}}")],
            unit="short",
            stacked=True,
            alert="QueueBackupNeverVerified",
        ),
        lines(
            "Free disk space",
            "Free share of the disks that hold the databases, their backups and temporary files. Good: above the line.",
            [
                target(
                    f"sqlite_disk_free_bytes{{{WATCHED}}} / sqlite_disk_size_bytes{{{WATCHED}}}",
                    "{{role}}: {{database}} on {{instance}}",
                )
            ],
            unit="percentunit",
            thresholds=bad_below("disk_low"),
            alert="QueueDiskLow",
        ),
    ]


def actions() -> list[Json]:
    """What queuekeeper was told and did, who asked, and whether it helped."""
    return [
        bars(
            "Actions by outcome",
            "Ended runs. Good: done and nothing_to_do. Blocked and locked: somebody stood in the way, "
            "nothing was harmed.",
            [target(increase("queuekeeper_action_runs_total", "action, outcome", WATCHED), "{{action}}: {{outcome}}")],
            unit="short",
            width=6,
            alert="QueueActionFailed",
        ),
        bars(
            "Did it help?",
            "Effect of automatic actions, measured by the reading that asked for them. Good: fixed. "
            "No_effect again and "
            "again: the cause lies elsewhere, a person is needed.",
            [target(increase("queuekeeper_remediation_effect_total", "rule, effect", WATCHED), "{{rule}}: {{effect}}")],
            unit="short",
            width=6,
        ),
        bars(
            "Who asked",
            "What started the runs: threshold, schedule, alert, person. Of all databases. Good: "
            "schedules, now and then a rule.",
            [
                target(
                    increase("queuekeeper_action_triggers_total", "action, trigger", AGENT), "{{action}}: {{trigger}}"
                )
            ],
            unit="short",
            width=6,
        ),
        bars(
            "Alerts received",
            "What became of alerts that Alertmanager sent. Good: accepted and duplicate; rejected and "
            "no_match want a look "
            "at the configuration.",
            [
                target(increase("queuekeeper_webhook_alerts_total", "decision", AGENT), "{{decision}}"),
                target(increase("queuekeeper_webhook_requests_total", "code", AGENT), "HTTP {{code}}"),
            ],
            unit="short",
            width=6,
        ),
    ]


def itself() -> list[Json]:
    """queuekeeper's own health."""
    errors = increase("queuekeeper_collector_errors_total", "collector, reason", AGENT)
    return [
        lines(
            "Age of the last reading",
            "Time since a database was last read. Good: below two poll intervals.",
            [
                target(
                    f"time() - queuekeeper_poll_last_success_timestamp_seconds{{{WATCHED}}}",
                    "{{database}} on {{instance}}",
                )
            ],
            unit="s",
            thresholds=bad_above("poll_age"),
            alert="QueuePollStalled",
        ),
        lines(
            "Time of the collectors",
            "Duration of the last reading, of the slowest database. Good: milliseconds.",
            [target(f"max by (collector) (queuekeeper_collector_duration_seconds{{{WATCHED}}})", "{{collector}}")],
            unit="s",
        ),
        bars(
            "Errors of the collectors",
            "Failed readings by reason. Good: none.",
            [target(errors, "{{collector}}: {{reason}}")],
            unit="short",
            alert="QueueCollectorFailing",
        ),
    ]


ROWS: tuple[Row, ...] = (
    ("Health", health, False),
    ("Storage", storage, False),
    ("Work", work, False),
    ("Backups and disks", backups, False),
    ("Actions", actions, False),
    ("queuekeeper itself", itself, True),
)


def dashboard() -> Json:
    """The whole dashboard."""
    return {
        "uid": "queuekeeper-overview",
        "title": "queuekeeper: overview",
        "description": "Task queues in SQLite files: their health, and what queuekeeper did about it.",
        "tags": ["queuekeeper", "sqlite"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": variables()},
        "annotations": {"list": annotations()},
        "links": links(),
        "panels": rows(ROWS),
    }
