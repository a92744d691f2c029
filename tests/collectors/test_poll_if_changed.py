"""What did not change is not opened again; what changed, or grows wrong by the clock, is."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from collectors import disk
from collectors.access.change_detection import SETTLED_AFTER, FileSignature, is_settled, read_signature
from collectors.access.refresh import REOPEN_AFTER, any_reading_can_age, reason_to_open
from collectors.access.snapshot import CollectorResult, Snapshot
from collectors.leases import LeasesReading
from collectors.poll_if_changed import poll_if_changed
from collectors.queue_profiles.run_queries import QueueCount
from collectors.queue_profiles.schema import TaskState
from collectors.raw_reader.client import RawReader
from collectors.raw_reader.wal_readers import PinningReader
from collectors.storage import StorageReading
from collectors.target import BackupSettings, Target
from collectors.tasks import TasksReading
from collectors.wal import WalReading
from collectors.wal_state import WalMemory, WalObservation
from collectors.workers import WorkerCounts
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import prismq

NOW = 1_800_000_000.0
SIGNED = FileSignature((1, 2, 3, 4), None, None, settled=True)


class Opens:
    """How often SQLite opens each file in this process, seen by its own connection hook."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def __call__(self, connection: apsw.Connection) -> None:
        self.paths.append(connection.filename)


@pytest.fixture
def opens() -> Iterator[Opens]:
    hook = Opens()
    apsw.connection_hooks.append(hook)
    yield hook
    apsw.connection_hooks.remove(hook)


def settle(path: Path) -> None:
    """Give the files an older time, as if they had been written a while ago."""
    for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-journal"))):
        if file.exists():
            os.utime(file, (time.time() - 10, time.time() - 10))


def read(**changes: object) -> Snapshot:
    fields: dict[str, object] = {"signature": SIGNED, "opened_at": NOW - 15, "taken_at": NOW - 15, "up": True}
    fields |= {"target": Target("a", Path("/a")), "state": "readable"}
    return Snapshot(**{**fields, **changes})  # type: ignore[arg-type]


def test_what_did_not_change_is_not_opened() -> None:
    assert reason_to_open(read(), SIGNED, NOW) == ""


@pytest.mark.parametrize(
    ("previous", "signature", "reason"),
    [
        (None, SIGNED, "never read"),
        (read(signature=None), SIGNED, "never read"),
        (read(), replace(SIGNED, database=(1, 9, 3, 4)), "changed"),
        (read(), replace(SIGNED, database=(1, 2, 9, 4)), "changed"),
        (read(), replace(SIGNED, wal=(0, 1, 1, 1)), "changed"),
        (read(), replace(SIGNED, journal=(0, 1, 1, 1)), "changed"),
        (read(), replace(SIGNED, database=None), "changed"),
        (read(signature=replace(SIGNED, settled=False)), SIGNED, "changed"),
        (read(opened_at=NOW - REOPEN_AFTER), SIGNED, "long ago"),
        (read(opened_at=NOW + 60), SIGNED, "long ago"),
        (read(up=False, state="busy"), SIGNED, "not read"),
        (read(collectors={"tasks": CollectorResult(False, 0.1, "busy")}), SIGNED, "not read"),
        (read(can_age=True), SIGNED, "ages"),
    ],
)
def test_each_reason_to_open(previous: Snapshot | None, signature: FileSignature, reason: str) -> None:
    assert reason_to_open(previous, signature, NOW) == reason


def test_an_application_that_is_down_is_left_alone_until_a_file_changes() -> None:
    down = read(state="owner_down", collectors={"tasks": CollectorResult(False, 0.0, "owner_down")}, can_age=True)
    assert reason_to_open(down, SIGNED, NOW) == ""
    assert reason_to_open(down, replace(SIGNED, wal=(0, 1, 1, 1)), NOW) == "changed"


def test_what_was_written_within_a_clock_tick_of_the_look_is_not_trusted() -> None:
    ns = round(NOW * 1e9)
    assert is_settled(((1, ns - 2 * SETTLED_AFTER, 1, 1), None, None), NOW)
    assert not is_settled(((1, ns - SETTLED_AFTER // 2, 1, 1), None, None), NOW)
    assert not is_settled((None, (1, ns + 5 * SETTLED_AFTER, 1, 1), None), NOW), "a time in the future proves nothing"


def counted(state: TaskState, rows: int) -> TasksReading:
    return TasksReading("prismq", (state,), {("mail", state): QueueCount("mail", rows, None)})


def wal(frames: int, copied: int, pinners: tuple[PinningReader, ...] = (), earlier: bool = True) -> WalReading:
    seen = WalObservation(NOW, "", 0, frames, copied, frozenset(), seen=True)
    return WalReading("idle", frames, copied, 4096, pinners, {}, WalMemory(seen if earlier else None, seen))


@pytest.mark.parametrize(
    ("readings", "old"),
    [
        ((counted("waiting", 3), counted("done", 9)), False),
        ((counted("running", 1),), True),
        ((counted("scheduled", 1),), True),
        ((counted("running", 0),), False),
        ((LeasesReading(known=True, counts={"mail": QueueCount("mail", 1, NOW)}),), True),
        ((WorkerCounts(known=True, alive=0, stale=3),), False),
        ((WorkerCounts(known=True, alive=1),), True),
        ((wal(900, 0),), False),
        ((wal(1500, 100),), True),
        ((wal(10, 0, (PinningReader(7, "python3", "", 124, 5, 5),)),), True),
        ((wal(0, 0, earlier=False),), True),
        ((StorageReading(1, 1, 1, 1, 1), None), False),
    ],
)
def test_what_the_clock_or_a_reader_can_make_wrong_is_read_again(readings: tuple[object, ...], old: bool) -> None:
    assert any_reading_can_age({str(number): reading for number, reading in enumerate(readings)}) is old


def test_every_kind_of_commit_shows_in_the_signature(make_queue: Callable[..., prismq.Queue]) -> None:
    for journal in ("wal", "delete", "truncate", "persist"):
        queue = make_queue(f"{journal}.db", journal)
        target = Target(journal, queue.path)
        queue.put()
        if journal == "wal":
            queue.value("PRAGMA wal_checkpoint")  # what comes next reuses the file from its beginning
        for _ in range(3):
            settle(queue.path)
            before = read_signature(target, time.time())
            assert before.settled
            assert read_signature(target, time.time()).is_same_as(before)
            queue.put()
            assert not read_signature(target, time.time()).is_same_as(before), journal


def test_a_quiet_database_is_opened_once_and_its_age_grows_on(
    queue: prismq.Queue, raw: RawReader, opens: Opens
) -> None:
    queue.put("queued", run_after_utc=prismq.stamp(time.time() - 100))
    settle(queue.path)
    target, now = Target("jobs", queue.path), time.time()
    first = poll_if_changed(target, None, now, raw)
    second = poll_if_changed(target, first, now + 1, raw)  # the first look at a WAL cannot tell its state
    third = poll_if_changed(target, second, now + 60, raw)
    assert len(opens.paths) == 2
    assert (third.taken_at, third.opened_at) == (now + 60, now + 1)
    (age,) = third.samples_of("sqlite_queue_oldest_waiting_age_seconds")
    assert age.value_at(now + 60) == pytest.approx(160, abs=2)


def test_a_commit_is_seen_at_the_next_look(queue: prismq.Queue, raw: RawReader) -> None:
    queue.put("queued", 2)
    target, now = Target("jobs", queue.path), time.time()
    before = poll_if_changed(target, poll_if_changed(target, None, now, raw), now + 1, raw)
    queue.put("queued", 3)
    after = poll_if_changed(target, before, now + 2, raw)
    waiting = [s.value for s in after.samples_of("sqlite_queue_tasks") if s.labels[1] == "waiting"]
    assert waiting == [5]


def test_a_reader_that_begins_to_pin_a_quiet_wal_is_seen_and_seen_to_leave(
    queue: prismq.Queue, raw: RawReader, opens: Opens, held_reader: Callable[[Path], AbstractContextManager[int]]
) -> None:
    queue.put(number=3)
    target, now = Target("jobs", queue.path), time.time()
    with held_reader(queue.path):
        with queue.owner:  # the newest frames are not the reader's
            queue.owner.execute("UPDATE task_queue SET priority = 1")
        settle(queue.path)
        calm = replace(
            poll_if_changed(target, poll_if_changed(target, None, now, raw), now + 1, raw), can_age=False, collectors={}
        )  # as if it had been read before the reader came
        opens.paths.clear()
        pinned = until(lambda at: poll_if_changed(target, calm, at, raw), lambda _: bool(opens.paths), now + 16)
        again = poll_if_changed(target, pinned, pinned.taken_at + 15, raw)
    assert state_of(again) == "pinned"
    after_leaving = poll_if_changed(target, again, again.taken_at + 15, raw)
    assert state_of(after_leaving) == "idle"
    opens.paths.clear()
    until(
        lambda at: poll_if_changed(target, after_leaving, at, raw),
        lambda _: not raw.is_pinned(queue.path),
        after_leaving.taken_at + 15,
    )
    opens.paths.clear()
    poll_if_changed(target, after_leaving, after_leaving.taken_at + 30, raw)
    assert opens.paths == []


def until(
    look: Callable[[float], Snapshot], reached: Callable[[Snapshot], bool], now: float, within: float = LONGEST_WAIT
) -> Snapshot:
    """Look again and again until it is reached."""
    deadline = time.monotonic() + within
    snapshot = look(now)
    while not reached(snapshot) and time.monotonic() < deadline:
        time.sleep(0.05)
        snapshot = look(now)
    return snapshot


def state_of(snapshot: Snapshot) -> str:
    return next(sample.labels[0] for sample in snapshot.samples_of("sqlite_wal_state") if sample.value == 1)


def test_a_file_that_is_replaced_or_goes_is_seen(queue: prismq.Queue, raw: RawReader, tmp_path: Path) -> None:
    target, now = Target("jobs", queue.path), time.time()
    queue.owner.close()
    settle(queue.path)
    before = poll_if_changed(target, None, now, raw)
    assert (before.state, before.up) == ("owner_down", True)
    queue.path.rename(tmp_path / "elsewhere.db")
    gone = poll_if_changed(target, before, now + 1, raw)
    assert (gone.state, gone.up) == ("missing", False)


def test_opens_follow_what_changed(make_queue: Callable[..., prismq.Queue], raw: RawReader, opens: Opens) -> None:
    """Forty databases, four of them change: at most six are opened."""
    queues = [make_queue(f"q{number}.db") for number in range(40)]
    for queue in queues:
        queue.put("queued", 3)
        settle(queue.path)
    now = time.time()
    targets = [Target(queue.path.stem, queue.path) for queue in queues]
    known = {target.name: poll_if_changed(target, None, now, raw) for target in targets}
    known = {target.name: poll_if_changed(target, known[target.name], now + 1, raw) for target in targets}
    opens.paths.clear()
    for queue in queues[:4]:
        queue.put()
    known = {target.name: poll_if_changed(target, known[target.name], now + 15, raw) for target in targets}
    assert {Path(path).stem for path in opens.paths} == {"q0", "q1", "q2", "q3"}
    assert len(opens.paths) <= 6
    assert all(snapshot.taken_at == now + 15 for snapshot in known.values())


def test_what_lies_beside_an_unchanged_database_is_read_again(
    queue: prismq.Queue, raw: RawReader, opens: Opens, tmp_path: Path
) -> None:
    queue.put()
    settle(queue.path)
    place = BackupSettings(tmp_path / "backups")
    target, now = Target("jobs", queue.path, backup=place), time.time()
    before = poll_if_changed(target, poll_if_changed(target, None, now, raw), now + 1, raw)
    (place.directory / "jobs").mkdir(parents=True)
    ((place.directory / "jobs") / "queue_backup_jobs_20260101T000000Z.db").write_bytes(b"no manifest")
    opens.paths.clear()
    after = poll_if_changed(target, before, now + 15, raw)
    assert opens.paths == []
    assert {s.labels[0]: s.value for s in after.samples_of("sqlite_backups")}["unverified"] == 1
    assert len(list(after.samples_of("sqlite_pages"))) == 1
    assert len(after.samples) == len({(s.metric.name, s.labels) for s in after.samples})


@pytest.mark.parametrize("made", [False, True])
def test_free_space_is_read_once_for_all_databases_of_a_directory(
    make_queue: Callable[..., prismq.Queue], raw: RawReader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, made: bool
) -> None:
    asked: list[object] = []
    usage = disk.shutil.disk_usage
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda place: asked.append(place) or usage(place))
    now = time.time() + 1000
    for number in range(5):
        target = Target(f"q{number}", make_queue(f"q{number}.db").path, backup=BackupSettings(tmp_path / "backups"))
        if made:
            (tmp_path / "backups" / target.name).mkdir(parents=True)
        snapshot = poll_if_changed(target, None, now, raw)
        assert {s.labels[0] for s in snapshot.samples_of("sqlite_disk_free_bytes")} == {"database", "backups", "temp"}
    assert len(asked) <= 3


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_free_space_of_a_folder_on_another_file_system_is_its_own(
    queue: prismq.Queue, raw: RawReader, tmp_path: Path
) -> None:
    if os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("/dev/shm is on the file system of the tests")
    settings = BackupSettings(tmp_path / "backups")
    settings.directory.mkdir()
    (settings.directory / "jobs").symlink_to("/dev/shm")
    snapshot = poll_if_changed(Target("jobs", queue.path, backup=settings), None, time.time(), raw)
    sizes = {s.labels[0]: s.value for s in snapshot.samples_of("sqlite_disk_size_bytes")}
    assert sizes["backups"] == shutil.disk_usage("/dev/shm").total


def test_a_target_that_is_configured_otherwise_is_read_anew(queue: prismq.Queue, raw: RawReader) -> None:
    settle(queue.path)
    target, now = Target("jobs", queue.path), time.time()
    before = poll_if_changed(target, poll_if_changed(target, None, now, raw), now + 1, raw)
    proved = poll_if_changed(replace(target, owner_sqlite="3.51.3"), before, now + 2, raw)
    assert [s.value for s in proved.samples_of("sqlite_owner_wal_reset_vulnerable")] == [0]
