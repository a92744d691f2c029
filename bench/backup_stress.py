"""Is every backup one commit point beside two writers? Prints how many of N copies were not.

    python bench/backup_stress.py [--copies 200] [--rows 60000] [--seed N]

Two processes commit without pause, checkpoint very often (autocheckpoint 37 and 400 pages) and sometimes with RESTART, TRUNCATE
or FULL. Every transaction moves an amount between two rows and appends to a log, so that in each consistent image the sum is
constant and the log's length equals a counter. Each copy is taken through the runner and opened with integrity_check.
"""

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import apsw

from collectors.target import BackupSettings, Limits
from tests.support.scenes.run_actions import by_hand, target_of

ACCOUNTS = 2000


def main() -> None:
    """Take the copies; exit 1 when one is bad."""
    given = arguments()
    print(f"seed {given.seed}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.db"
        keep = create(path, given.rows)
        writers = [start_writer(path, given.seed + number, number) for number in range(2)]
        try:
            bad, methods, seconds = take_copies(path, given.copies)
        finally:
            for writer in writers:
                writer.kill()
                writer.wait()
        keep.close()
    print(f"{given.copies} copies, {bad} bad, methods {dict(methods)}, {seconds / given.copies:.3f} s each")
    sys.exit(bad != 0)


def take_copies(path: Path, copies: int) -> tuple[int, Counter[str], float]:
    """(bad ones, methods used, seconds)."""
    target = target_of(
        path,
        backup=BackupSettings(path.parent / "b", own_folder=False),
        limits=Limits(disk_reserve=0, wal_growth_bytes=2**31),
    )
    bad, methods, begun = 0, Counter[str](), time.monotonic()
    for number in range(1, copies + 1):
        if number % 10 == 0:
            print(f"{number - 1} copies so far, {bad} bad", flush=True)
        run = by_hand(target, "backup")
        if run.outcome != "done":
            print("not done:", run.message)
            bad += 1
            continue
        methods[str(run.figures["method"])] += 1
        if run.figures["note"]:
            print("note:", run.figures["note"])
        backup = Path(str(run.figures["path"]))
        problem = problem_of(backup)
        if problem:
            print("BAD:", problem)
            bad += 1
        backup.unlink()
    return bad, methods, time.monotonic() - begun


def problem_of(backup: Path) -> str:
    """What is wrong with a copy; empty when nothing is."""
    copy = apsw.Connection(f"file:{backup}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        total, rows = copy.execute("SELECT sum(v) FROM acct").get, copy.execute("SELECT count(*) FROM log").get
        counted, whole = copy.execute("SELECT n FROM cnt").get, copy.execute("PRAGMA integrity_check").get
    finally:
        copy.close()
    if (total, rows, whole) == (1000 * ACCOUNTS, counted, "ok"):
        return ""
    return f"sum {total}, {rows} rows for a counter of {counted}, {whole}"


def create(path: Path, rows: int) -> apsw.Connection:
    """The database, and a connection that keeps its WAL alive."""
    keep = apsw.Connection(str(path))
    keep.execute("PRAGMA journal_mode=WAL").fetchall()
    keep.execute(
        f"CREATE TABLE acct (id INTEGER PRIMARY KEY, v INT, t INT);"
        f"CREATE TABLE log (id INTEGER PRIMARY KEY, a INT, b INT, n INT, pad BLOB); CREATE INDEX ia ON log (a, b);"
        f"CREATE TABLE cnt (n INT); INSERT INTO cnt VALUES ({rows});"
        f"WITH RECURSIVE s(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM s WHERE i < {ACCOUNTS - 1})"
        f"INSERT INTO acct SELECT i, 1000, 0 FROM s;"
        f"WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {rows})"
        f"INSERT INTO log (a, b, n, pad) SELECT 0, 0, 0, randomblob(300) FROM s"
    ).fetchall()
    return keep


def start_writer(path: Path, seed: int, number: int) -> "subprocess.Popen[bytes]":
    """One writer in a process of its own."""
    return subprocess.Popen(
        [sys.executable, __file__, "--write", str(path), "--seed", str(seed), "--number", str(number)]
    )


def write(path: Path, seed: int, number: int) -> None:
    """Commit without pause, for ever."""
    chance = random.Random(seed)
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(30000)
    connection.execute(f"PRAGMA wal_autocheckpoint={37 if number else 400}").fetchall()
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.transaction_mode = "IMMEDIATE"
    commits = 0
    while True:
        transact(connection, chance)
        commits += 1
        if commits % 301 == 0:
            connection.set_busy_timeout(20)
            with contextlib.suppress(apsw.BusyError):
                connection.execute(
                    f"PRAGMA wal_checkpoint({chance.choice(('RESTART', 'TRUNCATE', 'FULL'))})"
                ).fetchall()
            connection.set_busy_timeout(30000)


def transact(connection: apsw.Connection, chance: random.Random) -> None:
    """One transaction that keeps the invariants."""
    a, b, amount = chance.randrange(ACCOUNTS), chance.randrange(ACCOUNTS), chance.randrange(1, 50)
    with connection:
        connection.execute("UPDATE acct SET v = v - ?, t = t + 1 WHERE id = ?", (amount, a))
        connection.execute("UPDATE acct SET v = v + ?, t = t + 1 WHERE id = ?", (amount, b))
        for _ in range(1 + amount % 5):
            connection.execute("INSERT INTO log (a, b, n, pad) VALUES (?, ?, ?, randomblob(300))", (a, b, amount))
        if amount == 7:
            connection.execute("DELETE FROM log WHERE id IN (SELECT id FROM log ORDER BY id LIMIT 40)")
        connection.execute(
            "UPDATE cnt SET n = (SELECT count(*) FROM log)" if amount == 7 else "UPDATE cnt SET n = n + ?",
            () if amount == 7 else (1 + amount % 5,),
        )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=200)
    parser.add_argument("--rows", type=int, default=60000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--write", type=Path)
    parser.add_argument("--number", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    chosen = arguments()
    if chosen.write:
        write(chosen.write, chosen.seed, chosen.number)
    main()
