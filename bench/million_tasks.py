"""A million tasks requeued or purged beside a live writer: by our action, and by the one statement of a script.

    python bench/million_tasks.py [requeue|purge ...] [--rows 2000000] [--taken 1000000] [--interval 2] [--scattered]

So many tasks in PrismQ's table, of which so many are stale (or finished long ago); a writer commits every `--interval` ms,
waits up to 5 s for the lock, and leaves SQLite's autocheckpoint on. Control: the writer alone, for as long as ours
took. One statement: UPDATE or DELETE in a transaction of its own. Ours: the action, through the runner. By default tasks lie
in the table in the order in which they are due, as an application makes them; `--scattered` gives them random priorities
and times, the worst case: then each row dirties index pages of its own.

Bounds: our holds of the write lock 50 ms in 99.9 % (by our own log, and by samples of the kernel's lock table), the
writer's longest commit max(60 ms, 2 x control), no "locked" error, WAL growth within limits.wal_growth, at most twice
the time of the one statement.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
from processes import percentile

from collectors.target import Limits
from tests.support.scenes import prismq
from tests.support.scenes.run_actions import by_hand, target_of

LONGEST_HOLD, LONGEST_STALL, TIMES = 0.050, 0.060, 2.0
DAY = 86400.0
STATUS = {"requeue": "leased", "purge": "completed"}
STATEMENT = {
    "requeue": "UPDATE task_queue SET status = 'queued', attempts = attempts + 1, locked_by = NULL, lease_until_utc = NULL, "
    "reserved_at_utc = NULL, processing_started_utc = NULL, updated_at_utc = datetime('now') "
    "WHERE status IN ('leased', 'processing') AND lease_until_utc < datetime('now', '-60 seconds')",
    "purge": "DELETE FROM task_queue WHERE status = 'completed' AND finished_at_utc < datetime('now', '-7 days')",
}
WRITER = """
import apsw, json, select, sys, time
path, interval = sys.argv[1], float(sys.argv[2]) / 1000
c = apsw.Connection(path); c.set_busy_timeout(5000); c.pragma("synchronous", "normal")
waits, locked, due = [], 0, time.monotonic()
print("ready", flush=True)
while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
    started = time.monotonic()
    try:
        c.execute("BEGIN IMMEDIATE; INSERT INTO task_queue (type) VALUES ('live'); COMMIT")
    except apsw.BusyError:
        locked += 1
    ended = time.monotonic()
    waits.append(ended - started)
    due = max(due + interval, ended)
print(json.dumps([waits, locked]), flush=True)
"""
# Who holds byte 120 of the WAL-index, the write lock, when it is not the writer: lengths in seconds.
SAMPLER = """
import json, os, select, sys, time
inode, writer = f":{os.stat(sys.argv[1] + '-shm').st_ino} ", sys.argv[2]
holds, since, holder = [], 0.0, None
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.003)[0]:
    with open("/proc/locks") as table:
        rows = [row.split() for row in table if inode in row]
    now = time.monotonic()
    who = next((row[4] for row in rows if row[3] == "WRITE" and row[4] != writer and int(row[6]) <= 120 <= int(row[7])), None)
    if who != holder and holder is not None:
        holds.append(now - since)
    if who != holder:
        holder, since = who, now
print(json.dumps(holds), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Felt:
    """What one method cost the writer, in seconds and bytes. `holds`: of the write lock by other processes, sampled."""

    seconds: float
    waits: list[float]
    locked: int
    wal_growth: int
    holds: list[float]
    told: Any


def main() -> None:
    """Print the figures of each action, and which bounds are kept."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("actions", nargs="*", default=["requeue", "purge"], metavar="requeue|purge")
    arguments.add_argument("--rows", type=int, default=2_000_000)
    arguments.add_argument("--taken", type=int, default=1_000_000)
    arguments.add_argument("--interval", type=float, default=2.0)
    arguments.add_argument("--scattered", action="store_true")
    given = arguments.parse_args()
    for action in given.actions:
        with tempfile.TemporaryDirectory() as folder:
            template = Path(folder) / "template.db"
            make(template, STATUS[action], given.rows, given.taken, scattered=given.scattered)
            compare(action, template, given.interval)


def make(path: Path, status: str, rows: int, taken: int, *, scattered: bool) -> None:
    """A queue in which every so manieth task has this status, since long ago."""
    queue, now, draw = prismq.create(path), time.time(), random.Random(1)
    columns = "type, priority, payload, status, run_after_utc, lease_until_utc, finished_at_utc, locked_by"

    def tasks() -> Iterator[tuple[object, ...]]:
        for number in range(rows):
            chosen = number * taken // rows != (number + 1) * taken // rows
            at = prismq.stamp(now - 10 * DAY - (draw.random() if scattered else 1 - number / rows) * DAY)
            ended = at if chosen else None
            priority = draw.randrange(1, 200) if scattered else (100, 100, 100, 10, 200)[number % 5]
            payload = json.dumps({"format": "json", "number": number, "text": "word " * 40})
            worker = f"worker-{number % 16}" if chosen else None
            yield f"kind{number % 8}", priority, payload, status if chosen else "queued", at, ended, ended, worker

    queue.owner.pragma("cache_size", -200_000)
    with queue.owner:
        queue.owner.executemany(f"INSERT INTO task_queue ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", tasks())
    queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    queue.owner.close()


def compare(action: str, template: Path, interval: float) -> None:
    """Each method on its own copy."""
    budget = Limits().wal_growth(template.stat().st_size)
    ours = felt(template, interval, lambda path: by_hand(target_of(path), action))
    print(f"{action}: {ours.told.message}")
    print(f"  {dict(ours.told.figures)}")
    control = felt(template, interval, lambda _path: time.sleep(ours.seconds))
    one = felt(template, interval, lambda path: statement(path, STATEMENT[action]))
    for name, found in (("control", control), ("one statement", one), ("ours", ours)):
        waits, holds = found.waits, found.holds or [0.0]
        print(
            f"  {name:14} {found.seconds:6.1f} s  commits {len(waits):6d}  p50 {percentile(waits, 0.5) * 1e3:7.2f} ms  "
            f"p99.9 {percentile(waits, 0.999) * 1e3:7.1f}  longest {max(waits) * 1e3:7.1f}  locked {found.locked}  "
            f"WAL +{found.wal_growth / 2**20:.0f} MiB  sampled holds p99.9 {percentile(holds, 0.999) * 1e3:.1f} ms"
        )
    stall = max(LONGEST_STALL, 2 * max(control.waits))
    bound("holds by our log, p99.9", float(ours.told.figures["p999_hold_seconds"]), LONGEST_HOLD)
    bound("holds by samples, p99.9", percentile(ours.holds, 0.999), LONGEST_HOLD)
    bound("writer's longest commit", max(ours.waits), stall)
    bound("locked errors", ours.locked, 0)
    bound("WAL growth, MiB", ours.wal_growth / 2**20, budget / 2**20)
    bound("times the one statement", ours.seconds / one.seconds, TIMES)


def bound(name: str, found: float, most: float) -> None:
    """One line."""
    print(f"  {name:26} {found:8.3f} of {most:8.3f}: {'kept' if found <= most else 'EXCEEDED'}")


def statement(path: Path, sql: str) -> int:
    """What a script does, with SQLite's own settings."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(30_000)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(sql)
    changed = connection.changes()
    connection.execute("COMMIT")
    connection.close()
    return changed


def felt(template: Path, interval: float, method: Callable[[Path], Any]) -> Felt:
    """Run a method on a copy, beside the writer and the sampler."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "q.db"
        shutil.copyfile(template, path)
        writer = process(WRITER, path, interval)
        time.sleep(1)
        sampler = process(SAMPLER, path, writer.pid)
        wal = Path(f"{path}-wal")
        before, started = wal.stat().st_size, time.monotonic()
        told = method(path)
        seconds, grown = time.monotonic() - started, wal.stat().st_size - before
        holds = answer(sampler)
        waits, locked = answer(writer)
    return Felt(seconds, waits, locked, max(0, grown), holds, told)


def process(script: str, path: Path, argument: object) -> "subprocess.Popen[str]":
    """A script that says `ready`, and its answer when its input ends."""
    command = [sys.executable, "-c", script, str(path), str(argument)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    return child


def answer(child: "subprocess.Popen[str]") -> Any:
    """End it; what it found."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.close()
    found = json.loads(child.stdout.readline())
    child.wait()
    return found


if __name__ == "__main__":
    main()
