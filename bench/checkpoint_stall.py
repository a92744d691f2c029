"""How long does a writer wait for our checkpoints? Its longest commit, with us and without, in the same run.

    python bench/checkpoint_stall.py reader [--rounds 5] [--seconds 3]
    python bench/checkpoint_stall.py sizes [--rounds 1] [--mb 100 300 600 2000] [--folders /tmp /dev/shm]
    python bench/checkpoint_stall.py starved [--rounds 10] [--read 0.1] [--pause 0]

A writer commits every 2 ms. `reader`: a reader pins the WAL. Control: no checkpoint runs. Ours: `truncate` on a safe owner, the
mode that waits longest for readers. Peer: PRAGMA wal_checkpoint(TRUNCATE) with the busy timeout of 2 s that scripts use.
The budget is limits.checkpoint_wait (125 ms) and the application's own next back-off step (up to 53 ms at that point).

`sizes`: a WAL of so many MB, none of it copied, and a writer that never checkpoints; on an owner proved safe, and on one that
is not. Allowed: 60 ms, or twice the control. Peers: TRUNCATE, and PASSIVE before it. `starved`: three readers that overlap.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw

from actions.store.runs import Run
from collectors.target import Limits, Target
from tests.support.scenes import prismq
from tests.support.scenes.run_actions import by_hand, target_of

CHECKPOINT_WAIT = 0.125
BACK_OFF = 0.053
ALLOWED = 0.060
CONTROL_SECONDS = 5.0
BALLAST = """
WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 2000)
INSERT INTO ballast SELECT randomblob(10000) FROM s
"""
READER = """
import sys, time, apsw
path, read, pause, later = sys.argv[1], *map(float, sys.argv[2:])
connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
time.sleep(later)
while True:
    connection.execute("BEGIN; SELECT count(*) FROM meta").fetchall()
    time.sleep(read)
    connection.execute("COMMIT")
    time.sleep(pause)
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """The writer's longest commit in seconds, and the run of ours, where there was one."""

    longest: float
    run: Run | None = None


def main() -> None:
    """Print one line a method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("reader", "sizes", "starved"), nargs="?", default="reader")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--mb", type=int, nargs="*", default=[100, 300, 600, 2000])
    parser.add_argument("--folders", type=Path, nargs="*", default=[Path(tempfile.gettempdir()), Path("/dev/shm")])
    parser.add_argument("--read", type=float, default=0.1)
    parser.add_argument("--pause", type=float, default=0.0)
    given = parser.parse_args()
    {"reader": beside_reader, "sizes": by_size, "starved": beside_starving_readers}[given.what](given)


@contextmanager
def database(folder: Path | None = None) -> Iterator[tuple[Path, apsw.Connection]]:
    """A new database in WAL mode, and its owner's connection, which never checkpoints."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        path = Path(own) / "q.db"
        owner = apsw.Connection(str(path))
        owner.wal_autocheckpoint(0)
        owner.execute(
            "PRAGMA journal_mode=WAL; CREATE TABLE meta (n INT); INSERT INTO meta VALUES (0); CREATE TABLE ballast (bytes);"
            "CREATE TABLE log (k INTEGER PRIMARY KEY, item INT); CREATE TABLE item (id INTEGER PRIMARY KEY, v INT);"
            "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 500) INSERT INTO item SELECT i, 0 FROM s"
        ).fetchall()
        yield path, owner
        owner.close()


def longest_of(writer: "subprocess.Popen[str]") -> float:
    """End the writer; its longest commit in seconds, infinite where it met a locked database after 10 s."""
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.close()
    return float(writer.stdout.readline() or "inf")


# --- beside a reader that pins the log ---


def beside_reader(given: argparse.Namespace) -> None:
    """What a reader that stays costs the writer."""
    methods: dict[str, Callable[[Target], object]] = {
        "control": lambda _: None,
        "ours": blocked_truncate,
        "peer": truncate,
    }
    results: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(given.rounds or 5):
        for name, method in methods.items():
            results[name].append(longest_beside_reader(method, given.seconds))
    print("longest commit of the writer, ms    median    max")
    for name, values in results.items():
        print(f"{name:32} {statistics.median(values) * 1000:9.1f} {max(values) * 1000:6.1f}")
    is_met = max(results["ours"]) <= CHECKPOINT_WAIT + BACK_OFF + max(results["control"])
    print(f"budget {1000 * (CHECKPOINT_WAIT + BACK_OFF):.0f} ms + control: {'kept' if is_met else 'EXCEEDED'}")


def longest_beside_reader(method: Callable[[Target], object], seconds: float) -> float:
    """One round on a new database, in seconds."""
    with (
        database() as (path, _),
        prismq.process("held_reader.py", path),
        prismq.process("two_tables_writer.py", path, "2") as writer,
    ):
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            method(target_of(path, owner_sqlite="3.51.3"))
            time.sleep(0.5)
        return longest_of(writer)


def blocked_truncate(target: Target) -> None:
    """The action, as a person runs it."""
    run = by_hand(target, "checkpoint", mode="truncate")
    assert run.outcome == "blocked", run.message


# --- a large log ---


def by_size(given: argparse.Namespace) -> None:
    """What the size of the log costs the writer, on each file system."""
    methods: dict[str, Callable[[Target], Run | None]] = {
        "control": sleep_only,
        "TRUNCATE": truncate,
        "PASSIVE, TRUNCATE": passive_then_truncate,
        "ours, proved safe": checkpoint_proved,
        "ours, not proved": checkpoint_unproved,
    }
    print("folder      MB  method              longest commit, ms  allowed  predicted  hold  slices  WAL  seconds")
    for folder in given.folders:
        for size in given.mb:
            for _ in range(given.rounds or 1):
                control = 0.0
                for name, method in methods.items():
                    measured = longest_beside_checkpoint(method, folder, size * 1_000_000)
                    control = control or measured.longest
                    print_size_line(f"{folder!s:9} {size:5}  {name:18}", measured, max(ALLOWED, 2 * control))


def print_size_line(head: str, measured: Measured, allowed: float) -> None:
    """One line; a missed goal shows as EXCEEDED."""
    words = f"{head} {measured.longest * 1000:19.1f} {allowed * 1000:8.0f}"
    if measured.run is not None:
        figures, plan = measured.run.figures, measured.run.plan
        assert plan is not None
        words += f" {plan.stall * 1000:10.0f} {figures['longest_hold_seconds'] * 1000:5.0f} {figures['slices']:7}"
        words += f" {figures['wal_bytes']:4} {figures['seconds']:8.1f}"
        words += "" if measured.longest <= allowed else "  EXCEEDED"
    print(words, flush=True)


def longest_beside_checkpoint(method: Callable[[Target], Run | None], folder: Path, size: int) -> Measured:
    """One round on a new database."""
    with database(folder) as (path, owner):
        wal = path.with_name("q.db-wal")
        while wal.stat().st_size < size:
            owner.execute(BALLAST)
        with prismq.process("two_tables_writer.py", path, "2", "0") as writer:
            time.sleep(0.5)
            run = method(target_of(path))
            return Measured(longest_of(writer), run)


def sleep_only(_target: Target) -> None:
    """The control."""
    time.sleep(CONTROL_SECONDS)


def truncate(target: Target) -> None:
    """What a script does."""
    with apsw.Connection(str(target.path)) as connection:
        connection.wal_autocheckpoint(0)
        connection.set_busy_timeout(2000)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def passive_then_truncate(target: Target) -> None:
    """What a careful script does."""
    with apsw.Connection(str(target.path)) as connection:
        connection.wal_autocheckpoint(0)
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    truncate(target)


def checkpoint_proved(target: Target) -> Run:
    """The action, on an owner proved safe."""
    return checkpoint_unproved(target_of(target.path, owner_sqlite="3.51.3"))


def checkpoint_unproved(target: Target) -> Run:
    """The action."""
    run = by_hand(target, "checkpoint")
    assert run.outcome == "done", run.message
    return run


# --- readers without a gap ---


def beside_starving_readers(given: argparse.Namespace) -> None:
    """How often one run makes the log start over beside three readers, by how long it may wait for them."""
    for stall in (0.0, 0.2, 0.25, 0.3):
        runs = list(runs_beside_readers(given, stall))
        done = [run for run in runs if run.outcome == "done"]
        holds = [run.figures["longest_hold_seconds"] for run in runs]
        print(
            f"--stall {stall or 'none'}: {len(done)} of {len(runs)} runs done, longest hold {max(holds) * 1000:.0f} ms"
        )


def runs_beside_readers(given: argparse.Namespace, stall: float) -> Iterator[Run]:
    """Run after run on one database."""
    with database() as (path, _), ExitStack() as readers:
        for number in range(3):
            arguments = map(str, (path, given.read, given.pause, number * given.read / 3))
            reader = readers.enter_context(subprocess.Popen([sys.executable, "-c", READER, *arguments]))
            readers.callback(reader.kill)
        with prismq.process("two_tables_writer.py", path, "2"):
            for _ in range(given.rounds or 10):
                time.sleep(3)
                limits = Limits(checkpoint_wait=CHECKPOINT_WAIT)
                target = target_of(path, owner_sqlite="3.51.3", limits=limits)
                yield by_hand(target, "checkpoint", mode="truncate", **({"stall": stall} if stall else {}))


if __name__ == "__main__":
    main()
