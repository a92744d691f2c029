"""How much do vacuum, statistics and integrity checks slow a writer? Its commits during each, and without any.

    python bench/maintenance.py [--mib 256] [--rounds 3] [--interval 2]

A writer commits every `--interval` ms to a WAL database of that size, two thirds of which are free pages or, for the checks
and the statistics, none. Before each action the same writer is measured for as long without one: the control. Printed are
the 99th percentile and the longest of its commits, medians over the rounds, how long the action took, and the longest time
that we held the write lock (incremental vacuum, statistics) or a read of the live file (checks). A full VACUUM stops the
writer: its line shows for how long, and the live bytes a second that a plan predicts with.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
from harmless import WRITER, p99, waits_of

from actions.maintenance.vacuum_incremental import free_pages_in_batches
from actions.sqlite.connection import open_writable
from collectors.raw_reader.client import RawReader
from tests.support.scenes import prismq
from tests.support.scenes.run_actions import by_hand, target_of
from tests.support.scenes.run_in_process import work_on

BATCH_HOLD, TWICE = 0.015, 2.0
MIB = 1024 * 1024
# What is asked for, and the figure that tells how long we held what the writer or a checkpoint needs.
ACTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "vacuum in batches": ("vacuum", {"incremental": True}, "longest_hold_seconds"),
    "vacuum, full": ("vacuum", {}, "seconds"),
    "analyze": ("analyze", {}, "longest_hold_seconds"),
    "integrity, quick": ("integrity", {"longest_read": 600.0}, "longest_read_seconds"),
    "integrity, full": ("integrity", {"full": True, "longest_read": 600.0}, "longest_read_seconds"),
}


@dataclass(frozen=True)
class Felt:
    """One round: the writer's commits without us and beside us, in seconds; how long we took, and held at most."""

    without: list[float]
    beside: list[float]
    seconds: float
    held: float


def main() -> None:
    """Print a line for each action, and what was kept."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--mib", type=int, default=256)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--interval", type=float, default=2.0)
    given = arguments.parse_args()
    print(f"{given.mib} MiB; medians of {given.rounds} rounds; ms but for the whole")
    print(
        f"{'action':18} {'p99 without':>12} {'beside':>8} {'longest without':>16} {'beside':>8} {'we held':>8} {'whole s':>8}"
    )
    found = {name: [one(name, given.mib, given.interval) for _ in range(given.rounds)] for name in ACTIONS}
    for name, rounds in found.items():
        print(line(name, rounds))
    judge(found, given.mib)
    every_batch(given.mib, given.interval)


def one(name: str, mib: int, interval: float) -> Felt:
    """One action on a database of its own."""
    action, options, figure = ACTIONS[name]
    folder = Path(tempfile.mkdtemp())
    try:
        owner = create(folder / "queue.db", mib, free=action == "vacuum", incremental=bool(options.get("incremental")))
        with writing(folder / "queue.db", interval) as writer:
            time.sleep(0.5)
            waits_of(writer)
            time.sleep(2.0)
            without = waits_of(writer)
            run = by_hand(target_of(folder / "queue.db", owner_sqlite="3.51.3"), action, **options)
            beside = waits_of(writer)
        assert run.outcome == "done", run.message
        assert run.started_at is not None
        assert run.ended_at is not None
        owner.close()
        return Felt(without, beside, run.ended_at - run.started_at, float(run.figures[figure] or 0.0))
    finally:
        shutil.rmtree(folder)


def create(path: Path, mib: int, *, free: bool, incremental: bool) -> apsw.Connection:
    """A queue, and beside it a table of the size asked for; two rows of three are deleted where pages are to be free."""
    queue = prismq.create(path)
    queue.owner.pragma("auto_vacuum", 2 if incremental else 0)
    queue.owner.execute("VACUUM")
    queue.put(number=1000)
    queue.owner.execute(
        "CREATE TABLE entry (id INTEGER PRIMARY KEY, kind TEXT, body BLOB); CREATE INDEX entry_kind ON entry (kind)"
    ).fetchall()
    queue.owner.execute(
        "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < ?) INSERT INTO entry (kind, body)"
        " SELECT 'kind' || (i % 7), randomblob(1000) FROM s",
        (mib * MIB // 1100,),
    )
    if free:
        queue.owner.execute("DELETE FROM entry WHERE id % 300 < 200")
    queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return queue.owner


def line(name: str, rounds: list[Felt]) -> str:
    """Medians, in milliseconds but for the whole."""
    without, beside = (statistics.median(p99(w) for w in waits) * 1000 for waits in columns(rounds))
    longest, beside_longest = (statistics.median(max(w) for w in waits) * 1000 for waits in columns(rounds))
    held = max(one.held for one in rounds) * 1000
    whole = statistics.median(one.seconds for one in rounds)
    return f"{name:18} {without:12.2f} {beside:8.2f} {longest:16.1f} {beside_longest:8.1f} {held:8.1f} {whole:8.2f}"


def columns(rounds: list[Felt]) -> tuple[list[list[float]], list[list[float]]]:
    """The writer's commits of every round, without us and beside us."""
    return [one.without for one in rounds], [one.beside for one in rounds]


def judge(found: dict[str, list[Felt]], mib: int) -> None:
    """What was promised, and whether it was kept."""
    for name in ("integrity, quick", "integrity, full"):
        without, beside = (statistics.median(p99(w) for w in waits) for waits in columns(found[name]))
        ratio = beside / without
        print(f"{name}: the writer's p99 is {ratio:.2f} x the control's, {TWICE:.0f} x allowed: {kept(ratio <= TWICE)}")
    rate = mib * MIB / 3 / statistics.median(one.held for one in found["vacuum, full"])
    print(f"a full vacuum writes about {rate / 1e6:.0f} MB of live bytes a second")


def every_batch(mib: int, interval: float) -> None:
    """How long each batch of one more vacuum held the write lock, and how much of that it worked."""
    folder = Path(tempfile.mkdtemp())
    owner = create(folder / "queue.db", mib, free=True, incremental=True)
    with writing(folder / "queue.db", interval), RawReader() as raw:
        work = work_on(target_of(folder / "queue.db"), raw)
        with open_writable(work.target.path, 2.0) as connection:
            begun = time.thread_time()
            held = sorted(freed.longest_hold for freed in free_pages_in_batches(work, connection, 0))
            worked = (time.thread_time() - begun) / len(held)
    owner.close()
    shutil.rmtree(folder)
    p50, most = held[len(held) // 2], held[-1]
    over = sum(hold > BATCH_HOLD for hold in held)
    print(
        f"{len(held)} batches held the write lock p50 {p50 * 1000:.1f}, p99 {p99(held) * 1000:.1f}, "
        f"at most {most * 1000:.1f} ms ({worked * 1000:.1f} ms of work each); "
        f"above {BATCH_HOLD * 1000:.0f} ms: {over}, {kept(over == 0)}"
    )


@contextmanager
def writing(path: Path, interval: float) -> Iterator["subprocess.Popen[str]"]:
    """A writer at work."""
    command = [sys.executable, "-c", WRITER, str(path), str(interval)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        yield writer
        writer.kill()


def kept(is_so: bool) -> str:
    """In a word."""
    return "kept" if is_so else "EXCEEDED"


if __name__ == "__main__":
    main()
