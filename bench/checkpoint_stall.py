"""How long does a writer wait for our checkpoints? Its longest commit, with us and without, in the same run.

    python bench/checkpoint_stall.py [--rounds 5] [--seconds 3]

A writer commits every 2 ms while a reader pins the WAL. Control: no checkpoint runs. Ours: `truncate` on a safe owner, the
mode that waits longest for readers. Peer: PRAGMA wal_checkpoint(TRUNCATE) with the busy timeout of 2 s that scripts use.
The budget is limits.checkpoint_wait (125 ms) and the application's own next back-off step (up to 53 ms at that point).
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import apsw

from collectors.target import Target
from tests.support.scenes import prismq
from tests.support.scenes.run_actions import by_hand, target_of

CHECKPOINT_WAIT = 0.125
BACK_OFF = 0.053


def main() -> None:
    """Print one line a method."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=3.0)
    given = arguments.parse_args()
    methods: dict[str, Callable[[Target], None]] = {"control": lambda _: None, "ours": ours, "peer": peer}
    found: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(given.rounds):
        for name, method in methods.items():
            found[name].append(longest_commit(method, given.seconds))
    print("longest commit of the writer, ms    median    max")
    for name, values in found.items():
        print(f"{name:32} {statistics.median(values) * 1000:9.1f} {max(values) * 1000:6.1f}")
    kept = max(found["ours"]) <= CHECKPOINT_WAIT + BACK_OFF + max(found["control"])
    print(f"budget {1000 * (CHECKPOINT_WAIT + BACK_OFF):.0f} ms + control: {'kept' if kept else 'EXCEEDED'}")


def longest_commit(method: Callable[[Target], None], seconds: float) -> float:
    """One round on a new database, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "q.db"
        owner = apsw.Connection(str(path))
        owner.execute(
            "PRAGMA journal_mode=WAL; CREATE TABLE meta (n INT); INSERT INTO meta VALUES (0);"
            "CREATE TABLE log (k INTEGER PRIMARY KEY, item INT); CREATE TABLE item (id INTEGER PRIMARY KEY, v INT);"
            "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 500) INSERT INTO item SELECT i, 0 FROM s"
        ).fetchall()
        with prismq.process("held_reader.py", path), prismq.process("two_tables_writer.py", path, "2") as writer:
            ends = time.monotonic() + seconds
            while time.monotonic() < ends:
                method(target_of(path, owner_sqlite="3.51.3"))
                time.sleep(0.5)
            assert writer.stdin is not None
            assert writer.stdout is not None
            writer.stdin.close()
            longest = float(writer.stdout.readline())
        owner.close()
        return longest


def ours(target: Target) -> None:
    """The action, through the door."""
    run = by_hand(target, "checkpoint", mode="truncate")
    assert run.outcome == "blocked", run.message


def peer(target: Target) -> None:
    """What a script does."""
    connection = apsw.Connection(str(target.path))
    connection.set_busy_timeout(2000)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


if __name__ == "__main__":
    main()
