"""A queue with the PrismQ layout, made with apsw, and processes that use one: what the tests look at and act upon.

The pytest process must never open a live database or its -shm with plain file I/O: that would drop SQLite's locks.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

HERE = Path(__file__).parent.parent / "processes"
SCHEMA = """
CREATE TABLE task_queue (
  id INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT NOT NULL, priority INTEGER NOT NULL DEFAULT 100,
  payload TEXT NOT NULL DEFAULT '{}', compatibility TEXT NOT NULL DEFAULT '{}',
  status TEXT NOT NULL DEFAULT 'queued', attempts INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL DEFAULT 5,
  run_after_utc DATETIME NOT NULL DEFAULT (datetime('now')), lease_until_utc DATETIME, reserved_at_utc DATETIME,
  processing_started_utc DATETIME, finished_at_utc DATETIME, locked_by TEXT, error_message TEXT, idempotency_key TEXT,
  created_at_utc DATETIME NOT NULL DEFAULT (datetime('now')),
  updated_at_utc DATETIME NOT NULL DEFAULT (datetime('now')),
  region TEXT GENERATED ALWAYS AS (json_extract(compatibility,'$.region')) VIRTUAL,
  format TEXT GENERATED ALWAYS AS (json_extract(payload,'$.format')) VIRTUAL);
CREATE TABLE workers (worker_id TEXT PRIMARY KEY, capabilities TEXT NOT NULL,
  heartbeat_utc DATETIME NOT NULL DEFAULT (datetime('now')));
CREATE TABLE task_logs (log_id INTEGER PRIMARY KEY AUTOINCREMENT, task_id INTEGER NOT NULL,
  at_utc DATETIME NOT NULL DEFAULT (datetime('now')), level TEXT NOT NULL, message TEXT, details TEXT,
  FOREIGN KEY(task_id) REFERENCES task_queue(id));
CREATE INDEX ix_task_status_prio_time ON task_queue(status, priority, run_after_utc, id);
CREATE INDEX ix_task_type_status ON task_queue(type, status);
CREATE INDEX ix_task_region ON task_queue(region);
CREATE INDEX ix_task_format ON task_queue(format);
CREATE UNIQUE INDEX uq_task_idempotency ON task_queue(idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX ix_logs_task ON task_logs(task_id, at_utc);
"""
ENDED = ("completed", "failed", "dead_letter")


def stamp(moment: float) -> str:
    """A moment (seconds since the epoch) as the queue writes it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment))


@dataclass
class Queue:
    """A queue and its owner's connection, which stays open as an application's does."""

    path: Path
    owner: apsw.Connection

    def put(self, status: str = "queued", number: int = 1, **columns: Any) -> None:
        """Insert `number` equal tasks; any column can be given."""
        row = {"type": "mail", "status": status, **columns}
        names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
        with self.owner:
            for _ in range(number):
                self.owner.execute(f"INSERT INTO task_queue ({names}) VALUES ({marks})", row)

    def leased(self, until: float, number: int = 1, status: str = "leased", **columns: Any) -> None:
        """Insert running tasks whose lease ends at `until` (seconds since the epoch)."""
        lease = {"lease_until_utc": stamp(until), "reserved_at_utc": stamp(until - 300), "locked_by": "worker-1"}
        self.put(status, number, **{**lease, **columns})

    def value(self, sql: str, *bindings: Any) -> Any:
        """One value by SQL, on the owner's connection."""
        return self.owner.execute(sql, bindings).get

    def fill_wal(self, frames: int = 1200) -> None:
        """Commit at least so many frames without any checkpoint."""
        self.owner.wal_autocheckpoint(0)
        page = self.value("PRAGMA page_size")
        with self.owner:
            self.owner.execute("CREATE TABLE IF NOT EXISTS ballast (bytes)")
            self.owner.execute("INSERT INTO ballast VALUES (zeroblob(?))", (frames * page,))


def create(path: Path, journal_mode: str = "wal", page_size: int = 4096) -> Queue:
    """A new queue with an open owner."""
    owner = apsw.Connection(str(path))
    owner.pragma("page_size", page_size)
    owner.pragma("journal_mode", journal_mode)
    owner.pragma("synchronous", "off")
    for _ in owner.execute(SCHEMA):
        pass
    return Queue(path, owner)


@contextmanager
def process(script: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A script of this directory in a process of its own, once it says `ready`; it ends when its input does."""
    child = subprocess.Popen(
        [sys.executable, str(HERE / script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        line = child.stdout.readline()
        try:
            assert line == "ready\n", f"{script} said {line!r}"
            yield child
        finally:
            child.kill()
