"""The raw reader: its parsers against what SQLite itself says, its process against what can befall it."""

import fcntl
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import apsw
import pytest

from collectors.raw_reader import formats, lock_table
from collectors.raw_reader.client import LockTableUnseen, RawReader, RawReaderUnavailable
from collectors.raw_reader.formats import LockRow, WalIndex
from collectors.raw_reader.wal_readers import HeldLock, find_checkpoint_lock, find_write_lock, pinning_readers
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import prismq

HeldReader = Callable[[Path], AbstractContextManager[int]]
CHILD = (sys.executable, "-I", "-m", "collectors.raw_reader.server")
LOCKS = """1: POSIX  ADVISORY  READ  812 08:01:42 123 123
1: -> POSIX  ADVISORY  WRITE 900 08:01:42 120 120
2: FLOCK  ADVISORY  WRITE 77 fe:00:1009 0 EOF
3: OFDLCK ADVISORY  WRITE -1 00:1f:7 1073741825 1073741825
4: LEASE  ACTIVE    READ  5 08:01:9 0 EOF
"""


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_header_says_what_sqlite_says(make_queue: Callable[..., prismq.Queue], raw: RawReader, page_size: int) -> None:
    queue = make_queue(page_size=page_size)
    queue.owner.execute("PRAGMA user_version = 7")
    queue.owner.execute("PRAGMA application_id = 1234567")
    queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    header = raw.read_database_header(queue.path)
    assert header is not None
    assert (header.valid, header.wal, header.page_size) == (True, True, page_size)
    assert (header.user_version, header.application_id) == (7, 1234567)
    assert header.owner_version == apsw.sqlite_lib_version()


@pytest.mark.parametrize("mode", ["none", "full", "incremental"])
def test_header_tells_the_auto_vacuum_mode(tmp_path: Path, raw: RawReader, mode: str) -> None:
    path = tmp_path / "auto.db"
    with apsw.Connection(str(path)) as connection:
        connection.pragma("auto_vacuum", mode)
        connection.execute("CREATE TABLE t (a)")
    header = raw.read_database_header(path)
    assert header is not None
    assert header.auto_vacuum == mode
    assert not header.wal


def test_header_counts_free_pages(make_queue: Callable[..., prismq.Queue], raw: RawReader) -> None:
    queue = make_queue(journal_mode="delete")
    queue.put(number=500, error_message="x" * 2000)
    queue.owner.execute("DELETE FROM task_queue")
    header = raw.read_database_header(queue.path)
    assert header is not None
    assert header.free_pages == queue.value("PRAGMA freelist_count") > 0


def test_wal_index_equals_what_a_checkpoint_reports(
    queue: prismq.Queue, raw: RawReader, held_reader: HeldReader
) -> None:
    queue.put(number=3)
    with held_reader(queue.path):
        mark = queue.owner.execute("PRAGMA wal_checkpoint(NOOP)").get[1]
        for _ in range(5):
            queue.put()
        _, frames, copied = queue.owner.execute("PRAGMA wal_checkpoint(PASSIVE)").get
        index = raw.read_wal_index(queue.path)
    assert index is not None
    assert (index.frames, index.copied, index.pending_frames) == (frames, copied, frames - copied)
    assert copied == mark
    assert mark in index.marks


def test_wal_index_has_a_new_salt_after_the_wal_was_reset(queue: prismq.Queue, raw: RawReader) -> None:
    queue.put()
    before = raw.read_wal_index(queue.path)
    queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    queue.put()
    after = raw.read_wal_index(queue.path)
    assert before is not None
    assert after is not None
    assert before.salt != after.salt
    assert after.changes == before.changes + 1


def _shm(path: Path) -> bytearray:
    """The WAL-index through another process: reading it here would drop the locks of this process."""
    command = [sys.executable, "-c", "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read(136))"]
    return bytearray(subprocess.run([*command, str(path) + "-shm"], capture_output=True, check=True).stdout)


def test_torn_or_damaged_wal_index_is_no_reading(queue: prismq.Queue) -> None:
    queue.put()
    whole = _shm(queue.path)
    assert formats.parse_wal_index(bytes(whole)) is not None
    torn = bytearray(whole)
    torn[16:20] = struct.pack("=I", 999)  # the first copy is newer than the second
    both = bytearray(torn)
    both[48 + 16 : 48 + 20] = torn[16:20]  # equal copies whose checksum is wrong
    assert [formats.parse_wal_index(bytes(data)) for data in (torn, both, whole[:135], bytearray(136))] == [None] * 4


def test_random_bytes_never_break_the_parsers() -> None:
    source = random.Random(1)
    for _ in range(300):
        data = source.randbytes(136)
        formats.parse_database_header(data)
        assert formats.parse_wal_index(data) is None


def test_lock_rows_leave_out_who_waits_and_what_is_no_lock() -> None:
    end = 2**63 - 1
    assert formats.parse_lock_rows(LOCKS) == (
        LockRow("POSIX", "READ", 812, 8, 1, 42, 123, 123),
        LockRow("FLOCK", "WRITE", 77, 254, 0, 1009, 0, end),
        LockRow("OFDLCK", "WRITE", -1, 0, 31, 7, formats.RESERVED_BYTE, formats.RESERVED_BYTE),
    )


def test_child_has_no_sqlite_in_it() -> None:
    code = "import collectors.raw_reader.server, sys; print({'apsw', 'sqlite3', '_sqlite3'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_killed_child_is_replaced_without_anybody_noticing(queue: prismq.Queue, raw: RawReader) -> None:
    assert raw.read_database_header(queue.path)
    first = raw.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert raw.read_database_header(queue.path)
    assert raw.pid not in (None, first)


def test_hung_child_is_killed_and_replaced(queue: prismq.Queue) -> None:
    with RawReader(answer_within=1.5) as raw:
        raw.read_lock_table()
        hung = raw.pid
        assert hung is not None
        os.kill(hung, signal.SIGSTOP)
        with pytest.raises(RawReaderUnavailable, match=r"within 1\.5 s"):
            raw.read_database_header(queue.path)
        assert not Path(f"/proc/{hung}").exists()
    with RawReader() as raw:
        assert raw.read_database_header(queue.path)


def test_child_that_cannot_start_is_unavailable_not_silent(queue: prismq.Queue) -> None:
    for command in (("/nonexistent",), (sys.executable, "-c", "")):
        with RawReader(command) as raw, pytest.raises(RawReaderUnavailable):
            raw.read_database_header(queue.path)


def test_child_ends_with_its_input_and_when_its_output_is_closed() -> None:
    ended = subprocess.run(CHILD, input="", capture_output=True, text=True, timeout=LONGEST_WAIT)
    assert (ended.returncode, ended.stderr) == (0, "")
    read_end, write_end = os.pipe()
    os.close(read_end)
    request = json.dumps({"do": "locks", "path": ""}) + "\n"
    broken = subprocess.run(
        CHILD, input=request * 3, stdout=write_end, stderr=subprocess.PIPE, text=True, timeout=LONGEST_WAIT
    )
    os.close(write_end)
    assert (broken.returncode, broken.stderr) == (0, "")


def test_what_is_no_database_file_gives_none(tmp_path: Path, raw: RawReader) -> None:
    pipe, short = tmp_path / "pipe", tmp_path / "short"
    os.mkfifo(pipe)
    short.write_bytes(b"SQLite format 3\0")
    assert [raw.read_database_header(path) for path in (pipe, short, tmp_path / "missing")] == [None] * 3


def test_odd_file_names_are_read(make_queue: Callable[..., prismq.Queue], tmp_path: Path, raw: RawReader) -> None:
    assert raw.read_database_header(make_queue("a?b#c%20 'd\n.db").path)
    latin = tmp_path / os.fsdecode(b"caf\xe9.db")
    with apsw.Connection(str(tmp_path / "plain.db")) as connection:
        connection.execute("CREATE TABLE t (a)")
    (tmp_path / "plain.db").rename(latin)
    assert raw.read_database_header(latin)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_file_that_may_not_be_read_is_a_permission_error() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "private.db"
        path.write_bytes(bytes(200))
        path.chmod(0o600)
        Path(folder).chmod(0o755)
        with RawReader(("setpriv", "--reuid=4321", "--clear-groups", *CHILD)) as raw, pytest.raises(PermissionError):
            raw.read_database_header(path)


def test_reading_leaves_the_locks_of_a_live_connection_alone(queue: prismq.Queue, raw: RawReader) -> None:
    queue.put()
    queue.owner.execute("BEGIN IMMEDIATE")
    before = raw.find_held_locks(queue.path)
    for _ in range(20):
        raw.read_database_header(queue.path)
        raw.read_wal_index(queue.path)
    assert raw.find_held_locks(queue.path) == before
    assert {holder.file for holder in before} == {"db", "shm"}


def test_holders_name_the_process_and_what_it_holds(
    queue: prismq.Queue, raw: RawReader, held_reader: HeldReader
) -> None:
    queue.put()
    with held_reader(queue.path) as pid:
        queue.put(number=2)
        queue.put()
        (pinner,) = raw.find_pinning_readers(queue.path)
        index = raw.read_wal_index(queue.path)
    assert pinner.pid == pid
    assert pinner.command.startswith("python")
    assert "held_reader.py" in pinner.command_line
    assert index is not None
    assert pinner.mark == index.marks[pinner.lock_byte - formats.FIRST_READ_BYTE] < index.frames
    assert pinner.blocks_frames == index.frames - pinner.mark


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
def test_who_holds_the_write_lock_is_named(
    make_queue: Callable[..., prismq.Queue], raw: RawReader, journal_mode: str
) -> None:
    queue = make_queue(journal_mode=journal_mode)
    queue.put()
    assert find_write_lock(raw.find_held_locks(queue.path)) is None
    queue.owner.execute("BEGIN IMMEDIATE")
    holder = find_write_lock(raw.find_held_locks(queue.path))
    queue.owner.execute("ROLLBACK")
    assert holder is not None
    assert holder.pid == os.getpid()


def test_flock_is_seen_without_being_taken(queue: prismq.Queue, raw: RawReader) -> None:
    assert raw.find_flock_holder(queue.path) is None
    script = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print('ok', flush=True); input()"
    command = [sys.executable, "-c", script, str(queue.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ok\n"
        assert raw.find_flock_holder(queue.path) == child.pid
        child.kill()
    assert raw.find_flock_holder(queue.path) is None


def test_flock_and_sqlite_locks_do_not_meet(queue: prismq.Queue, raw: RawReader) -> None:
    descriptor = os.open(queue.path.parent, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # of the directory: another inode
    queue.owner.execute("BEGIN IMMEDIATE")
    assert raw.find_flock_holder(queue.path) is None
    queue.owner.execute("ROLLBACK")
    os.close(descriptor)


def test_missing_lock_table_is_unknown_not_unlocked(queue: prismq.Queue) -> None:
    code = (
        "import pathlib, collectors.raw_reader.lock_table as t; t.LOCKS = pathlib.Path('/nowhere')\n"
        "import collectors.raw_reader.server as p; p.main()"
    )
    with RawReader((sys.executable, "-I", "-c", code)) as raw:
        assert raw.read_lock_table() is None
        with pytest.raises(LockTableUnseen):
            raw.find_flock_holder(queue.path)
        with pytest.raises(LockTableUnseen):
            raw.find_held_locks(queue.path)


class Torn:
    """A lock table that leaves out another row each time, as the kernel's may between two of its pages."""

    def __init__(self, rows: int, left_out: tuple[int, ...]) -> None:
        self.rows, self.left_out, self.reads = rows, left_out, 0

    def read_text(self, *_: str) -> str:
        out = self.left_out[self.reads % len(self.left_out)]
        self.reads += 1
        shown = [number for number in range(self.rows) if number != out]
        lines = (f"{at}: POSIX  ADVISORY  READ  7 08:01:{number} 128 128" for at, number in enumerate(shown, 1))
        return "".join(f"{line}\n" for line in lines)


def _table() -> str:
    table = lock_table.read_lock_table()
    assert table is not None
    return table.as_text()


def test_a_row_that_one_reading_of_a_long_table_leaves_out_is_found_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Torn(200, left_out=(17, 99, 17))
    monkeypatch.setattr(lock_table, "LOCKS", table)
    rows = formats.parse_lock_rows(_table())
    assert sorted(row.inode for row in rows) == list(range(200))
    assert table.reads == 3


def test_a_table_of_one_page_is_whole_and_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Torn(20, left_out=(-1,))
    monkeypatch.setattr(lock_table, "LOCKS", table)
    assert len(formats.parse_lock_rows(_table())) == 20
    assert table.reads == 1


INDEX = WalIndex(
    changes=9, page_size=4096, frames=100, pages=10, salt="00", copied=40, marks=(0, 60, 100, 2**32 - 1, 0)
)


def _holder(byte: int, mode: str = "READ", file: str = "shm", kind: str = "POSIX") -> HeldLock:
    return HeldLock(file, LockRow(kind, mode, 5, 8, 1, 42, byte, byte), "app", "app --serve")


@pytest.mark.parametrize(
    ("byte", "blocked"),
    [(123, 60), (124, 40), (125, None), (126, None), (127, 60), (128, None)],
    ids=["database only", "older mark", "newest mark", "unused mark", "mark zero", "not a read slot"],
)
def test_a_reader_blocks_what_lies_beyond_its_mark(byte: int, blocked: int | None) -> None:
    blocked_frames = [pinner.blocks_frames for pinner in pinning_readers(INDEX, [_holder(byte)])]
    assert blocked_frames == ([] if blocked is None else [blocked])


def test_only_read_locks_on_the_wal_index_pin() -> None:
    others = [_holder(124, mode="WRITE"), _holder(124, file="db"), _holder(124, kind="FLOCK")]
    assert pinning_readers(INDEX, others) == ()


def test_checkpointer_is_who_holds_its_byte() -> None:
    running = _holder(formats.CHECKPOINT_BYTE, mode="WRITE")
    assert find_checkpoint_lock([_holder(124), running]) == running
    assert find_checkpoint_lock([_holder(124)]) is None
