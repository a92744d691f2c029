"""What does the lock sampler cost? CPU of the raw reader, and what the writers of the machine feel.

    python bench/lock_sampler.py [--databases 1000] [--seconds 20] [--every 0.1]

So many WAL databases, each open in an application, so that the kernel's table has two rows of each. Printed: how long one
read of the table takes, the samples a second that came of it, the CPU that the raw reader used (goal: under 1 % of a core),
and the p99 of a writer's commits meanwhile and without a sampler. Last, how many rows of locks that stay are left out of one
reading of the table while another process takes and gives back locks, and of several readings together.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import prismq
from harmless import WRITER, p99, waits_of

from collectors.raw_reader.ask import RawReader, sampling
from collectors.raw_reader.lock_table import lock_table, places
from collectors.raw_reader.write_locks import EVERY, SHARE_OF_A_CORE

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
    arguments.add_argument("--every", type=float, default=EVERY)
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
    started = time.process_time()
    table = Path("/proc/locks").read_text()
    print(f"lock table: {table.count(chr(10))} rows, read in {(time.process_time() - started) * 1000:.2f} ms of CPU")
    queue = prismq.create(folder / "queue.db")
    command = [sys.executable, "-c", WRITER, str(queue.path), "2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(1)
        waits_of(writer)
        time.sleep(seconds)
        without = waits_of(writer)
        with RawReader(sampling(every, SHARE_OF_A_CORE)) as raw:
            for number in range(databases):
                raw.write_lock_use(folder / f"{number}.db")
            time.sleep(1)
            before, samples = cpu(raw.pid), raw.ask("write_lock_samples", None)
            waits_of(writer)
            time.sleep(seconds)
            during = waits_of(writer)
            used, taken = cpu(raw.pid) - before, raw.ask("write_lock_samples", None) - samples
        left_out(folder, databases)
        writer.kill()
    queue.owner.close()
    print(f"samples a second: {taken / seconds:.1f} for {databases} databases at once")
    print(f"raw reader: {used / seconds:.2%} of a core ({'kept' if used / seconds < 0.01 else 'EXCEEDED'}: 1 %)")
    print(f"writer's p99: {p99(without) * 1000:.3f} ms without, {p99(during) * 1000:.3f} ms with the sampler")


def left_out(folder: Path, databases: int, rounds: int = 30) -> None:
    """The application holds two rows of each database all the time."""
    marks = [f":{place[2]} " for number in range(databases) for place in places(str(folder / f"{number}.db"))]
    for reads in (1, 2, 3):
        missed = sum(mark not in table for _ in range(rounds) for table in (lock_table(reads) or "",) for mark in marks)
        print(f"rows left out by {reads} reading(s) of the table: {missed} of {rounds * len(marks)}")


def cpu(pid: int | None) -> float:
    """Seconds of CPU that a process used so far (proc(5), stat: utime and stime)."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
