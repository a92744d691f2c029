"""Everything that can be wrong with a database: the right word, a cure, the others served, and no trace of us."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import apsw
import pytest

from collectors.access.file_facts import holder_of_replaced_file
from collectors.access.snapshot import Snapshot
from collectors.poll import poll_database
from collectors.raw_reader.client import RawReader
from collectors.raw_reader.formats import LockRow
from collectors.raw_reader.wal_readers import HeldLock
from collectors.target import Limits, Target
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import prismq

CHILD = (sys.executable, "-I", "-m", "collectors.raw_reader.server")
ROOMY = Limits(read_wal=30, read_rollback=30)
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount and to become other users")


def target(path: Path, **changes: object) -> Target:
    return replace(Target("jobs", path, limits=ROOMY), **changes)  # type: ignore[arg-type]


def values(snapshot: Snapshot) -> dict[tuple[str, ...], float]:
    return {(s.metric.name, *s.labels): s.value_at(snapshot.taken_at) for s in snapshot.samples}


@pytest.fixture
def raw() -> Iterator[RawReader]:
    """A raw reader that a loaded machine does not make look hung."""
    with RawReader(answer_within=60) as reader:
        yield reader


# --- what can be wrong; each is a context manager that makes a database at `path` ---


def _at_rest(path: Path, journal_mode: str = "delete", tasks: int = 300) -> None:
    queue = prismq.create(path, journal_mode)
    queue.put(number=tasks)
    queue.owner.close()


@contextmanager
def exclusive_transaction(path: Path) -> Iterator[None]:
    _at_rest(path)
    with prismq.process("exclusive_owner.py", path, "transaction"):
        yield


@contextmanager
def exclusive_mode(path: Path) -> Iterator[None]:
    _at_rest(path, "wal")
    with prismq.process("exclusive_owner.py", path, "mode"):
        yield


@contextmanager
def missing(path: Path) -> Iterator[None]:
    yield


@contextmanager
def missing_folder(path: Path) -> Iterator[None]:
    path.parent.rmdir()
    path.parent.write_text("a file where the folder was")
    yield
    path.parent.unlink()
    path.parent.mkdir()


@contextmanager
def text(path: Path) -> Iterator[None]:
    path.write_text("# jobs\n" * 600)
    yield


@contextmanager
def encrypted(path: Path) -> Iterator[None]:
    path.write_bytes(random.Random(7).randbytes(40960))
    yield


@contextmanager
def torn_header(path: Path) -> Iterator[None]:
    _at_rest(path)
    with path.open("r+b") as file:
        file.truncate(60)
    yield


@contextmanager
def cut_off(path: Path) -> Iterator[None]:
    _at_rest(path)
    with path.open("r+b") as file:
        file.truncate(4096 * 3)
    yield


@contextmanager
def first_page_wiped(path: Path) -> Iterator[None]:
    _at_rest(path)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3996)
    yield


@contextmanager
def hot_journal(path: Path) -> Iterator[None]:
    script = (
        "import apsw, os, sys; c = apsw.Connection(sys.argv[1]); c.pragma('cache_size', 1)\n"
        "c.execute('CREATE TABLE t (a)'); c.execute('INSERT INTO t VALUES (zeroblob(200000))')\n"
        "c.execute('BEGIN IMMEDIATE'); c.execute('UPDATE t SET a = randomblob(200000)'); c.cache_flush()\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    yield


@contextmanager
def owner_down(path: Path) -> Iterator[None]:
    _at_rest(path, "wal")
    yield


@contextmanager
def replaced_by_rename(path: Path) -> Iterator[None]:
    _at_rest(path, "wal")
    with prismq.process("application.py", path, "20"):
        other = path.with_name("other.db")
        _at_rest(other, "wal")
        other.replace(path)
        yield


@contextmanager
def read_only_mount(path: Path) -> Iterator[None]:
    mount = ["mount", "-t", "tmpfs", "none", str(path.parent)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no permission to mount on this machine")
    try:
        _at_rest(path)
        subprocess.run(["mount", "-o", "remount,ro", str(path.parent)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path.parent)], check=True)


@contextmanager
def read_only_mount_with_wal(path: Path) -> Iterator[None]:
    """The image of a running application: its -wal and -shm exist, no process has them open, no file can be created."""
    mount = ["mount", "-t", "tmpfs", "none", str(path.parent)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no permission to mount on this machine")
    try:
        with tempfile.TemporaryDirectory() as folder:
            queue = prismq.create(Path(folder) / path.name)
            queue.put(number=300)
            subprocess.run(["sh", "-c", f'cp "{folder}"/* "{path.parent}"'], check=True)
            queue.owner.close()
        subprocess.run(["mount", "-o", "remount,ro", str(path.parent)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path.parent)], check=True)


@contextmanager
def corrupt_page_in_the_queue(path: Path) -> Iterator[None]:
    """The table's leaves are gone, its header and the indexes are whole."""
    _at_rest(path, tasks=3000)
    with apsw.Connection(str(path)) as connection:
        sql = "SELECT pageno FROM dbstat WHERE name = 'ix_task_status_prio_time' AND pagetype = 'leaf'"
        pages = [row[0] for row in connection.execute(sql)]
    connection.close()
    with path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * 4096)
            file.write(b"\xee" * 4096)
    yield


@dataclass(frozen=True)
class Case:
    make: Callable[[Path], AbstractContextManager[None]]
    state: str
    message: str
    up: bool = False
    size: bool = True


CASES = [
    Case(exclusive_transaction, "busy", "exclusive_owner.py"),
    Case(exclusive_mode, "busy", "locking_mode=EXCLUSIVE"),
    Case(missing, "missing", "is not there", size=False),
    Case(missing_folder, "missing", "is not there", size=False),
    Case(text, "not_a_database", "no SQLite database, or it is encrypted"),
    Case(encrypted, "not_a_database", "no SQLite database, or it is encrypted"),
    Case(torn_header, "not_a_database", "no SQLite database"),
    Case(cut_off, "corrupt", "integrity check"),
    Case(first_page_wiped, "corrupt", "integrity check"),
    Case(hot_journal, "hot_journal", "start the application"),
    Case(owner_down, "owner_down", "no application has it open", up=True),
    Case(replaced_by_rename, "replaced", "application.py"),
    Case(corrupt_page_in_the_queue, "readable", "", up=True),
    pytest.param(Case(read_only_mount, "readable", "", up=True), marks=ROOT),
    pytest.param(Case(read_only_mount_with_wal, "readable", "", up=True), marks=ROOT),
]


def _listing(folder: Path) -> dict[str, int] | None:
    return {p.name: p.stat().st_ino for p in folder.iterdir()} if folder.is_dir() else None


def _ours(raw: RawReader, *paths: Path) -> list[HeldLock]:
    """Locks of ours (this process) and of the raw reader (which the kernel does not name)."""
    return [
        holder for path in paths for holder in raw.find_held_locks(path) if holder.pid in (-1, os.getpid(), raw.pid)
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.make.__name__)
def test_each_trouble_has_its_word_and_cure_and_leaves_no_trace(case: Case, raw: RawReader, tmp_path: Path) -> None:
    folder, beside = tmp_path / "wrong", tmp_path / "beside"
    folder.mkdir()
    beside.mkdir()
    healthy = prismq.create(beside / "fine.db")
    healthy.put(number=5)
    owners = {(h.file, h.row) for h in raw.find_held_locks(healthy.path)}
    path = folder / "queue.db"
    with case.make(path):
        before = _listing(folder)
        first = poll_database(target(path), None, time.time(), raw)
        wrong = poll_database(target(path), first, time.time() + 1, raw)
        fine = poll_database(target(healthy.path), None, time.time() + 1, raw)
        assert (wrong.state, wrong.up) == (case.state, case.up), wrong.message
        assert case.message in wrong.message
        assert ("sqlite_database_size_bytes",) in values(wrong) or not case.size
        assert all(result.message for result in wrong.collectors.values() if not result.success)
        assert values(fine)["sqlite_queue_tasks", "mail", "waiting"] == 5
        assert _listing(folder) == before
        assert _ours(raw, path) == []
    assert {(h.file, h.row) for h in raw.find_held_locks(healthy.path)} == owners
    healthy.owner.close()


def test_a_damaged_index_takes_only_its_own_numbers_with_it(raw: RawReader, tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with corrupt_page_in_the_queue(path):
        snapshot = poll_database(target(path), None, time.time() + 1, raw)
    failed = {name: result.reason for name, result in snapshot.collectors.items() if not result.success}
    assert failed["tasks"] == "corrupt"
    assert snapshot.collectors["storage"].success
    assert list(snapshot.samples_of("sqlite_queue_tasks")) == []


@ROOT
def test_what_may_not_be_read_says_which_right_is_missing() -> None:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        queue = prismq.create(folder / "queue.db")
        stack.callback(queue.owner.close)
        queue.put()
        queue.path.chmod(0o600)
        before = _listing(folder)
        raw = stack.enter_context(RawReader(("setpriv", "--reuid=4321", "--clear-groups", *CHILD)))
        snapshot = poll_database(target(queue.path), None, time.time(), raw)
        assert (snapshot.state, snapshot.up) == ("permission", False)
        assert "run queuekeeper as the database's owner" in snapshot.message
        assert _listing(folder) == before


def test_a_read_of_a_rollback_database_stays_within_its_budget(raw: RawReader, tmp_path: Path) -> None:
    queue = prismq.create(tmp_path / "queue.db", "delete")
    queue.owner.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) "
        "INSERT INTO task_queue (type, status) SELECT 'mail', 'completed' FROM n"
    ).fetchall()
    tight = target(queue.path, limits=Limits(read_rollback=0.004))
    with prismq.process("application.py", queue.path, "5") as child:
        snapshots = [poll_database(tight, None, time.time(), raw) for _ in range(10)]
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.close()
        committed = int(child.stdout.readline())
    reasons = {result.reason for s in snapshots for result in s.collectors.values() if not result.success}
    assert reasons <= {"timeout", "busy"}
    assert "timeout" in reasons or "busy" in {s.state for s in snapshots}
    assert all(not list(s.samples_of("sqlite_unused_bytes")) for s in snapshots), (
        "too large to be read whole within the budget"
    )
    assert committed > 0
    queue.owner.close()


def test_a_database_that_is_deleted_and_made_again_is_read_anew(raw: RawReader, tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    snapshot = None
    waiting = []
    for number in (3, 4, 5):
        queue = prismq.create(path)
        queue.put(number=number)
        snapshot = poll_database(target(path), snapshot, time.time() + 1, raw)
        waiting.append(values(snapshot)["sqlite_queue_tasks", "mail", "waiting"])
        queue.owner.close()
        path.unlink()
        snapshot = poll_database(target(path), snapshot, time.time() + 1, raw)
        assert (snapshot.state, list(snapshot.samples_of("sqlite_queue_tasks"))) == ("missing", [])
    assert waiting == [3, 4, 5]
    assert os.listdir(tmp_path) == []


class Meddling(RawReader):
    """A raw reader that changes the files at one question."""

    def __init__(self, at: str, happens: Callable[[], object]) -> None:
        super().__init__()
        self._at, self._happens = at, happens

    def query_reader(self, what: str, path: Path | None) -> object:
        self._meddle(what)
        return super().query_reader(what, path)

    def release_wal(self, path: Path) -> None:
        self._meddle("release")
        super().release_wal(path)

    def _meddle(self, what: str) -> None:
        if what == self._at:
            self._at = ""
            self._happens()


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
def test_a_file_exchanged_while_it_is_read_gives_no_values(tmp_path: Path, journal_mode: str) -> None:
    path, other = tmp_path / "queue.db", tmp_path / "other.db"
    queue = prismq.create(path, journal_mode)
    queue.put(number=10)
    _at_rest(other, tasks=1000)
    with Meddling("write_lock_uses", lambda: other.replace(path)) as meddling:
        snapshot = poll_database(target(path), None, time.time() + 1, meddling)
    assert (snapshot.state, snapshot.up, snapshot.samples) == ("replaced", False, ())
    assert "the next poll reads the new file" in snapshot.message
    queue.owner.close()


def test_an_owner_that_closes_between_our_look_and_our_open_leaves_what_it_had(tmp_path: Path) -> None:
    queue = prismq.create(tmp_path / "queue.db")
    queue.put(number=10)
    with Meddling("release", queue.owner.close) as meddling:  # the connection is open by then: its own lock stands
        snapshot = poll_database(target(queue.path), None, time.time() + 1, meddling)
    assert (snapshot.state, values(snapshot)["sqlite_queue_tasks", "mail", "waiting"]) == ("readable", 10)
    assert {p.name for p in tmp_path.iterdir()} == {"queue.db", "queue.db-wal", "queue.db-shm"}
    with apsw.Connection(str(queue.path)) as again:
        assert again.execute("SELECT count(*) FROM task_queue").get == 10
    again.close()
    assert os.listdir(tmp_path) == ["queue.db"], "the next time its owner closes, all is as it was"


def test_a_schema_that_changes_under_us_never_breaks_a_poll(raw: RawReader, queue: prismq.Queue) -> None:
    queue.put(number=4)
    stopped = threading.Event()
    changes = 0

    def change() -> None:
        nonlocal changes
        other = apsw.Connection(str(queue.path))
        other.set_busy_timeout(5000)
        while not stopped.is_set() or changes < 3:
            other.execute("ALTER TABLE task_queue RENAME COLUMN lease_until_utc TO lease_end")
            other.execute("ALTER TABLE task_queue RENAME COLUMN lease_end TO lease_until_utc")
            changes += 1
        other.close()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        snapshots = [poll_database(target(queue.path), None, time.time() + 1, raw) for _ in range(60)]
    finally:
        stopped.set()
        thread.join()
    assert changes >= 3
    for snapshot in snapshots:
        assert snapshot.up
        waiting = [s.value for s in snapshot.samples_of("sqlite_queue_tasks") if s.labels == ("mail", "waiting")]
        assert waiting in ([], [4.0], [4])
        assert waiting or not snapshot.collectors["tasks"].success or "profile" in snapshot.message


@pytest.mark.parametrize(
    "name",
    [b"a'b\"c`d.db", b"new\nline.db", b"tab\t and $A.db", b"caf\xe9\xff.db", b"x" * 252 + b".db", b"-r.db", b"a?mode=rw#.db"],
    ids=["quotes", "newline", "blank and dollar", "not UTF-8", "as long as it gets", "like an option", "like a URI"],
)  # fmt: skip
def test_odd_names_are_read_like_any_other(raw: RawReader, tmp_path: Path, name: bytes) -> None:
    plain, path = tmp_path / "plain.db", tmp_path / os.fsdecode(name)
    _at_rest(plain, tasks=7)
    plain.rename(path)
    before = _listing(tmp_path)
    snapshot = poll_database(target(path), None, time.time() + 1, raw)
    assert (snapshot.state, snapshot.up) == ("readable", True), snapshot.message
    assert values(snapshot)["sqlite_queue_tasks", "mail", "waiting"] == 7
    assert all(result.success for result in snapshot.collectors.values())
    assert _listing(tmp_path) == before


def test_a_clock_that_jumps_back_gives_no_negative_age_and_no_state(raw: RawReader, queue: prismq.Queue) -> None:
    now = time.time()
    queue.put(run_after_utc=prismq.stamp(now - 100))
    first = poll_database(target(queue.path), None, now, raw)
    back = poll_database(target(queue.path), first, now - 3600, raw)
    assert min(values(back).values()) >= 0
    assert values(back)["sqlite_wal_state", "unknown"] == 1
    assert values(back)[("sqlite_unused_bytes",)] >= 0
    after = poll_database(target(queue.path), back, now - 3599, raw)
    assert values(after)["sqlite_wal_state", "idle"] == 1


# --- the owner closes while we open ---


def test_sidecars_that_we_saw_cannot_vanish_before_we_have_opened(raw: RawReader, queue: prismq.Queue) -> None:
    queue.put(number=3)
    assert raw.hold_wal(queue.path) == "held"
    queue.owner.close()  # between our look and our open
    assert {p.name for p in queue.path.parent.iterdir()} == {"queue.db", "queue.db-wal", "queue.db-shm"}
    raw.release_wal(queue.path)
    assert raw.find_held_locks(queue.path) == ()


def test_a_closed_owner_is_never_opened_and_a_forgotten_hold_ends(raw: RawReader, queue: prismq.Queue) -> None:
    queue.put()
    raw.hold_wal(queue.path)
    deadline = time.monotonic() + LONGEST_WAIT
    while any(holder.pid == -1 for holder in raw.find_held_locks(queue.path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    queue.owner.close()
    assert os.listdir(queue.path.parent) == ["queue.db"], "no process held it any more: its owner could clean up"
    assert poll_database(target(queue.path), None, time.time(), raw).state == "owner_down"
    assert os.listdir(queue.path.parent) == ["queue.db"]


@ROOT
@pytest.mark.parametrize("polls", [40, pytest.param(300, marks=[pytest.mark.soak, pytest.mark.timeout(600)])])
def test_beside_an_owner_that_opens_and_closes_all_the_time_we_make_no_file(polls: int) -> None:
    """The poller is another user in a shared directory: a file of ours would carry our name."""
    folder = Path(tempfile.mkdtemp(prefix="queuekeeper-test-"))
    try:
        _at_rest(folder / "queue.db", "wal", tasks=1)
        os.chown(folder / "queue.db", 0, 4999)
        (folder / "queue.db").chmod(0o660)
        os.chown(folder, 0, 4999)
        folder.chmod(0o2770)
        script = (
            "import os, sys, time; from pathlib import Path\n"
            "from collectors.poll import poll_database; from collectors.raw_reader.client import RawReader\n"
            "from collectors.target import Limits, Target\n"
            "raw = RawReader(); raw.read_lock_table(); os.setgroups([]); os.setgid(4999); os.setuid(4999)\n"
            "target, states, made = Target('jobs', Path(sys.argv[1]), limits=Limits(30, 30, 30, 30)), set(), 0\n"
            "for _ in range(int(sys.argv[2])):\n"
            "    snapshot = poll_database(target, None, time.time(), raw); states.add(snapshot.state)\n"
            "    if snapshot.state not in ('readable', 'owner_down'): print(snapshot.message, file=sys.stderr)\n"
            "    for suffix in ('-wal', '-shm'):\n"
            "        try: made += os.stat(sys.argv[1] + suffix).st_uid == 4999\n"
            "        except FileNotFoundError: pass\n"
            "print(made, *sorted(states), flush=True); os._exit(0)"
        )
        with prismq.process("opening_and_closing.py", folder / "queue.db") as owner:
            command = [sys.executable, "-c", script, str(folder / "queue.db"), str(polls)]
            made, *states = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
            assert owner.stdin is not None
            assert owner.stdout is not None
            owner.stdin.close()
            assert int(owner.stdout.readline()) > 10
        assert made == "0"
        assert set(states) == {"readable", "owner_down"}
    finally:
        shutil.rmtree(folder)


# --- replaced under its application ---


def _row(file: str, pid: int, byte: int = 128) -> HeldLock:
    return HeldLock(file, LockRow("POSIX", "READ", pid, 8, 1, 42, byte, byte), "app", "app")


def test_who_has_the_index_but_not_the_file_works_on_another_file() -> None:
    both = [_row("db", 7), _row("shm", 7)]
    assert holder_of_replaced_file(both) is None
    assert holder_of_replaced_file([*both, _row("db", 8)]) is None
    assert holder_of_replaced_file([*both, _row("shm", os.getpid()), _row("shm", -1)]) is None
    holder = holder_of_replaced_file([*both, _row("shm", 8)])
    assert holder is not None
    assert holder.pid == 8


def test_a_file_put_back_in_its_place_is_read_again(raw: RawReader, tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with replaced_by_rename(path):
        assert poll_database(target(path), None, time.time(), raw).state == "replaced"
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").unlink()
    with prismq.process("application.py", path, "50"):
        assert poll_database(target(path), None, time.time(), raw).state == "readable"
