"""A queue of five million tasks: are the numbers right, or said to be capped, and what does a poll cost?

    python bench/many_tasks.py [--tasks 5000000] [--file /tmp/queuekeeper-many-tasks.db] [--seconds 30]

The file is made once and kept. Each value is compared with SQL that counts everything. Printed for the live WAL database
and, as a backup would be read, for its pages' layout: seconds, and values. Then an agent reads it every second and is scraped
without a pause: how long does a scrape take meanwhile, and how old is what it tells?
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import apsw
from first_page import serving, wait
from scrape import agent_command, free_port, page_of

from collectors.access.snapshot import Snapshot
from collectors.page_layout import _SQL
from collectors.poll import poll_database
from collectors.raw_reader.client import RawReader
from collectors.target import Target
from tests.support.scenes import prismq

SPREAD = (("queued", 30), ("leased", 1), ("processing", 1), ("completed", 60), ("failed", 7), ("dead_letter", 1))
POLLED = "queuekeeper_poll_last_success_timestamp_seconds{"
WORDS = {
    "running": "status IN ('leased', 'processing')",
    "done": "status = 'completed'",
    "dead": "status IN ('failed', 'dead_letter')",
}


def main() -> None:
    """Print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--tasks", type=int, default=5_000_000)
    arguments.add_argument("--file", type=Path, default=Path("/tmp/queuekeeper-many-tasks.db"))
    arguments.add_argument("--seconds", type=float, default=30.0)
    given = arguments.parse_args()
    if not given.file.exists():
        made(given.file, given.tasks)
    owner = apsw.Connection(str(given.file))
    owner.execute("UPDATE workers SET worker_id = worker_id")  # the application is there: its -wal and -shm lie beside
    print(f"{given.file.stat().st_size / 1e9:.2f} GB, {owner.execute('SELECT count(*) FROM task_queue').get} tasks")
    with RawReader() as raw:
        snapshot = None
        for number in range(3):
            started = time.perf_counter()
            snapshot = poll_database(Target("many", given.file), snapshot, time.time(), raw)
            print(f"poll {number + 1}: {time.perf_counter() - started:.2f} s")
        assert snapshot is not None
        show(snapshot, owner)
    started = time.perf_counter()
    owner.execute(_SQL).fetchall()
    seconds = time.perf_counter() - started
    print(f"layout of all pages: {seconds:.2f} s, {given.file.stat().st_size / seconds / 1e6:.0f} MB/s")
    scrapes(given.file, owner, given.seconds)
    owner.close()


def scrapes(path: Path, owner: apsw.Connection, seconds: float) -> None:
    """Every reading opens the database, since the application commits between any two."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "queuekeeper.yaml"
        config.write_text(f"databases: [{{name: many, path: {path}}}]\npoll: {{interval: 1s}}\nstate: {folder}/state\n")
        port = free_port()
        with serving([word.replace("{port}", str(port)) for word in agent_command(config)]) as process:
            wait(process, port, "/-/ready", lambda status, _: status == 200)
            took, ages, polls = [], [], set()
            ends = time.monotonic() + seconds
            while time.monotonic() < ends:
                owner.execute("UPDATE workers SET worker_id = worker_id")
                began = time.perf_counter()
                status, page = page_of(port, "/metrics")
                took.append((time.perf_counter() - began) * 1000)
                assert status == 200
                polls.add(_polled_at(page))
                ages.append(time.time() - _polled_at(page))
                time.sleep(0.01)
    took.sort()
    p99 = took[int(len(took) * 0.99)]
    print(f"{len(took)} scrapes during {len(polls)} polls: p50 {statistics.median(took):.1f} ms, p99 {p99:.1f} ms")
    print(f"what they told was {max(ages):.1f} s old at most")


def _polled_at(page: bytes) -> float:
    """When the database was last read, by the agent."""
    return next(float(line.split()[1]) for line in page.decode().splitlines() if line.startswith(POLLED))


def show(snapshot: Snapshot, owner: apsw.Connection) -> None:
    """Each state: what we say, whether it is said to be a lower bound, what counting everything says."""
    for name, result in snapshot.collectors.items():
        told = "ok" if result.success else f"{result.reason}: {result.message}"
        print(f"  {name:14} {result.duration * 1000:8.1f} ms  {told}")
    counts, capped = ({s.labels[1]: 0.0 for s in snapshot.samples_of("sqlite_queue_tasks")} for _ in range(2))
    for sample in snapshot.samples_of("sqlite_queue_tasks"):
        counts[sample.labels[1]] += sample.value_at(snapshot.taken_at)
    for sample in snapshot.samples_of("sqlite_queue_tasks_capped"):
        capped[sample.labels[1]] = max(capped[sample.labels[1]], sample.value_at(snapshot.taken_at))
    for state, where in WORDS.items():
        if state in counts:
            verdict(
                state,
                counts[state],
                bool(capped[state]),
                owner.execute(f"SELECT count(*) FROM task_queue WHERE {where}").get,
            )
    for name in ("sqlite_queue_oldest_waiting_age_seconds", "sqlite_queue_stale_leases"):
        for sample in snapshot.samples_of(name):
            print(f"  {name}{{queue={sample.labels[0]!r}}} {sample.value_at(snapshot.taken_at):.0f}")


def verdict(state: str, value: float, capped: bool, true: int) -> None:
    """One line."""
    right = value == true or (capped and value <= true)
    print(
        f"  {state:8} {value:10.0f} {'at least' if capped else 'exactly ':8} of {true:10} {'right' if right else 'WRONG'}"
    )


def made(path: Path, tasks: int) -> None:
    """The file, under a partial name until it is whole."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    queue = prismq.create(partial)
    queue.owner.pragma("journal_mode", "off")
    values, below = [], 0
    for status, share in SPREAD:
        below += share
        values.append(f"WHEN i % 100 < {below} THEN '{status}'")
    queue.owner.execute(
        f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {tasks - 1}) "
        "INSERT INTO task_queue (type, status, run_after_utc, lease_until_utc) "
        f"SELECT 'type-' || (i % 7), CASE {' '.join(values)} END, datetime('now', '-' || (i % 86400) || ' seconds'), "
        "CASE WHEN i % 100 IN (30, 31) THEN datetime('now', '-' || (i % 900) || ' seconds') END FROM n"
    ).fetchall()
    queue.owner.pragma("journal_mode", "wal")
    queue.owner.close()
    partial.replace(path)


if __name__ == "__main__":
    main()
