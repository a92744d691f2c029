"""The demo's other files, matched by a glob: a queue of another system, and a file that is no database.

The tables are those of Laravel's `database` queue driver, as its migrations create them, with the journal mode that a
new application has.
"""

import time
from pathlib import Path

import apsw

_JOBS = """
CREATE TABLE jobs (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, queue VARCHAR NOT NULL, payload TEXT NOT NULL, attempts INTEGER NOT NULL,
  reserved_at INTEGER, available_at INTEGER NOT NULL, created_at INTEGER NOT NULL
);
CREATE INDEX jobs_queue_index ON jobs (queue);
CREATE TABLE failed_jobs (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, uuid VARCHAR NOT NULL, connection TEXT NOT NULL, queue TEXT NOT NULL,
  payload TEXT NOT NULL, exception TEXT NOT NULL, failed_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP
);
"""
WAITING = 4


def create_other_files(folder: Path) -> None:
    """Create `mail.sqlite` with WAITING waiting jobs, and `notes.sqlite`, which is a text file."""
    folder.mkdir()
    _create_laravel_queue(folder / "mail.sqlite", time.time())
    (folder / "notes.sqlite").write_text("minutes of a meeting, in a file with the wrong name\n" * 20, "utf-8")


def _create_laravel_queue(path: Path, now: float) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(_JOBS)
    with connection:
        for number in range(WAITING):
            values = ("mails", "{}", int(now) - number, int(now) - number)
            connection.execute(
                "INSERT INTO jobs (queue, payload, attempts, available_at, created_at) VALUES (?, ?, 0, ?, ?)", values
            )
    connection.close()
