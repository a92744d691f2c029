"""A page as queuekeeper serves it, written down by hand from docs/metrics.md, and a small server for it.

It is the check's other side: names come from the documentation, not from the dashboards that are checked with it.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JOBS = 'database="jobs"'
MAIL = f'{JOBS},queue="mail"'
BACKUP = f'{JOBS},action="backup"'
DRILL = f'{JOBS},action="drill"'
OTHER = 'database="other"'
FACTS = (
    'path="/var/lib/app/queue.db",journal_mode="wal",auto_vacuum="none",profile="prismq",lease_kind="expiry",'
    'owner_sqlite_version="3.46.1"'
)
CHECKED = f'{JOBS},check="full",target="live"'

# Everything is well: no alert has a reason.
HEALTHY = f"""\
queuekeeper_build_info{{version="0.1.0",revision="abc",python_version="3.11.2",sqlite_version="3.51.3"}} 1
queuekeeper_databases{{state="readable"}} 1
queuekeeper_config_last_reload_successful 1
queuekeeper_config_last_reload_success_timestamp_seconds HOUR_AGO
queuekeeper_poll_overruns_total{{{JOBS}}} 0
queuekeeper_label_values_dropped_total{{{JOBS}}} 0
queuekeeper_action_duration_seconds_bucket{{action="backup",le="1.0"}} 10
queuekeeper_action_duration_seconds_bucket{{action="backup",le="+Inf"}} 12
queuekeeper_action_reclaimed_bytes_total{{{JOBS}}} 4096
queuekeeper_action_requeued_tasks_total{{{JOBS}}} 3
queuekeeper_action_purged_tasks_total{{{JOBS}}} 0
queuekeeper_actions_enabled 1
queuekeeper_paused 0
queuekeeper_actions_pending 0
queuekeeper_poll_last_success_timestamp_seconds{{{JOBS}}} NOW
queuekeeper_collector_success{{{JOBS},collector="tasks"}} 1
queuekeeper_collector_duration_seconds{{{JOBS},collector="tasks"}} 0.002
queuekeeper_collector_errors_total{{collector="tasks",reason="busy"}} 3
queuekeeper_action_runs_total{{{BACKUP},outcome="done"}} 12
queuekeeper_action_runs_total{{{BACKUP},outcome="failed"}} 0
queuekeeper_action_triggers_total{{action="backup",trigger="schedule"}} 12
queuekeeper_action_started_timestamp_seconds{{{BACKUP}}} NOW
queuekeeper_action_last_success_timestamp_seconds{{{BACKUP}}} NOW
queuekeeper_action_last_failure_timestamp_seconds{{{BACKUP}}} HOUR_AGO
queuekeeper_remediation_effect_total{{{JOBS},rule="stale-leases",effect="fixed"}} 4
queuekeeper_action_last_success_timestamp_seconds{{{DRILL}}} NOW
queuekeeper_action_last_failure_timestamp_seconds{{{DRILL}}} HOUR_AGO
queuekeeper_remediation_suspended{{{JOBS},action="checkpoint"}} 0
queuekeeper_schedule_missed_total{{{JOBS},schedule="daily-backup"}} 0
queuekeeper_state_writable 1
queuekeeper_webhook_requests_total{{code="202"}} 5
queuekeeper_webhook_requests_total{{code="401"}} 0
queuekeeper_webhook_truncated_alerts_total 0
queuekeeper_webhook_alerts_total{{database="jobs",decision="accepted"}} 5
sqlite_up{{{JOBS}}} 1
sqlite_owner_wal_reset_vulnerable{{{JOBS}}} 0
sqlite_database_size_bytes{{{JOBS}}} 1e8
sqlite_wal_size_bytes{{{JOBS}}} 4e6
sqlite_page_size_bytes{{{JOBS}}} 4096
sqlite_content_lost_ratio{{{JOBS}}} 0
sqlite_free_pages{{{JOBS}}} 120
sqlite_fragmentation_ratio{{{JOBS}}} 0.005
sqlite_wal_backlog_bytes{{{JOBS}}} 1e6
sqlite_wal_state{{{JOBS},state="idle"}} 1
sqlite_wal_state{{{JOBS},state="backlog"}} 0
sqlite_wal_state{{{JOBS},state="pinned"}} 0
sqlite_wal_state{{{JOBS},state="reset_starved"}} 0
sqlite_wal_state{{{JOBS},state="absent"}} 0
sqlite_wal_state{{{JOBS},state="unknown"}} 0
sqlite_wal_pinned_seconds{{{JOBS},command="python3"}} 3
sqlite_disk_free_bytes{{{JOBS},role="database"}} 5e11
sqlite_disk_size_bytes{{{JOBS},role="database"}} 1e12
sqlite_queue_tasks{{{MAIL},state="waiting"}} 7
sqlite_queue_tasks{{{MAIL},state="failed"}} 3
sqlite_queue_workers{{{JOBS},state="alive"}} 2
sqlite_queue_workers{{{JOBS},state="stale"}} 0
sqlite_queue_head_unchanged_seconds{{{MAIL}}} 12
sqlite_queue_sequence_regressions_total{{{JOBS}}} 0
sqlite_queue_oldest_waiting_age_seconds{{{MAIL}}} 12
sqlite_queue_stale_leases{{{MAIL}}} 0
sqlite_backup_age_seconds{{{JOBS}}} 3600
sqlite_backup_last_size_bytes{{{JOBS}}} 9e7
sqlite_backups{{{JOBS},state="verified"}} 10
sqlite_backups{{{JOBS},state="unverified"}} 0
sqlite_backups{{{JOBS},state="failed"}} 0
sqlite_backups_size_bytes{{{JOBS},state="verified"}} 9e8
sqlite_backups{{{OTHER},state="verified"}} 2
sqlite_restore_drill_last_success_timestamp_seconds{{{JOBS}}} HOUR_AGO
sqlite_restore_drill_last_success_timestamp_seconds{{{OTHER}}} HOUR_AGO
sqlite_integrity_ok{{{CHECKED}}} 1
sqlite_integrity_last_check_timestamp_seconds{{{CHECKED}}} HOUR_AGO
sqlite_restore_drill_duration_seconds{{{JOBS}}} 1.5
sqlite_backup_last_duration_seconds{{{JOBS}}} 2.5
sqlite_backup_last_verified_timestamp_seconds{{{JOBS}}} HOUR_AGO
sqlite_info{{{JOBS},{FACTS}}} 1
sqlite_pages{{{JOBS}}} 24000
sqlite_unused_bytes{{{JOBS}}} 12000
sqlite_out_of_order_pages_ratio{{{JOBS}}} 0.1
sqlite_wal_frames{{{JOBS}}} 250
sqlite_wal_checkpointed_frames{{{JOBS}}} 10
sqlite_write_lock_busy_ratio{{{JOBS}}} 0.2
sqlite_queue_tasks_capped{{{MAIL},state="waiting"}} 0
sqlite_queue_oldest_stale_lease_age_seconds{{{MAIL}}} 0
sqlite_queue_enqueued_total{{{JOBS}}} 100
"""

# Everything is wrong: each alert has a reason.
WRONG: Mapping[str, str] = {
    "queuekeeper_config_last_reload_successful": "0",
    "queuekeeper_paused": "1",
    f"queuekeeper_poll_last_success_timestamp_seconds{{{JOBS}}}": "HOUR_AGO",
    f'queuekeeper_collector_success{{{JOBS},collector="tasks"}}': "0",
    f"queuekeeper_action_started_timestamp_seconds{{{BACKUP}}}": "DAY_AGO",
    f"queuekeeper_action_last_success_timestamp_seconds{{{BACKUP}}}": "DAY_AGO",
    f"queuekeeper_action_last_success_timestamp_seconds{{{DRILL}}}": "DAY_AGO",
    f'queuekeeper_remediation_suspended{{{JOBS},action="checkpoint"}}': "1",
    f'queuekeeper_schedule_missed_total{{{JOBS},schedule="daily-backup"}}': "1",
    "queuekeeper_state_writable": "0",
    'queuekeeper_webhook_requests_total{code="401"}': "4",
    f"sqlite_up{{{JOBS}}}": "0",
    f"sqlite_fragmentation_ratio{{{JOBS}}}": "0.9",
    f"sqlite_content_lost_ratio{{{JOBS}}}": "0.9",
    f"sqlite_free_pages{{{JOBS}}}": "1e6",
    f'sqlite_queue_tasks{{{MAIL},state="failed"}}': "50",
    f'sqlite_queue_workers{{{JOBS},state="alive"}}': "0",
    f'sqlite_queue_workers{{{JOBS},state="stale"}}': "2",
    f"sqlite_queue_head_unchanged_seconds{{{MAIL}}}": "7200",
    f"sqlite_queue_sequence_regressions_total{{{JOBS}}}": "1",
    f'sqlite_backups{{{JOBS},state="failed"}}': "1",
    f"sqlite_restore_drill_last_success_timestamp_seconds{{{JOBS}}}": "MONTH_AGO",
    f"sqlite_restore_drill_last_success_timestamp_seconds{{{OTHER}}}": "GONE",
    f"sqlite_integrity_ok{{{CHECKED}}}": "0",
    f"sqlite_owner_wal_reset_vulnerable{{{JOBS}}}": "1",
    f"sqlite_wal_backlog_bytes{{{JOBS}}}": "1e9",
    f'sqlite_wal_state{{{JOBS},state="reset_starved"}}': "1",
    f'sqlite_wal_pinned_seconds{{{JOBS},command="python3"}}': "7200",
    f'sqlite_disk_free_bytes{{{JOBS},role="database"}}': "1e6",
    f"sqlite_queue_oldest_waiting_age_seconds{{{MAIL}}}": "7200",
    f"sqlite_queue_stale_leases{{{MAIL}}}": "2",
    f"sqlite_backup_age_seconds{{{JOBS}}}": "1e6",
    f'sqlite_backups{{{JOBS},state="verified"}}': "0",
}


@dataclass(slots=True)
class Page:
    """What is served now; `address` is the server's `host:port`. `values` replace those of HEALTHY."""

    address: str
    values: Mapping[str, str] = field(default_factory=dict)

    def text(self, now: float) -> str:
        """The page at `now`. Raises KeyError when a value is for a series that the page does not have."""
        lines = dict(line.rsplit(" ", 1) for line in HEALTHY.splitlines())
        unknown = set(self.values) - set(lines)
        if unknown:
            raise KeyError(f"not on the page: {sorted(unknown)}")
        times = {"NOW": now, "HOUR_AGO": now - 3600, "DAY_AGO": now - 86400, "MONTH_AGO": now - 30 * 86400}
        rows = ((name, {**lines, **self.values}[name]) for name in lines)
        return "".join(f"{name} {times.get(value, value)}\n" for name, value in rows if value != "GONE")


@contextmanager
def served() -> Iterator[Page]:
    """The page on a free port of loopback; its values can be changed while it is served."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page.text(time.time()).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        page = Page(f"127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield page
        finally:
            server.shutdown()
            thread.join()
