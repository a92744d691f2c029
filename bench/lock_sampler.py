"""What does the lock sampler cost? CPU of the raw reader, and what the writers of the machine feel.

    python bench/lock_sampler.py [--databases 1000] [--seconds 20] [--every 0.1]

So many WAL databases, each open in an application, so that the kernel's table has two rows of each. Printed: what one read of
the table costs, in the kernel and in Python, and what it costs to ask the kernel about each database instead; the samples a
second that came of it when all databases were written to lately, and when all lie quiet; the CPU that the raw reader used
(goal: under 1 % of a core); the p99 of a writer's commits meanwhile and without a sampler. Last, how many rows of locks that
stay are left out of one reading of the table while another process takes and gives back locks, and of several together.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harmless import WRITER, p99, waits_of

from collectors.raw_reader.client import RawReader, sampling_command
from collectors.raw_reader.file_hold import WRITES_WAL, find_blocking_process
from collectors.raw_reader.lock_sampler import LIVELY_FOR, REFRESH_EVERY, SAMPLE_EVERY, SHARE_OF_A_CORE
from collectors.raw_reader.lock_table import device_inodes, read_lock_table
from tests.support.scenes import prismq

OWNER = """
import apsw, sys
kept = []
for number in range(int(sys.argv[2])):
    c = apsw.Connection(f"{sys.argv[1]}/{number}.db")
    c.pragma("synchronous", "off"); c.pragma("journal_mode", "wal"); c.execute("CREATE TABLE t (a)")
    kept.append(c)
print("ready", flush=True)
sys.stdin.read()
"""


def main() -> None:
    """Print one line a figure."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--databases", type=int, default=1000)
    arguments.add_argument("--seconds", type=float, default=20.0)
    arguments.add_argument("--every", type=float, default=SAMPLE_EVERY)
    given = arguments.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(60000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", OWNER, folder, str(given.databases)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
            assert owner.stdout is not None
            owner.stdout.readline()
            measure(Path(folder), given.databases, given.seconds, given.every)
            owner.kill()


def measure(folder: Path, databases: int, seconds: float, every: float) -> None:
    """With the application running."""
    costs(folder, databases)
    queue = prismq.create(folder / "queue.db")
    command = [sys.executable, "-c", WRITER, str(queue.path), "2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(1)
        waits_of(writer)
        time.sleep(seconds)
        without = waits_of(writer)
        with RawReader(sampling_command(every, SHARE_OF_A_CORE)) as raw:
            for number in range(databases):
                raw.read_lock_usage(folder / f"{number}.db")
            time.sleep(1)
            waits_of(writer)
            sampled(raw, seconds, databases, "all written to lately")
            during = waits_of(writer)
            time.sleep(LIVELY_FOR + REFRESH_EVERY * 2 - seconds)
            sampled(raw, seconds, databases, "all quiet")
        left_out(folder, databases)
        writer.kill()
    queue.owner.close()
    print(f"writer's p99: {p99(without) * 1000:.3f} ms without, {p99(during) * 1000:.3f} ms with the sampler")


def sampled(raw: RawReader, seconds: float, databases: int, what: str) -> None:
    """Let it go on for so long."""
    before, samples = cpu(raw.pid), raw.query_reader("write_lock_samples", None)
    time.sleep(seconds)
    used, taken = cpu(raw.pid) - before, raw.query_reader("write_lock_samples", None) - samples
    kept = "kept" if used / seconds < 0.01 else "EXCEEDED"
    print(
        f"{databases} databases, {what}: {taken / seconds:.1f} samples a second, {used / seconds:.2%} of a core ({kept}: 1 %)"
    )


def costs(folder: Path, databases: int, rounds: int = 20) -> None:
    """Milliseconds of CPU: in our process, in the kernel; the best of the rounds."""
    descriptors = [os.open(folder / f"{number}.db-shm", os.O_RDONLY) for number in range(databases)]
    ways = {
        "reading the kernel's table": lambda: Path("/proc/locks").read_bytes(),
        "reading it and finding rows": lambda: read_lock_table(1),
        "asking about each database": lambda: [
            find_blocking_process(descriptor, WRITES_WAL) for descriptor in descriptors
        ],
    }
    rows = Path("/proc/locks").read_bytes().count(b"\n")
    print(f"lock table: {rows} rows")
    for name, way in ways.items():
        spent = []
        for _ in range(rounds):
            before = os.times()
            for _ in range(5):
                way()
            after = os.times()
            spent.append(((after.user - before.user) * 200, (after.system - before.system) * 200))
        user, system = (statistics.mean(one[kind] for one in spent) for kind in (0, 1))
        print(f"  {name}: {user:.2f} ms in Python, {system:.2f} ms in the kernel")
    for descriptor in descriptors:
        os.close(descriptor)


def left_out(folder: Path, databases: int, rounds: int = 30) -> None:
    """The application holds two rows of each database all the time."""
    files = [place for number in range(databases) for place in device_inodes(str(folder / f"{number}.db"))]
    for reads in (1, 2, 3):
        tables = [table for _ in range(rounds) if (table := read_lock_table(reads)) is not None]
        missed = sum(not table.rows_on([place]) for table in tables for place in files)
        print(f"rows left out by {reads} reading(s) of the table: {missed} of {len(tables) * len(files)}")


def cpu(pid: int | None) -> float:
    """Seconds of CPU that a process used so far (proc(5), stat: utime and stime)."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
