"""How fast is a backup, and what does a writer feel, beside the ways that people use?

    python bench/backup_under_fire.py [--mib 256] [--rounds 3] [--cap 60]

One database, one writer committing every 2 ms, the methods in turn, round by round. `cp + fsync` of the idle file is the
physical limit (it is no backup: beside a writer it may be torn). Ours is the sum of its own phases until the copy is
proved and on the disk: copy, compare with the source, verify (integrity_check, counts), fsync; peers prove nothing. The hash
for the manifest is shown beside it. Peers that are not installed are left out, by name. Prints medians and ratios, and what
was kept.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw

from collectors.target import BackupSettings, Limits
from tests.support.scenes import prismq
from tests.support.scenes.run_actions import by_hand, target_of

Method = Callable[[Path, Path], dict[str, float]]


@dataclass(frozen=True)
class Result:
    """One backup: seconds of copying, the writer's longest commit, the WAL's growth in bytes, further figures."""

    seconds: float
    longest: float
    wal_growth: int
    figures: dict[str, float]


def main() -> None:
    """Run the rounds and print a table."""
    given = arguments()
    methods = available(given.cap)
    found: dict[tuple[str, str], list[Result]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "q.db"
        keep = create(path, given.mib)
        out = Path(folder) / "out"
        for _ in range(given.rounds):
            for name, method in methods.items():
                for mode in ("idle", "writer"):
                    if name == "cp + fsync" and mode == "writer":
                        continue
                    found.setdefault((name, mode), []).append(one(path, out, method, mode))
            found.setdefault(("no backup", "writer"), []).append(one(path, out, wait, "writer"))
        keep.close()
    report(found, path_mib=given.mib)


def report(found: dict[tuple[str, str], list[Result]], path_mib: int) -> None:
    """Medians, and the ratios that matter."""
    print(f"{path_mib} MiB; medians of {len(next(iter(found.values())))} rounds")
    print(f"{'method':28} {'mode':7} {'copy s':>8} {'writer longest ms':>18} {'WAL growth MiB':>15}  further")
    for (name, mode), results in found.items():
        seconds = statistics.median(r.seconds for r in results)
        longest = statistics.median(r.longest for r in results) * 1000
        grown = max(r.wal_growth for r in results) / 2**20
        further = {
            key: round(statistics.median(r.figures.get(key, 0.0) for r in results), 3) for key in results[0].figures
        }
        shown = f"{seconds:8.3f}" if seconds < float("inf") else "  never "
        print(f"{name:28} {mode:7} {shown} {longest:18.1f} {grown:15.1f}  {further or ''}")
    limit, ours = of(found, "cp + fsync", "idle"), of(found, "queuekeeper", "writer")
    peers = {n: of(found, n, "writer") for n, m in found if m == "writer" and n not in ("queuekeeper", "no backup")}
    fastest = min(peers, key=lambda n: peers[n])
    control = statistics.median(r.longest for r in found["no backup", "writer"])
    felt = statistics.median(r.longest for r in found["queuekeeper", "writer"])
    print(f"ours beside the writer / cp + fsync idle: {ours / limit:.2f} (aim 1.5)")
    print(f"ours beside the writer / fastest peer ({fastest}): {ours / peers[fastest]:.2f} (aim 1.1)")
    print(
        f"writer's longest commit: {felt * 1000:.1f} ms, control {control * 1000:.1f} ms (aim max(50 ms, 2 x control))"
    )


def of(found: dict[tuple[str, str], list[Result]], name: str, mode: str) -> float:
    """The median copy time."""
    return statistics.median(result.seconds for result in found[name, mode])


def one(path: Path, out: Path, method: Method, mode: str) -> Result:
    """One backup on a clean WAL."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    truncate(path)
    wal = path.with_name(path.name + "-wal")
    with writing(path) if mode == "writer" else no_writer() as longest:
        time.sleep(0.5 if mode == "writer" else 0)
        before = wal.stat().st_size
        begun = time.monotonic()
        figures = method(path, out / "copy.db")
        seconds = figures.pop("copy", time.monotonic() - begun)
        grown = max(0, wal.stat().st_size - before)
    return Result(seconds, longest[0], grown, figures)


def truncate(path: Path) -> None:
    """Start each backup from an empty WAL."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    os.sync()


@contextmanager
def writing(path: Path) -> Iterator[list[float]]:
    """A writer every 2 ms; its longest commit afterwards."""
    longest = [0.0]
    with prismq.process("two_tables_writer.py", path, "2") as writer:
        yield longest
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.close()
        longest[0] = float(writer.stdout.readline())


@contextmanager
def no_writer() -> Iterator[list[float]]:
    """The idle mode: no process writes."""
    yield [0.0]


def available(cap: float) -> dict[str, Method]:
    """The methods that are installed; the others are named."""
    methods: dict[str, Method] = {"cp + fsync": copy_file, "queuekeeper": ours, "VACUUM INTO": vacuum_into}
    methods["backup(pages=-1)"] = lambda path, out: stdlib(path, out, -1, cap)
    methods["backup(pages=100)"] = lambda path, out: stdlib(path, out, 100, cap)
    if shutil.which("sqlite3"):
        methods["sqlite3 .backup"] = lambda path, out: command(
            ["sqlite3", str(path), ".timeout 5000", f".backup '{out}'"], cap
        )
    else:
        print("left out, not installed: sqlite3 (the command line)")
    if shutil.which("litestream"):
        replica = ["litestream", "replicate", "-once", "-force-snapshot"]
        methods["litestream"] = lambda path, out: command([*replica, str(path), f"file://{out}.replica"], cap)
    else:
        print("left out, not installed: litestream")
    return methods


def copy_file(path: Path, out: Path) -> dict[str, float]:
    """What a file system can do."""
    begun = time.monotonic()
    subprocess.run(["cp", str(path), str(out)], check=True)
    descriptor = os.open(out, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    return {"copy": time.monotonic() - begun}


def ours(path: Path, out: Path) -> dict[str, float]:
    """The action, through the door: its own figures of a copy that is proved and on the disk, the rest beside."""
    place = BackupSettings(out.parent, own_folder=False)
    run = by_hand(target_of(path, backup=place, limits=Limits(disk_reserve=0)), "backup")
    assert run.outcome == "done", run.message
    figures = {
        name: float(str(run.figures[name]))
        for name in ("copy_seconds", "compare_seconds", "prove_seconds", "sync_seconds", "hash_seconds")
    }
    return {
        "copy": sum(figures[name] for name in ("copy_seconds", "compare_seconds", "prove_seconds", "sync_seconds")),
        "copy alone": figures["copy_seconds"],
        "compare": figures["compare_seconds"],
        "verify": figures["prove_seconds"],
        "hash": figures["hash_seconds"],
        "fsync": figures["sync_seconds"],
        "restarts": float(str(run.figures["restarts"])),
        "whole run": float(str(run.figures["seconds"])),
    }


def vacuum_into(path: Path, out: Path) -> dict[str, float]:
    """SQLite's own copy."""
    return python("c.execute('VACUUM INTO ?', (out,))", path, out, 600)


def stdlib(path: Path, out: Path, pages: int, cap: float) -> dict[str, float]:
    """What a Python script does."""
    return python(f"d = sqlite3.connect(out); c.backup(d, pages={pages}); d.close()", path, out, cap)


def python(code: str, path: Path, out: Path, cap: float) -> dict[str, float]:
    """A script with the interpreter's own sqlite3, in a process of its own; without interpreter start, with one fsync."""
    whole = (
        "import sqlite3, sys, time, os; path, out = sys.argv[1:]; c = sqlite3.connect(path, timeout=10); t = time.monotonic()\n"
        f"{code}\nf = os.open(out, os.O_RDONLY); os.fsync(f); print(time.monotonic() - t)"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", whole, str(path), str(out)], capture_output=True, text=True, timeout=cap
        )
    except subprocess.TimeoutExpired:
        return {"copy": float("inf")}
    return {"copy": float(done.stdout)}


def command(words: list[str], cap: float) -> dict[str, float]:
    """A program."""
    begun = time.monotonic()
    try:
        subprocess.run(words, check=True, timeout=cap, capture_output=True)
    except subprocess.TimeoutExpired:
        return {"copy": float("inf")}
    return {"copy": time.monotonic() - begun}


def wait(_path: Path, _out: Path) -> dict[str, float]:
    """The control: no backup is taken."""
    time.sleep(1.0)
    return {}


def create(path: Path, mib: int) -> apsw.Connection:
    """A database of about so many MiB, its transactions as two_tables_writer.py makes them."""
    keep = apsw.Connection(str(path))
    keep.execute("PRAGMA journal_mode=WAL").fetchall()
    keep.execute(
        "PRAGMA synchronous=OFF; CREATE TABLE meta (n INT); INSERT INTO meta VALUES (0);"
        "CREATE TABLE log (k INTEGER PRIMARY KEY, item INT); CREATE TABLE item (id INTEGER PRIMARY KEY, v INT, pad BLOB);"
        f"WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {mib * 1000})"
        "INSERT INTO item SELECT i, 0, randomblob(1000) FROM s"
    ).fetchall()
    return keep


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cap", type=float, default=60.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
