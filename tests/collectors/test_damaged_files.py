"""Damaged files: no crash, and no wrong number that looks like a right one.

Where SQLite's own integrity check finds nothing, every number equals independent SQL. Where it does, a collector fails
with a reason, or its numbers are what SQL counts in some way (by the table, or by an index of it).
"""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from collectors.access.snapshot import Snapshot
from collectors.poll import poll_database
from collectors.raw_reader.client import RawReader
from collectors.target import Limits, Target
from tests.support.scenes import prismq

ROOMY = Limits(read_wal=30, read_rollback=30)
STATES = {
    "running": "status IN ('leased', 'processing')",
    "done": "status = 'completed'",
    "dead": "status IN ('failed', 'dead_letter')",
}
# In a damaged index a search meets other rows than a walk: queue by queue, each sought by its name.
NAMES = (
    "SELECT DISTINCT type AS name FROM task_queue NOT INDEXED",
    "SELECT DISTINCT type AS name FROM task_queue INDEXED BY ix_task_type_status",
    (
        "WITH RECURSIVE n(name) AS (SELECT min(type) FROM task_queue UNION ALL "
        "SELECT (SELECT min(type) FROM task_queue WHERE type > name) FROM n WHERE name IS NOT NULL) "
        "SELECT name FROM n WHERE name IS NOT NULL"
    ),
)
SOUGHT = "SELECT count(*) FROM task_queue INDEXED BY ix_task_type_status WHERE type = name AND {where}"


@dataclass(frozen=True)
class Original:
    """The bytes of a database and, for one in WAL mode, of the files beside it: as its application leaves them when it dies."""

    files: dict[str, bytes]


def _filled(path: Path, journal_mode: str, page_size: int) -> prismq.Queue:
    queue = prismq.create(path, journal_mode, page_size)
    now = time.time()
    for number, status in enumerate(("queued", "completed", "failed")):
        queue.put(status, 40 + number, payload='{"x": "' + "y" * 300 + '"}')
        queue.leased(now - 500, 10 + number, type=f"type-{number}")
    queue.owner.execute("DELETE FROM task_queue WHERE id % 5 = 0")
    return queue


@pytest.fixture
def patient() -> Iterator[RawReader]:
    """A raw reader that a loaded machine does not make look hung."""
    with RawReader(answer_within=60) as reader:
        yield reader


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Original]:
    made = []
    for number, (journal_mode, page_size) in enumerate(
        (("delete", 4096), ("delete", 512), ("wal", 4096), ("wal", 1024))
    ):
        folder = tmp_path_factory.mktemp(f"original-{number}")
        copy = tmp_path_factory.mktemp(f"copy-{number}")
        queue = _filled(folder / "q.db", journal_mode, page_size)
        # by another process: reading a live database here would drop our own locks
        subprocess.run(["sh", "-c", f'cp "{folder}"/* "{copy}"'], check=True)
        queue.owner.close()
        made.append(Original({p.name: p.read_bytes() for p in copy.iterdir()}))
    return made


def mutated(source: random.Random, original: Original) -> dict[str, bytes]:
    """One to eight changes, in any of the files: bits, runs of bytes, pages that change places, a cut, a tail."""
    files = {name: bytearray(data) for name, data in original.files.items()}
    for _ in range(source.choice((1, 1, 2, 8))):
        data = files[source.choice([name for name in files if files[name]])]
        _mutate(source, data)
    return {name: bytes(data) for name, data in files.items()}


def _mutate(source: random.Random, data: bytearray) -> None:
    # half of the changes go where they matter most: headers, of the file and of its first page
    at = source.randrange(min(len(data), 200)) if source.random() < 0.5 else source.randrange(len(data))
    match source.randrange(6):
        case 0:
            data[at] ^= 1 << source.randrange(8)
        case 1:
            data[at : at + 16] = source.randbytes(len(data[at : at + 16]))
        case 2:
            page = at // 512 * 512
            data[page : page + 512] = bytes(len(data[page : page + 512]))
        case 3:
            first, second = (source.randrange(max(1, len(data) // 1024)) * 1024 for _ in range(2))
            data[first : first + 1024], data[second : second + 1024] = (
                data[second : second + 1024],
                data[first : first + 1024],
            )
        case 4:
            del data[max(1, at) :]
        case 5:
            data += source.randbytes(source.randrange(1, 5000))


def _answers(path: Path) -> tuple[bool, dict[str, set[float] | None]]:
    """Whether SQLite finds the file whole, and each number by every way that SQL has to it; None where SQL fails."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        whole = connection.execute("PRAGMA integrity_check(1)").get == "ok"
    except apsw.Error:
        whole = False
    counts_by_state = {
        "pages": _each(connection, "PRAGMA page_count"),
        "free": _each(connection, "PRAGMA freelist_count"),
    }
    for state, where in STATES.items():
        ways = ("", "NOT INDEXED", "INDEXED BY ix_task_status_prio_time", "INDEXED BY ix_task_type_status")
        counts = (f"SELECT count(*) FROM task_queue {way} WHERE {where}" for way in ways)
        each = SOUGHT.format(where=where)
        sums = (f"SELECT coalesce(sum(({each})), 0) FROM ({names})" for names in NAMES)
        counts_by_state[state] = _each(connection, *counts, *sums)
    connection.close()
    return whole, counts_by_state


def _each(connection: apsw.Connection, *statements: str) -> set[float] | None:
    values = set()
    for sql in statements:
        with suppress(apsw.Error, TypeError, ValueError):  # one way may be gone with its index
            values.add(float(connection.execute(sql).get))
    return values or None


def _told(snapshot: Snapshot) -> Iterator[tuple[str, float]]:
    totals: dict[str, float] = {}
    for sample in snapshot.samples_of("sqlite_queue_tasks"):
        totals[sample.labels[1]] = totals.get(sample.labels[1], 0) + sample.value_at(snapshot.taken_at)
    yield from ((state, totals[state]) for state in STATES if state in totals)
    for name, metric in (("pages", "sqlite_pages"), ("free", "sqlite_free_pages")):
        yield from ((name, sample.value_at(snapshot.taken_at)) for sample in snapshot.samples_of(metric))


def _attack(originals: list[Original], seeds: range, raw: RawReader, folder: Path) -> dict[str, int]:
    """Polls as many damaged files as there are seeds; how often each state came out."""
    raw.read_lock_table()
    reader, states = raw.pid, {}
    for seed in seeds:
        source = random.Random(seed)
        files = mutated(source, source.choice(originals))
        for name in os.listdir(folder):
            os.unlink(folder / name)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        first = poll_database(Target("q", folder / "q.db", limits=ROOMY), None, time.time(), raw)
        snapshot = poll_database(Target("q", folder / "q.db", limits=ROOMY), first, time.time() + 1, raw)
        states[snapshot.state] = states.get(snapshot.state, 0) + 1
        assert set(os.listdir(folder)) == set(files), f"seed {seed}"
        assert all(r.success or (r.reason and r.message) for r in snapshot.collectors.values()), f"seed {seed}"
        _compare(snapshot, folder / "q.db", seed)
    assert raw.pid == reader, "the raw reader was replaced: it died or hung"
    return states


def _compare(snapshot: Snapshot, path: Path, seed: int) -> None:
    if snapshot.state != "readable":
        assert snapshot.up == (snapshot.state == "owner_down"), f"seed {seed}: {snapshot.state}"
        assert snapshot.message, f"seed {seed}"
        return
    whole, answers = _answers(path)
    for name, value in _told(snapshot):
        possible = answers[name]
        assert possible is not None or not whole, f"seed {seed}: {name}"
        if possible is not None:
            assert value in possible, f"seed {seed}: {name} is {value}, SQL says {possible}, whole: {whole}"


def test_damaged_files_give_reasons_or_right_numbers(
    originals: list[Original], patient: RawReader, tmp_path: Path
) -> None:
    states = _attack(originals, range(300), patient, tmp_path)
    assert states.get("readable", 0) > 100, states
    assert states.get("corrupt", 0) + states.get("not_a_database", 0) > 20, states


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_many_more_damaged_files(originals: list[Original], patient: RawReader, tmp_path: Path) -> None:
    assert sum(_attack(originals, range(10_000, 12_000), patient, tmp_path).values()) == 2000


def test_undamaged_files_are_read_whole(originals: list[Original], patient: RawReader, tmp_path: Path) -> None:
    """The comparison above would be worth nothing if it compared nothing."""
    for original in originals:
        for name, data in original.files.items():
            (tmp_path / name).write_bytes(data)
        snapshot = poll_database(Target("q", tmp_path / "q.db", limits=ROOMY), None, time.time(), patient)
        whole, answers = _answers(tmp_path / "q.db")
        assert whole
        assert {name: {value} for name, value in _told(snapshot)} == answers
        for name in os.listdir(tmp_path):
            os.unlink(tmp_path / name)
