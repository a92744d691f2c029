"""Which process holds the write lock, sampled from the kernel while real processes hold it."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner

from collectors.poll import poll_database
from collectors.raw_reader import lock_sampler
from collectors.raw_reader.client import RawReader, sampling_command
from collectors.raw_reader.file_hold import NOT_VISIBLE
from collectors.raw_reader.formats import (
    CONNECTED_BYTE,
    FIRST_READ_BYTE,
    PENDING_BYTE,
    RESERVED_BYTE,
    SHARED_FIRST,
    WRITE_BYTE,
)
from collectors.raw_reader.lock_sampler import FORGET_AFTER, LIVELY_FOR, QUIET_EVERY, LockSampler
from collectors.raw_reader.lock_usage import SHARED_FOR, LockUsage, LockUsageAccounts
from collectors.raw_reader.sampled_file import SampledFile
from collectors.target import Target
from exporter.commands.readers import readers
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import prismq

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
    deadline = time.monotonic() + LONGEST_WAIT
    time.sleep(SHARED_FOR)
    while raw.query_reader("write_lock_samples", None) < number and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("journal_mode", "every", "samples"), [("wal", 0.1, 120), ("delete", 0.04, 250)], ids=["wal", "delete"]
)
def test_a_lock_held_a_third_of_the_time_reads_as_that_and_is_named(
    make_queue: Callable[..., prismq.Queue], journal_mode: str, every: float, samples: int
) -> None:
    busy, idle = make_queue("busy.db", journal_mode), make_queue("idle.db", journal_mode)
    with RawReader(sampling_command(every, 1.0)) as raw, holding(busy.path, 600, 1400) as child:
        for queue in (busy, idle):
            raw.read_lock_usage(queue.path)
        start = time.monotonic()
        wait_for_samples(raw, samples)
        use, other, end = raw.read_lock_usage(busy.path), raw.read_lock_usage(idle.path), time.monotonic()
        turns = turns_told(child)
    assert use.busy_ratio is not None
    assert abs(use.busy_ratio - share(turns, start, end)) <= 0.05  # 0.30 where the machine is quiet
    assert (other.busy_ratio, other.holders) == (0.0, ())
    (holder,) = use.holders
    assert (holder.pid, holder.samples) == (child.pid, use.busy)
    assert "lock_holder.py" in holder.command_line
    assert holder.command.startswith("python")
    assert 0.3 <= holder.longest <= max(until - since for since, until in turns) + 0.2


def test_a_writer_in_step_with_the_samples_is_neither_always_nor_never_met(queue: prismq.Queue) -> None:
    with RawReader(sampling_command(0.02, 1.0)) as raw, holding(queue.path, 6, 14):
        raw.read_lock_usage(queue.path)
        wait_for_samples(raw, 150)
        ratio = raw.read_lock_usage(queue.path).busy_ratio
    assert ratio is not None
    assert 0.15 <= ratio <= 0.5


def test_a_poll_publishes_the_share_since_the_last_one(queue: prismq.Queue) -> None:
    target = Target("jobs", queue.path)
    with RawReader(sampling_command(0.01, 1.0)) as raw:
        began = raw.query_reader("write_lock_samples", None)
        first = poll_database(target, None, 1000.0, raw, only=ONLY)
        queue.owner.execute("BEGIN IMMEDIATE")
        free = raw.query_reader("write_lock_samples", None) - began  # how many before the lock was taken, at most
        before = began + 2 * free
        wait_for_samples(raw, before + 30)
        second = poll_database(target, first, 1015.0, raw, only=ONLY)
        queue.owner.execute("ROLLBACK")
        wait_for_samples(raw, before + 60)
        poll_database(target, second, 1030.0, raw, only=ONLY)
        wait_for_samples(raw, before + 90)
        last = poll_database(target, second, 1045.0, raw, only=ONLY)
    assert list(first.samples_of("sqlite_write_lock_busy_ratio")) == []
    (sample,) = second.samples_of("sqlite_write_lock_busy_ratio")
    assert isinstance(sample.value, float)
    assert sample.value > 0.5
    assert [s.value for s in last.samples_of("sqlite_write_lock_busy_ratio")] == [0.0]
    assert second.readings["write_lock"].use.holders[0].pid == os.getpid()


def files_of(raw: RawReader) -> set[str]:
    """The files that the raw reader has open apart from its pipes; it may close one while they are listed."""
    links = []
    for entry in Path(f"/proc/{raw.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            links.append(os.readlink(entry))
    return {Path(link.removesuffix(" (deleted)")).name for link in links if "queue.db" in link}


def test_sampling_takes_no_lock_and_makes_no_process_wait(queue: prismq.Queue) -> None:
    queue.owner.set_busy_timeout(0)  # any lock of ours would be an error at once
    with RawReader(sampling_command(0.001, 1.0)) as raw:
        raw.read_lock_usage(queue.path)
        seen = set()
        deadline, puts = time.monotonic() + LONGEST_WAIT, 0
        while puts < 500 or (raw.query_reader("write_lock_samples", None) <= 20 and time.monotonic() < deadline):
            queue.put()
            puts += 1
            seen |= {(h.pid, h.row.mode) for h in raw.find_held_locks(queue.path) if h.pid != os.getpid()}
        assert raw.query_reader("write_lock_samples", None) > 20
        assert seen == set()
        assert files_of(raw) == {"queue.db-shm"}
        queue.owner.close()
        deadline = time.monotonic() + LONGEST_WAIT
        while files_of(raw) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert files_of(raw) == set(), "when its application has gone, no file stays open"


def test_a_file_made_anew_is_found_again(tmp_path: Path) -> None:
    queue = prismq.create(tmp_path / "queue.db")
    with RawReader(sampling_command(0.01, 1.0)) as raw:
        raw.read_lock_usage(queue.path)
        queue.owner.close()  # its -shm goes, and comes again as another file
        again = apsw.Connection(str(queue.path))
        again.execute("BEGIN IMMEDIATE")
        deadline = time.monotonic() + LONGEST_WAIT
        use = LockUsage()
        while not use.busy and time.monotonic() < deadline:
            time.sleep(0.1)
            use = raw.read_lock_usage(queue.path)
        again.execute("ROLLBACK")
        again.close()
    assert use.busy


def test_a_new_child_begins_to_count_anew(queue: prismq.Queue) -> None:
    with RawReader(sampling_command(0.01, 1.0)) as raw:
        raw.read_lock_usage(queue.path)
        wait_for_samples(raw, 20)
        child = raw.pid
        assert child is not None
        os.kill(child, 9)
        uses = LockUsageAccounts(shared_for=0.0)
        assert uses.usage_since_last(queue.path, raw.query_reader) == LockUsage()
        wait_for_samples(raw, 20)
        assert uses.usage_since_last(queue.path, raw.query_reader).samples >= 10
        raw.close()
        assert uses.usage_since_last(queue.path, raw.query_reader) == LockUsage()


def test_where_the_kernel_cannot_be_asked_nothing_is_known(queue: prismq.Queue) -> None:
    code = (
        "import collectors.raw_reader.lock_sampler as w; w.CAN_PROBE = False\n"
        "import collectors.raw_reader.server as p; p.main()"
    )
    with RawReader((sys.executable, "-I", "-c", code)) as raw:
        uses = LockUsageAccounts(shared_for=0.0)
        uses.usage_since_last(queue.path, raw.query_reader)
        time.sleep(0.3)
        use = uses.usage_since_last(queue.path, raw.query_reader)
        assert (use.seen, use.busy_ratio) == (False, None)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_writer_in_another_container_counts_although_it_has_no_visible_name(queue: prismq.Queue) -> None:
    command = (sys.executable, "-I", "-m", "collectors.raw_reader.server", "0.01", "1.0")
    hidden = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *command)
    if subprocess.run([*hidden[:5], "true"], capture_output=True, check=False).returncode:
        pytest.skip("no permission to make a pid namespace on this machine")
    with RawReader(hidden) as raw:
        raw.read_lock_usage(queue.path)
        queue.owner.execute("BEGIN IMMEDIATE")
        wait_for_samples(raw, raw.query_reader("write_lock_samples", None) + 50)
        use = raw.read_lock_usage(queue.path)
        queue.owner.execute("ROLLBACK")
    assert use.busy_ratio is not None
    assert use.busy_ratio > 0.5
    assert [(holder.pid, holder.command) for holder in use.holders] == [(NOT_VISIBLE, "")]


def test_readers_says_who_holds_the_write_lock(queue: prismq.Queue) -> None:
    with holding(queue.path, 150, 50) as child:
        text = CliRunner().invoke(readers, [str(queue.path), "--seconds", "1"]).output
        data = json.loads(CliRunner().invoke(readers, [str(queue.path), "--seconds", "0.5", "--json"]).output)
    assert "write lock: held " in text
    assert f"pid {child.pid}  " in text
    assert "lock_holder.py" in text
    assert data["write_lock"]["holders"][0]["pid"] == child.pid
    assert data["write_lock"]["busy"] > 0


# --- the sampler, with locks of another process and a clock of our own ---

Lock = tuple[int, int, str, str]
WRITES: Lock = (WRITE_BYTE, 1, "exclusive", "posix")
CONNECTED: Lock = (CONNECTED_BYTE, 1, "shared", "posix")


class Locker:
    """Another process that holds what a test wants, on one file."""

    def __init__(self, file: Path) -> None:
        command = [sys.executable, str(prismq.HERE / "byte_locks.py"), str(file)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hold(self, *locks: Lock) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(locks), file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "ready\n"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The files of a WAL database; no lock is on them."""
    for name in ("a.db", "a.db-shm", "a.db-wal"):
        (tmp_path / name).touch()
    return tmp_path / "a.db"


@pytest.fixture
def index(database: Path) -> Iterator[Locker]:
    locker = Locker(Path(f"{database}-shm"))
    yield locker
    locker.close()


@pytest.fixture
def locks(database: Path) -> Iterator[LockSampler]:
    made = LockSampler(os.getpid())
    made.watch_database(str(database), 0.0)
    yield made
    made.sample_if_due(FORGET_AFTER + 1)  # lets go of the files


def _ticks(locks: LockSampler, number: int, start: float = 0.0, step: float = 0.25) -> None:
    for tick in range(number):
        locks.sample_if_due(start + tick * step)


def _busy(locks: LockSampler, database: Path) -> int:
    return int(locks.report_usage()["uses"].get(str(database), {"busy": 0})["busy"])


@pytest.mark.parametrize(
    ("lock", "busy"),
    [
        (WRITES, 1),
        ((WRITE_BYTE, 1, "shared", "posix"), 0),
        ((FIRST_READ_BYTE, 1, "exclusive", "posix"), 0),
        ((FIRST_READ_BYTE, 5, "shared", "posix"), 0),
        ((WRITE_BYTE, 1, "exclusive", "ofd"), 1),
        ((0, 0, "exclusive", "flock"), 0),
    ],
)
def test_only_the_write_byte_of_a_wal_counts(
    locks: LockSampler, database: Path, index: Locker, lock: Lock, busy: int
) -> None:
    index.hold(CONNECTED, lock)
    locks.sample_if_due(10.0)
    assert _busy(locks, database) == busy


@pytest.mark.parametrize(
    ("lock", "busy"),
    [
        ((RESERVED_BYTE, 1, "exclusive", "posix"), 1),
        ((PENDING_BYTE, 1, "exclusive", "posix"), 1),
        ((PENDING_BYTE, 1, "shared", "posix"), 0),
        ((SHARED_FIRST, 510, "shared", "posix"), 0),
        ((WRITE_BYTE, 1, "exclusive", "posix"), 0),
        ((0, 0, "exclusive", "flock"), 0),
    ],
)
def test_with_a_rollback_journal_reserved_and_pending_count(tmp_path: Path, lock: Lock, busy: int) -> None:
    database = tmp_path / "b.db"
    database.touch()
    made, locker = LockSampler(os.getpid()), Locker(database)
    made.watch_database(str(database), 0.0)
    locker.hold(lock)
    made.sample_if_due(10.0)
    locker.close()
    assert _busy(made, database) == busy


def test_the_longest_stretch_goes_on_over_reports_and_ends_with_a_gap(
    locks: LockSampler, database: Path, index: Locker
) -> None:
    index.hold(WRITES)
    _ticks(locks, 3)
    first = locks.report_usage()["uses"][str(database)]
    _ticks(locks, 2, 0.75)
    second = locks.report_usage()["uses"][str(database)]
    index.hold()
    _ticks(locks, 1, 1.25)
    index.hold(WRITES)
    _ticks(locks, 1, 1.5)
    third = locks.report_usage()["uses"][str(database)]
    assert [(use["busy"], use["holders"][0][1], use["holders"][0][2]) for use in (first, second, third)] == [
        (3, 3, 0.5),
        (2, 2, 1.0),
        (1, 1, 0.0),
    ]
    assert third["holders"][0][0] == index.process.pid


def test_two_samples_far_apart_are_no_stretch(locks: LockSampler, database: Path, index: Locker) -> None:
    index.hold(WRITES)
    _ticks(locks, 2, step=5.0)
    use = locks.report_usage()["uses"][str(database)]
    assert (use["busy"], use["holders"][0][2]) == (2, 0.0)


def test_a_quiet_database_is_looked_at_less_often_and_each_look_stands_for_more(
    locks: LockSampler, database: Path, index: Locker, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    writer = SampledFile.find_writer
    monkeypatch.setattr(SampledFile, "find_writer", lambda file: looks.append(1) or writer(file))
    _ticks(locks, 5, LIVELY_FOR + 1)  # no process has written: it counts as quiet from the first of them
    looks.clear()
    _ticks(locks, 4 * QUIET_EVERY, LIVELY_FOR + 10)
    assert len(looks) == 4
    index.hold(WRITES)
    before = locks.samples_taken
    while not (busy := _busy(locks, database)):
        locks.sample_if_due(LIVELY_FOR + 20 + locks.samples_taken)
    assert busy == QUIET_EVERY
    assert locks.samples_taken - before <= QUIET_EVERY
    looks.clear()
    _ticks(locks, 10, LIVELY_FOR + 50)
    assert (len(looks), _busy(locks, database)) == (10, 10), "a database that is written to is in every sample"


def test_writes_of_processes_that_are_not_visible_make_it_unknown(
    locks: LockSampler, database: Path, index: Locker
) -> None:
    _ticks(locks, 5, step=10.0)
    assert locks.report_usage()["hidden"] == []
    Path(f"{database}-wal").write_bytes(b"x" * 10)
    _ticks(locks, 5, 100.0, 10.0)
    assert locks.report_usage()["hidden"] == [str(database)]
    index.hold(CONNECTED)
    Path(f"{database}-wal").write_bytes(b"x" * 20)
    _ticks(locks, 5, 200.0, 10.0)
    assert locks.report_usage()["hidden"] == []
    index.hold()
    Path(f"{database}-wal").write_bytes(b"x" * 30)
    _ticks(locks, 5, 300.0, 10.0)
    assert locks.report_usage()["hidden"] == [], "once seen, its processes can be seen"


def test_a_database_on_another_machine_is_not_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_sampler, "file_system_type", lambda _: "nfs4")
    made = LockSampler(os.getpid())
    made.watch_database(str(tmp_path / "far.db"), 0.0)
    _ticks(made, 3)
    assert (made.report_usage()["hidden"], made.samples_taken) == ([str(tmp_path / "far.db")], 3)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_what_may_not_be_looked_at_is_unknown_until_it_may(locks: LockSampler, database: Path, index: Locker) -> None:
    other = Path(f"{database}-shm")
    index.hold(WRITES)
    other.chmod(0o600)
    database.parent.chmod(0o755)
    made = LockSampler(os.getpid())
    os.seteuid(4321)
    try:
        made.watch_database(str(database), 0.0)
        _ticks(made, 2)
    finally:
        os.seteuid(0)
    assert (made.report_usage()["hidden"], _busy(made, database)) == ([str(database)], 0)
    _ticks(made, 5, 10.0, 10.0)
    assert made.report_usage()["hidden"] == []


def test_what_costs_much_is_done_less_often(locks: LockSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = iter(range(1000))
    monkeypatch.setattr(lock_sampler.time, "process_time", lambda: next(cpu) * 0.004)
    pauses = [locks.sample_if_due(100.0 * n) for n in range(20)]
    assert all(pause is not None and 0.2 <= pause <= 0.9 * 4 for pause in pauses)


def test_who_is_not_asked_for_any_more_is_forgotten(locks: LockSampler) -> None:
    _ticks(locks, 4, FORGET_AFTER + 1, 10.0)
    assert locks.sample_if_due(FORGET_AFTER + 100) is None


# --- who pins ---


def test_a_reader_that_pins_an_unwritten_wal_is_seen(
    queue: prismq.Queue, held_reader: Callable[[Path], AbstractContextManager[int]]
) -> None:
    queue.put(number=3)
    with RawReader(sampling_command(0.01, 1.0)) as raw:
        raw.read_lock_usage(queue.path)
        with held_reader(queue.path):
            assert not _becomes(raw, queue.path, pinned=True, within=0.0)
            queue.put()
            assert _becomes(raw, queue.path, pinned=True)
        assert _becomes(raw, queue.path, pinned=False)


def test_a_reader_at_the_newest_frame_and_our_own_pin_nothing(
    queue: prismq.Queue, held_reader: Callable[[Path], AbstractContextManager[int]]
) -> None:
    queue.put(number=3)
    ours = apsw.Connection(str(queue.path), flags=apsw.SQLITE_OPEN_READONLY)
    ours.execute("BEGIN")
    ours.execute("SELECT count(*) FROM task_queue").fetchall()
    queue.put()
    with RawReader(sampling_command(0.01, 1.0)) as raw, held_reader(queue.path):
        raw.read_lock_usage(queue.path)
        wait_for_samples(raw, 50)  # one file alone is refreshed at every other of them
        assert not raw.is_pinned(queue.path)
    ours.close()


def _becomes(raw: RawReader, path: Path, *, pinned: bool, within: float = LONGEST_WAIT) -> bool:
    deadline = time.monotonic() + within
    while raw.is_pinned(path) is not pinned and time.monotonic() < deadline:
        time.sleep(0.1)
    return raw.is_pinned(path) is pinned
