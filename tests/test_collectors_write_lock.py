"""Whose fault is "database is locked"? Sampled from the kernel's lock table, beside processes that really hold it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import prismq
import pytest
from click.testing import CliRunner

from collectors.poll import take
from collectors.raw_reader import lock_table, write_locks
from collectors.raw_reader.ask import RawReader, sampling
from collectors.raw_reader.layout import RESERVED_BYTE, WRITE_BYTE
from collectors.raw_reader.lock_use import SHARED_FOR, LockUse, LockUses
from collectors.raw_reader.write_locks import WriteLocks
from collectors.target import Target
from exporter.commands.readers import readers

ONLY = frozenset({"write_lock"})


@contextmanager
def holding(path: Path, on: float, off: float) -> Iterator[subprocess.Popen[str]]:
    with prismq.process("lock_holder.py", path, str(on), str(off)) as child:
        yield child


def turns_told(child: subprocess.Popen[str]) -> list[tuple[float, float]]:
    """From when to when the holder really held the lock."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.close()
    return [(since, until) for since, until in json.loads(child.stdout.readline())]


def share(turns: list[tuple[float, float]], start: float, end: float) -> float:
    """The share of this very time in which it was held: a machine under load gives the turns other lengths."""
    return sum(max(0.0, min(until, end) - max(since, start)) for since, until in turns) / (end - start)


def wait_for_samples(raw: RawReader, number: int) -> None:
    """Until the raw reader has sampled so often: its count, not a clock, says when. An answer is shared for a moment."""
    deadline = time.monotonic() + 60
    time.sleep(SHARED_FOR)
    while raw.ask("write_lock_samples", None) < number and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("journal_mode", "every", "samples"), [("wal", 0.1, 120), ("delete", 0.04, 250)], ids=["wal", "delete"]
)
def test_a_lock_held_a_third_of_the_time_reads_as_that_and_is_named(
    make_queue: Callable[..., prismq.Queue], journal_mode: str, every: float, samples: int
) -> None:
    busy, idle = make_queue("busy.db", journal_mode), make_queue("idle.db", journal_mode)
    with RawReader(sampling(every, 1.0)) as raw, holding(busy.path, 600, 1400) as child:
        for queue in (busy, idle):
            raw.write_lock_use(queue.path)
        start = time.monotonic()
        wait_for_samples(raw, samples)
        use, other, end = raw.write_lock_use(busy.path), raw.write_lock_use(idle.path), time.monotonic()
        turns = turns_told(child)
    assert use.ratio is not None
    assert abs(use.ratio - share(turns, start, end)) <= 0.05  # 0.30 where the machine is quiet
    assert (other.ratio, other.holders) == (0.0, ())
    (holder,) = use.holders
    assert (holder.pid, holder.samples) == (child.pid, use.busy)
    assert "lock_holder.py" in holder.command_line
    assert holder.command.startswith("python")
    assert 0.3 <= holder.longest <= max(until - since for since, until in turns) + 0.2


def test_a_writer_in_step_with_the_samples_is_neither_always_nor_never_met(queue: prismq.Queue) -> None:
    with RawReader(sampling(0.02, 1.0)) as raw, holding(queue.path, 6, 14):
        raw.write_lock_use(queue.path)
        wait_for_samples(raw, 150)
        ratio = raw.write_lock_use(queue.path).ratio
    assert ratio is not None
    assert 0.15 <= ratio <= 0.5


def test_a_poll_publishes_the_share_since_the_last_one(queue: prismq.Queue) -> None:
    target = Target("jobs", queue.path)
    with RawReader(sampling(0.01, 1.0)) as raw:
        first = take(target, None, 1000.0, raw, only=ONLY)
        queue.owner.execute("BEGIN IMMEDIATE")
        before = raw.ask("write_lock_samples", None)
        wait_for_samples(raw, before + 30)
        second = take(target, first, 1015.0, raw, only=ONLY)
        queue.owner.execute("ROLLBACK")
        wait_for_samples(raw, before + 60)
        take(target, second, 1030.0, raw, only=ONLY)
        wait_for_samples(raw, before + 90)
        last = take(target, second, 1045.0, raw, only=ONLY)
    assert list(first.of("sqlite_write_lock_busy_ratio")) == []
    (sample,) = second.of("sqlite_write_lock_busy_ratio")
    assert isinstance(sample.value, float)
    assert sample.value > 0.5
    assert [s.value for s in last.of("sqlite_write_lock_busy_ratio")] == [0.0]
    assert second.readings["write_lock"].use.holders[0].pid == os.getpid()


def test_sampling_takes_no_lock_and_makes_nobody_wait(queue: prismq.Queue) -> None:
    queue.owner.set_busy_timeout(0)  # whoever is in the way would be an error at once
    with RawReader(sampling(0.001, 1.0)) as raw:
        raw.write_lock_use(queue.path)
        seen = set()
        for _ in range(500):
            queue.put()
            seen |= {(h.pid, h.row.mode) for h in raw.holders(queue.path) if h.pid != os.getpid()}
        assert raw.ask("write_lock_samples", None) > 20
        assert seen == set()
        files = subprocess.run(["ls", "-l", f"/proc/{raw.pid}/fd"], capture_output=True, text=True, check=True).stdout
    assert "queue.db" not in files


def test_a_file_made_anew_is_found_again(tmp_path: Path) -> None:
    queue = prismq.create(tmp_path / "queue.db")
    with RawReader(sampling(0.01, 1.0)) as raw:
        raw.write_lock_use(queue.path)
        queue.owner.close()  # its -shm goes, and comes again as another file
        again = apsw.Connection(str(queue.path))
        again.execute("BEGIN IMMEDIATE")
        deadline = time.monotonic() + 30
        use = LockUse()
        while not use.busy and time.monotonic() < deadline:
            time.sleep(0.1)
            use = raw.write_lock_use(queue.path)
        again.execute("ROLLBACK")
        again.close()
    assert use.busy


def test_a_new_child_begins_to_count_anew(queue: prismq.Queue) -> None:
    with RawReader(sampling(0.01, 1.0)) as raw:
        raw.write_lock_use(queue.path)
        wait_for_samples(raw, 20)
        child = raw.pid
        assert child is not None
        os.kill(child, 9)
        uses = LockUses(raw.ask, shared_for=0.0)
        assert uses.since_last(queue.path) == LockUse()
        wait_for_samples(raw, 20)
        assert uses.since_last(queue.path).samples >= 10
        raw.close()
        assert uses.since_last(queue.path) == LockUse()


def test_without_a_table_nothing_is_known(queue: prismq.Queue) -> None:
    code = (
        "import pathlib, collectors.raw_reader.lock_table as t; t.LOCKS = pathlib.Path('/nowhere')\n"
        "import collectors.raw_reader.process as p; p.main()"
    )
    with RawReader((sys.executable, "-I", "-c", code)) as raw:
        uses = LockUses(raw.ask, shared_for=0.0)
        uses.since_last(queue.path)
        time.sleep(0.3)
        use = uses.since_last(queue.path)
        assert (use.seen, use.ratio) == (False, None)


def test_readers_says_who_holds_the_write_lock(queue: prismq.Queue) -> None:
    with holding(queue.path, 150, 50) as child:
        text = CliRunner().invoke(readers, [str(queue.path), "--seconds", "1"]).output
        data = json.loads(CliRunner().invoke(readers, [str(queue.path), "--seconds", "0.5", "--json"]).output)
    assert "write lock: held " in text
    assert f"pid {child.pid}  " in text
    assert "lock_holder.py" in text
    assert data["write_lock"]["holders"][0]["pid"] == child.pid
    assert data["write_lock"]["busy"] > 0


# --- the sampler, with a table and a clock of our own ---


class Table:
    """A lock table that a test writes."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "locks"
        self.file.write_text("")

    def show(self, *rows: tuple[Path, int, int], mode: str = "WRITE", kind: str = "POSIX") -> None:
        lines = [
            f"{n}: {kind}  ADVISORY  {mode} {pid} {_key(path)} {byte} {byte}"
            for n, (path, pid, byte) in enumerate(rows, 1)
        ]
        self.file.write_text("\n".join(lines) + "\n")


def _key(path: Path) -> str:
    found = path.stat()
    return f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    made = Table(tmp_path)
    monkeypatch.setattr(lock_table, "LOCKS", made.file)
    return made


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    database, index = tmp_path / "a.db", tmp_path / "a.db-shm"
    database.touch()
    index.touch()
    return database, index


def _ticks(locks: WriteLocks, number: int, start: float = 0.0, step: float = 0.25) -> None:
    for tick in range(number):
        locks.tick(start + tick * step)


def test_only_the_write_bytes_in_write_mode_count(table: Table, files: tuple[Path, Path]) -> None:
    database, index = files
    locks = WriteLocks()
    locks.watch(str(database), 0.0)
    cases = [
        ((index, 7, WRITE_BYTE), "WRITE", "POSIX", 1),
        ((index, 7, WRITE_BYTE), "READ", "POSIX", 0),
        ((index, 7, 123), "WRITE", "POSIX", 0),
        ((database, 7, RESERVED_BYTE), "WRITE", "POSIX", 1),
        ((database, 7, WRITE_BYTE), "WRITE", "POSIX", 0),
        ((database, -1, RESERVED_BYTE), "WRITE", "OFDLCK", 1),
        ((database, 7, RESERVED_BYTE), "WRITE", "FLOCK", 0),
    ]
    found = []
    for number, (row, mode, kind, _) in enumerate(cases):
        table.show(row, mode=mode, kind=kind)
        locks.tick(number * 10.0)
        found.append(locks.uses()["uses"].get(str(database), {"busy": 0})["busy"])
    assert found == [expected for *_, expected in cases]


def test_the_longest_stretch_goes_on_over_reports_and_ends_with_a_gap(table: Table, files: tuple[Path, Path]) -> None:
    locks = WriteLocks()
    locks.watch(str(files[0]), 0.0)
    table.show((files[1], 7, WRITE_BYTE))
    _ticks(locks, 3)
    first = locks.uses()["uses"][str(files[0])]
    _ticks(locks, 2, 0.75)
    second = locks.uses()["uses"][str(files[0])]
    table.show()
    _ticks(locks, 1, 1.25)
    table.show((files[1], 7, WRITE_BYTE))
    _ticks(locks, 1, 1.5)
    third = locks.uses()["uses"][str(files[0])]
    assert [(use["busy"], use["holders"][0][1], use["holders"][0][2]) for use in (first, second, third)] == [
        (3, 3, 0.5),
        (2, 2, 1.0),
        (1, 1, 0.0),
    ]


def test_two_samples_far_apart_are_no_stretch(table: Table, files: tuple[Path, Path]) -> None:
    locks = WriteLocks()
    locks.watch(str(files[0]), 0.0)
    table.show((files[1], 7, WRITE_BYTE))
    _ticks(locks, 2, step=5.0)
    use = locks.uses()["uses"][str(files[0])]
    assert (use["busy"], use["holders"][0][2]) == (2, 0.0)


def test_writes_of_processes_that_nobody_sees_make_it_unknown(table: Table, files: tuple[Path, Path]) -> None:
    database, index = files
    locks = WriteLocks()
    locks.watch(str(database), 0.0)
    _ticks(locks, 5, step=10.0)
    assert locks.uses()["hidden"] == []
    database.write_bytes(b"x" * 10)
    os.utime(database, ns=(1, 1))
    _ticks(locks, 5, 100.0, 10.0)
    assert locks.uses()["hidden"] == [str(database)]
    table.show((index, 4242, 128), mode="READ")
    database.write_bytes(b"x" * 20)
    _ticks(locks, 5, 200.0, 10.0)
    assert locks.uses()["hidden"] == []


def test_an_application_that_was_seen_once_is_not_hidden(table: Table, files: tuple[Path, Path]) -> None:
    database, index = files
    locks = WriteLocks()
    locks.watch(str(database), 0.0)
    _ticks(locks, 5, step=10.0)
    table.show((index, 4242, 128), mode="READ")
    database.write_bytes(b"x")
    _ticks(locks, 5, 100.0, 10.0)
    table.show()
    database.write_bytes(b"xx")
    _ticks(locks, 5, 200.0, 10.0)
    assert locks.uses()["hidden"] == [], "once seen, its processes can be seen"


def test_a_long_table_is_read_less_often(
    table: Table, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = WriteLocks()
    locks.watch(str(files[0]), 0.0)
    cpu = iter(range(1000))
    monkeypatch.setattr(write_locks.time, "process_time", lambda: next(cpu) * 0.004)
    pauses = [locks.tick(100.0 * n) for n in range(20)]
    assert all(pause is not None and 0.2 <= pause <= 0.9 * 4 for pause in pauses)


def test_who_is_not_asked_for_any_more_is_forgotten(table: Table, files: tuple[Path, Path]) -> None:
    locks = WriteLocks()
    locks.watch(str(files[0]), 0.0)
    _ticks(locks, 4, write_locks.FORGET_AFTER + 1, 10.0)
    assert locks.tick(write_locks.FORGET_AFTER + 100) is None
