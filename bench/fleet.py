"""Many queues of an application: `python bench/fleet.py DIR N [wal|delete]` makes them, `... DIR N own [FIRST]` keeps N open.

The owner is a process of its own, as an application is: it holds a connection to each database, from number FIRST on, and
commits to as many as each line of its input says, going round; it answers with `ready`. A connection takes three open
files: more databases than the system lets one process have need several owners.
"""

import resource
import shutil
import sys
import time
from pathlib import Path

import apsw

from exporter.demo.queue import SCHEMA

_PUT = (
    "INSERT INTO task_queue (type, payload, status, lease_until_utc) VALUES ('mail', ?, ?, datetime('now', '+1 hour'))"
)
TASKS = 200
RUNNING_EVERY = 10  # one database in ten has tasks that run now


def make(folder: Path, number: int, journal: str = "wal") -> None:
    """`number` databases q00000.db ... of TASKS tasks each."""
    folder.mkdir(parents=True, exist_ok=True)
    quiet, busy = folder / "quiet.template", folder / "busy.template"
    _template(quiet, journal, 0)
    _template(busy, journal, 20)
    for index in range(number):
        shutil.copyfile(quiet if index % RUNNING_EVERY else busy, folder / f"q{index:05d}.db")
    quiet.unlink()
    busy.unlink()


def own(folder: Path, number: int, first: int) -> None:
    """Keep databases open, and commit to as many of them as asked, until the input ends."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    files = sorted(folder.glob("q*.db"))[first : first + number]
    kept = [_open(path) for path in files]
    print("ready", flush=True)
    at = 0
    for line in sys.stdin:
        for _ in range(int(line)):
            kept[at % len(kept)].execute("UPDATE task_queue SET priority = priority + 1 WHERE id = 1")
            at += 1
        print("ready", flush=True)


def _open(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("UPDATE task_queue SET priority = 1 WHERE id = 1")
    return connection


def _template(path: Path, journal: str, running: int) -> None:
    path.unlink(missing_ok=True)
    connection = apsw.Connection(str(path))
    connection.execute(f"PRAGMA journal_mode = {journal}").fetchall()
    connection.execute(SCHEMA)
    states = ["leased"] * running + ["queued"] * (100 - running) + ["completed"] * 90 + ["dead_letter"] * 10
    with connection:
        connection.executemany(_PUT, [("x" * 200, state) for state in states])
    connection.close()


if __name__ == "__main__":
    started = time.monotonic()
    where, count, what = Path(sys.argv[1]), int(sys.argv[2]), (sys.argv[3:] or ["wal"])[0]
    if what == "own":
        own(where, count, int((sys.argv[4:] or ["0"])[0]))
    else:
        make(where, count, what)
        print(f"{count} databases in {time.monotonic() - started:.1f} s")
