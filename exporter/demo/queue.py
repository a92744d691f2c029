"""The demo's queue: PrismQ's tables, as an application would create them."""

from pathlib import Path

import apsw

from collectors.access.connection import open_read_only

SCHEMA = """
CREATE TABLE task_queue (
  id INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT NOT NULL, priority INTEGER NOT NULL DEFAULT 100, payload TEXT NOT NULL,
  compatibility TEXT NOT NULL DEFAULT '{}', status TEXT NOT NULL DEFAULT 'queued',
  attempts INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL DEFAULT 5,
  run_after_utc DATETIME NOT NULL DEFAULT (datetime('now')), lease_until_utc DATETIME, reserved_at_utc DATETIME,
  processing_started_utc DATETIME, finished_at_utc DATETIME, locked_by TEXT, error_message TEXT, idempotency_key TEXT,
  created_at_utc DATETIME NOT NULL DEFAULT (datetime('now')), updated_at_utc DATETIME NOT NULL DEFAULT (datetime('now'))
);
CREATE INDEX ix_task_status_prio_time ON task_queue (status, priority, run_after_utc, id);
CREATE INDEX ix_task_type_status ON task_queue (type, status);
CREATE UNIQUE INDEX uq_task_idempotency ON task_queue (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE TABLE workers (
  worker_id TEXT PRIMARY KEY, capabilities TEXT NOT NULL, heartbeat_utc DATETIME NOT NULL DEFAULT (datetime('now'))
);
CREATE TABLE task_logs (
  log_id INTEGER PRIMARY KEY AUTOINCREMENT, task_id INTEGER NOT NULL REFERENCES task_queue (id),
  at_utc DATETIME NOT NULL DEFAULT (datetime('now')), level TEXT NOT NULL, message TEXT NOT NULL, details TEXT
);
"""


# Finished tasks of last month that were never deleted, and the bytes of one.
OLD_TASKS, OLD_TASK_BYTES = 2500, 3000


def create_queue(path: Path) -> None:
    """Create a queue in WAL mode that has been in use for a while; `auto_vacuum` allows an incremental vacuum."""
    connection = open_application_connection(path, create=True)
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL").fetchall()
    connection.execute(SCHEMA)
    with connection:
        connection.executemany(
            "INSERT INTO task_queue (type, payload, status, finished_at_utc) "
            "VALUES ('report', ?, 'completed', datetime('now', '-30 days'))",
            [("x" * OLD_TASK_BYTES,)] * OLD_TASKS,
        )
    connection.close()


def count_completed(path: Path) -> int:
    """Count the tasks that the workers have completed since the demo began."""
    with open_read_only(path) as connection:
        sql = (
            "SELECT count(*) FROM task_queue WHERE status = 'completed' AND finished_at_utc > datetime('now', '-1 day')"
        )
        return int(connection.execute(sql).get)


def open_application_connection(path: Path, *, create: bool = False) -> apsw.Connection:
    """Open a connection of the application, with the mistake that the demo heals: it never checkpoints."""
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
    connection = apsw.Connection(str(path), flags=flags)
    connection.set_busy_timeout(5000)
    connection.wal_autocheckpoint(0)
    connection.transaction_mode = "IMMEDIATE"
    return connection
