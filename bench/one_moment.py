"""Do the values of one poll belong to one moment, and how long does a poll hold its read transaction?

Two writers, each beside its own run of polls:

* one frees and uses pages: in how many polls is sqlite_fragmentation_ratio not sqlite_free_pages / sqlite_pages?
* one flips all of 500 tasks between two states every millisecond: in how many polls is their sum not 500?

A hold is the time from a statement's first step, outside a transaction, to its end, or from the first read of a
transaction to its commit (SQLite's own trace). It pins the WAL, or stops the commits of a rollback-journal database.

With --threads the process that polls has so many more Python threads that compute all the time, which delays each of its
steps. Then nothing writes, the limits are the default ones, and holds are seen from outside: another process asks the kernel
about every 0.1 ms whether a reader has a lock (F_OFD_GETLK), as SQLite's trace would itself wait for the threads.
The script runs on older trees too: copy it into a worktree of the commit to compare with.

    python bench/one_moment.py [--polls 400] [--tasks 500] [--journal wal|delete] [--threads N]
"""

import argparse
import fcntl
import os
import select
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
from processes import percentile

from collectors.target import Limits, Target
from exporter.demo.queue import SCHEMA

try:
    from collectors.poll import poll_database
    from collectors.raw_reader.client import RawReader
except ImportError:  # a tree of before
    from collectors.raw_reader.ask import RawReader

    from collectors.poll import take as poll_database

USE_PAGES = "INSERT INTO ballast (bytes) VALUES (zeroblob(40000))"
FREE_PAGES = "DELETE FROM ballast WHERE id % 2 = (SELECT max(id) % 2 FROM ballast)"
FLIP = "UPDATE task_queue SET status = iif(status = 'queued', 'completed', 'queued')"
NO_READ = ("BEGIN", "COMMIT", "END", "ROLLBACK", "PRAGMA WAL_CHECKPOINT", "PRAGMA BUSY_TIMEOUT")
NO_READ += ("PRAGMA TEMP_STORE", "CREATE TEMP", "SELECT * FROM TEMP.")
SAMPLE_PAUSE = 0.00005
PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}


@dataclass
class Holds:
    """How long each poll held a read lock: nanoseconds of each hold, of the poll that runs."""

    of_poll: list[int] = field(default_factory=list)
    since: int | None = None
    explicit: bool = False
    statement: int = 0

    def note_event(self, event: dict[str, Any]) -> None:
        """One event of SQLite's trace."""
        now = time.perf_counter_ns()
        sql = str(event.get("sql") or "").upper()
        if event["code"] == apsw.SQLITE_TRACE_STMT:
            self.explicit = self.explicit or sql.startswith("BEGIN")
            if self.since is None and not sql.startswith(NO_READ):
                self.since, self.statement = now, event["id"]
        elif sql.startswith(("COMMIT", "END", "ROLLBACK")):
            self.explicit = False
            self.end_hold(now)
        elif not self.explicit and event["id"] == self.statement:  # not that of a pragma's table inside it
            self.end_hold(now)

    def end_hold(self, now: int) -> None:
        """Note that the lock is released."""
        if self.since is not None:
            self.of_poll.append(now - self.since)
        self.since = None

    def watch_connection(self, connection: apsw.Connection) -> None:
        """Trace every connection that a poll opens."""
        self.explicit, self.since = False, None
        connection.trace_v2(apsw.SQLITE_TRACE_STMT | apsw.SQLITE_TRACE_PROFILE, self.note_event)


def main() -> None:
    arguments = _arguments()
    if arguments.write is not None:
        _write(arguments.write, arguments.what)
        return
    if arguments.watch is not None:
        _watch_lock(arguments.watch)
        return
    with tempfile.TemporaryDirectory(prefix="queuekeeper-bench-") as folder, RawReader() as raw:
        if arguments.threads is not None:
            _report_with_threads(Path(folder) / "threads.db", raw, arguments)
            return
        _report("pages", Path(folder) / "pages.db", raw, arguments, _ratio_differs)
        _report("tasks", Path(folder) / "tasks.db", raw, arguments, _sum_of_tasks)


def _report(
    what: str, path: Path, raw: RawReader, arguments: argparse.Namespace, verdict: Callable[[Any], object]
) -> None:
    _make(path, arguments)
    target = Target("jobs", path, limits=Limits(read_wal=30, read_rollback=30))
    verdicts: Counter[object] = Counter()
    longest, total = [], []
    failed = 0
    holds = Holds()
    with _writer(path, what):
        snapshot = poll_database(target, None, time.time(), raw)
        apsw.connection_hooks.append(holds.watch_connection)
        for _ in range(arguments.polls):
            holds.of_poll.clear()
            snapshot = poll_database(target, snapshot, time.time(), raw)
            holds.end_hold(time.perf_counter_ns())
            failed += not snapshot.up or any(not result.success for result in snapshot.collectors.values())
            verdicts[verdict({(s.metric.name, *s.labels): s.value for s in snapshot.samples})] += 1
            longest.append(max(holds.of_poll, default=0) / 1e6)
            total.append(sum(holds.of_poll) / 1e6)
            time.sleep(0.005)
        apsw.connection_hooks.clear()
    counts = ", ".join(f"{number} x {value}" for value, number in sorted(verdicts.items(), key=str))
    print(f"{what}: {arguments.polls} polls ({failed} with a failed collector): {counts}")
    for name, numbers in (("longest hold of a poll", longest), ("all holds of a poll", total)):
        p50, p99 = percentile(numbers, 0.5), percentile(numbers, 0.99)
        print(f"  {name}, ms: p50 {p50:.2f}, p99 {p99:.2f}, max {max(numbers):.2f}")


def _report_with_threads(path: Path, raw: RawReader, arguments: argparse.Namespace) -> None:
    _make(path, arguments)
    owner = apsw.Connection(str(path))
    owner.execute("SELECT count(*) FROM task_queue").fetchall()
    target = Target("jobs", path)
    stop = threading.Event()
    for _ in range(arguments.threads):
        threading.Thread(target=_compute, args=(stop,), daemon=True).start()
    snapshot = poll_database(target, None, time.time(), raw)
    polls, failed = [], 0
    with subprocess.Popen([sys.executable, __file__, "--watch", str(path)], **PIPES) as watcher:
        watcher.stdout.readline()
        for _ in range(arguments.polls):
            time.sleep(0.002)
            started = time.monotonic()
            snapshot = poll_database(target, snapshot, time.time(), raw)
            polls.append((started, time.monotonic()))
            failed += any(not result.success for result in snapshot.collectors.values())
        stop.set()
        lines, _ = watcher.communicate()
    holds = [tuple(map(float, line.split())) for line in lines.splitlines()]
    longest = [max((e - s for s, e in holds if began <= s <= ended), default=0.0) * 1000 for began, ended in polls]
    total = [sum(e - s for s, e in holds if began <= s <= ended) * 1000 for began, ended in polls]
    print(f"{arguments.threads} threads: {arguments.polls} polls ({failed} with a failed collector)")
    for name, numbers in (("longest hold of a poll", longest), ("all holds of a poll", total)):
        p50, p90 = percentile(numbers, 0.5), percentile(numbers, 0.9)
        print(f"  {name}, ms: p50 {p50:.2f}, p90 {p90:.2f}, max {max(numbers):.2f}")


def _compute(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(1000))


def _watch_lock(path: Path) -> None:
    """Print the begin and the end (monotonic seconds) of each time in which a reader had its lock, when the input ends."""
    shm = Path(f"{path}-shm")
    first, length = (123, 5) if shm.exists() else (0x40000000 + 2, 510)
    descriptor = os.open(shm if shm.exists() else path, os.O_RDWR)
    question = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, first, length, 0)
    print("ready", flush=True)
    holds, since = [], None
    while not select.select([sys.stdin], [], [], 0)[0]:
        held = struct.unpack("hhqqi4x", fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, question))[0] != fcntl.F_UNLCK
        now = time.monotonic()
        if held and since is None:
            since = now
        elif not held and since is not None:
            holds.append((since, now))
            since = None
        time.sleep(SAMPLE_PAUSE)
    print("\n".join(f"{start} {end}" for start, end in holds))


def _ratio_differs(values: dict[tuple[str, ...], Any]) -> object:
    try:
        ratio, pages = values["sqlite_fragmentation_ratio",], values["sqlite_pages",]
        return "ratio = free / pages" if ratio == values["sqlite_free_pages",] / pages else "ratio differs"
    except KeyError:
        return "no value"


def _sum_of_tasks(values: dict[tuple[str, ...], Any]) -> object:
    return f"sum {sum(value for labels, value in values.items() if labels[0] == 'sqlite_queue_tasks'):.0f}"


def _make(path: Path, arguments: argparse.Namespace) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(f"PRAGMA journal_mode = {arguments.journal}")
    connection.execute(SCHEMA)
    connection.execute("CREATE TABLE ballast (id INTEGER PRIMARY KEY, bytes)")
    with connection:
        connection.executemany(
            "INSERT INTO task_queue (type, payload) VALUES ('mail', ?)", (("{}",) for _ in range(arguments.tasks))
        )
        connection.executemany(USE_PAGES, (() for _ in range(40)))
    connection.close()


@contextmanager
def _writer(path: Path, what: str) -> Iterator[None]:
    command = [sys.executable, __file__, "--write", str(path), "--what", what]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        if child.stdout is None or child.stdout.readline() != b"ready\n":
            raise SystemExit("the writer did not start")
        yield
    finally:
        child.kill()
        child.wait()


def _write(path: Path, what: str) -> None:
    """Commit, pause for a millisecond, and repeat until killed."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(60_000)
    connection.execute("PRAGMA synchronous = OFF")
    statements = (FLIP,) if what == "tasks" else (USE_PAGES, FREE_PAGES)
    connection.execute(statements[0])
    print("ready", flush=True)
    while True:
        for sql in statements:
            connection.execute(sql)
            time.sleep(0.001)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--polls", type=int, default=400)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--journal", choices=("wal", "delete"), default="wal")
    parser.add_argument("--threads", type=int, help="Python threads that compute in the process that polls")
    parser.add_argument("--watch", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--what", choices=("pages", "tasks"), default="pages", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
