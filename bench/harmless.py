"""Do our polls slow a writer? The 99th percentile of its commits, with our polls and without.

    python bench/harmless.py [--blocks 40] [--seconds 10] [--every 0.1] [--interval 2]

A writer commits every `--interval` ms on a WAL database with PrismQ's tables, which keeps 1,000 tasks. Time is cut into
blocks, alternately with us (a full poll ten times a second, the lock sampler all the time) and without. Printed: the
median over pairs of blocks of the added p99, and its 95 % bootstrap interval. The control does the same with blocks in
which no process polls: what it shows is the machine's own noise. The bound is 1 ms.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from collectors.poll import poll_database
from collectors.raw_reader.client import RawReader
from collectors.target import Target
from tests.support.scenes import prismq

BOUND = 0.001
WRITER = """
import json, sys, time, apsw, select
path, interval = sys.argv[1], float(sys.argv[2]) / 1000
c = apsw.Connection(path); c.set_busy_timeout(5000); c.pragma("synchronous", "normal")
print("ready", flush=True)
due, waits = time.monotonic(), []
while True:
    ready = select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]
    if ready:
        if not sys.stdin.readline():
            break
        print(json.dumps(waits), flush=True)
        waits = []
        continue
    started = time.monotonic()
    with c:
        c.execute("INSERT INTO task_queue (type, error_message) VALUES ('live', ?)", ("x" * 200,))
        c.execute("DELETE FROM task_queue WHERE id <= last_insert_rowid() - 1000")
    waits.append(time.monotonic() - started)
    due = max(due + interval, started)
"""


def main() -> None:
    """Print a line for us and one for the control, and whether the bound is kept."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--blocks", type=int, default=40, help="of each kind of pair together, half of them with us")
    arguments.add_argument("--seconds", type=float, default=10.0)
    arguments.add_argument("--every", type=float, default=0.1)
    arguments.add_argument("--interval", type=float, default=2.0)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        queue = prismq.create(Path(folder) / "queue.db")
        queue.put(number=1000)
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(queue.path), str(given.interval)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        with_polls, without_polls = looking(queue.path, given.every), time.sleep
        kept = [
            report("with us ", pairs(writer, given.blocks // 2, given.seconds, with_polls)),
            report("control ", pairs(writer, given.blocks // 2, given.seconds, without_polls)),
        ]
        writer.kill()
        queue.owner.close()
    print(f"bound {BOUND * 1000:g} ms: {'kept' if all(kept) else 'EXCEEDED'}")


def looking(path: Path, every: float) -> Callable[[float], None]:
    """Polls for so many seconds, as the agent does."""

    def look(seconds: float) -> None:
        target, snapshot = Target("jobs", path), None
        ends = time.monotonic() + seconds
        with RawReader() as raw:
            while time.monotonic() < ends:
                due = time.monotonic() + every
                snapshot = poll_database(target, snapshot, time.time(), raw)
                assert snapshot.up, snapshot.message
                time.sleep(max(0.0, due - time.monotonic()))

    return look


def pairs(
    writer: "subprocess.Popen[str]", number: int, seconds: float, act: Callable[[float], None]
) -> list[tuple[list[float], list[float]]]:
    """Pairs of blocks, without and with; which comes first alternates, so that a drift of the machine cancels out."""
    found = []
    waits_of(writer)
    for pair in range(number):
        blocks = {}
        for kind in ("without", "with") if pair % 2 else ("with", "without"):
            (act if kind == "with" else time.sleep)(seconds)
            blocks[kind] = waits_of(writer)
        found.append((blocks["without"], blocks["with"]))
    return found


def waits_of(writer: "subprocess.Popen[str]") -> list[float]:
    """The writer's commits since the last question, in seconds."""
    assert writer.stdin is not None
    assert writer.stdout is not None
    print("tell", file=writer.stdin, flush=True)
    return [float(wait) for wait in json.loads(writer.stdout.readline())]


def report(name: str, found: list[tuple[list[float], list[float]]]) -> bool:
    """Print p99s and the added p99 with its interval; whether its upper end keeps the bound."""
    added = [p99(with_us) - p99(without) for without, with_us in found]
    low, high = bootstrap(added)
    without, with_us = (sorted(wait for pair in found for wait in pair[kind]) for kind in (0, 1))
    print(
        f"{name} p99 {p99(without) * 1000:7.3f} -> {p99(with_us) * 1000:7.3f} ms   max {without[-1] * 1000:6.1f} -> "
        f"{with_us[-1] * 1000:6.1f} ms   added p99 {statistics.median(added) * 1000:+.3f} ms "
        f"[{low * 1000:+.3f}, {high * 1000:+.3f}]   {len(without) + len(with_us)} commits, {len(found)} pairs"
    )
    return high <= BOUND


def p99(waits: list[float]) -> float:
    """The 99th percentile."""
    ordered = sorted(waits)
    return ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]


def bootstrap(values: list[float], rounds: int = 5000) -> tuple[float, float]:
    """The 95 % interval of the median, by drawing pairs again (percentile method)."""
    source = random.Random(1)
    medians = sorted(statistics.median(source.choices(values, k=len(values))) for _ in range(rounds))
    return medians[int(0.025 * rounds)], medians[int(0.975 * rounds)]


if __name__ == "__main__":
    main()
