"""A WAL database that no process has open is read without a trace where nothing can be made, and only what is proved counts."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from actions.backups.consistent_copy import copy_and_prove
from actions.model.context import ActionContext
from actions.model.errors import Unverified
from actions.model.events import Event
from actions.model.stop import StopSignal
from collectors.access.at_rest import (
    RestState,
    find_rest_problem,
    needs_reading_at_rest,
    open_at_rest,
    open_live_or_at_rest,
)
from collectors.access.errors import NotAtRest
from collectors.poll import poll_database
from collectors.raw_reader.client import RawReader
from collectors.target import BackupSettings, Limits, Target
from queuekeeper import QueueMaintenance
from tests.support.scenes.run_actions import by_hand, planned, target_of
from tests.support.scenes.second_names import as_root, at_rest, hard_link, read_only_view

WAL_HEADER = (b"SQLite format 3\0" + b"\x10\x00\x02\x02" + bytes(80)).hex()
STATE = RestState((1, 2, 4096, 10, 10), WAL_HEADER)
COUNT = "SELECT count(*) FROM task_queue"


@pytest.mark.parametrize(
    ("now", "problem"),
    [
        (STATE, ""),
        (replace(STATE, beside=("q.db-wal",)), "q.db-wal is there"),
        (replace(STATE, shared=True), "a lock"),
        (replace(STATE, header=WAL_HEADER.replace("0202", "0101")), "no database in WAL mode"),
        (replace(STATE, header=WAL_HEADER[:-2] + "01"), "changed while it was read"),
        (replace(STATE, file=(1, 2, 4096, 11, 10)), "changed while it was read"),
        (replace(STATE, file=(1, 2, 4096, 10, 11)), "changed while it was read"),
        (replace(STATE, file=(1, 3, 4096, 10, 10)), "changed while it was read"),
    ],
)
def test_a_database_was_at_rest_when_nothing_changed(now: RestState, problem: str) -> None:
    assert problem in find_rest_problem(STATE, now)
    assert bool(problem) == bool(find_rest_problem(STATE, now))


@pytest.fixture
def raw() -> Iterator[RawReader]:
    with RawReader(answer_within=60) as reader:
        yield reader


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A queue of 50 tasks whose owner has closed it."""
    at_rest(tmp_path / "app" / "queue.db", "wal")
    return tmp_path / "app" / "queue.db"


@pytest.fixture
def view(path: Path, tmp_path: Path) -> Iterator[Path]:
    """The same file where nothing can be written."""
    with read_only_view(path.parent, tmp_path / "view"):
        yield tmp_path / "view" / path.name


def commit(path: Path, *, close: bool = True) -> apsw.Connection:
    """An application commits one task, and ends in the regular way unless it is to stay."""
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO task_queue (type) VALUES ('late')")
    if close:
        connection.close()
    return connection


# --- the proof ---


def test_what_is_read_at_rest_is_proved_and_leaves_nothing(path: Path, raw: RawReader) -> None:
    with open_at_rest(Target("jobs", path), raw) as resting:
        assert resting.connection.execute(COUNT).get == 50
        resting.require_unchanged()
    assert os.listdir(path.parent) == ["queue.db"]
    assert raw.find_held_locks(path) == ()


def _comes_and_stays(path: Path) -> apsw.Connection:
    return commit(path, close=False)


def _comes_and_goes(path: Path) -> None:
    commit(path)


def _copied_over(path: Path) -> None:
    """With the same size and time: a deployment that ships the file."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _replaced(path: Path) -> None:
    shutil.copy2(path, path.with_name("new"))
    path.with_name("new").rename(path)


@pytest.mark.parametrize("event", [_comes_and_stays, _comes_and_goes, _copied_over, _replaced])
def test_what_changed_meanwhile_is_not_proved(path: Path, raw: RawReader, event: Callable[[Path], object]) -> None:
    with open_at_rest(Target("jobs", path), raw) as resting:
        resting.connection.execute(COUNT).fetchall()
        remembered = event(path)
        with pytest.raises(NotAtRest):
            resting.require_unchanged()
    del remembered


def test_a_commit_that_came_and_went_is_kept_by_its_wal(path: Path, raw: RawReader) -> None:
    """Our lock keeps the last connection from deleting it; the next one finds all."""
    with open_at_rest(Target("jobs", path), raw):
        commit(path)
        assert path.with_name("queue.db-wal").exists()
    commit(path)
    assert os.listdir(path.parent) == ["queue.db"]
    with apsw.Connection(str(path)) as database:
        assert database.execute(COUNT).get == 52


def test_a_lock_that_was_lost_proves_nothing(path: Path, raw: RawReader) -> None:
    with open_at_rest(Target("jobs", path), raw) as resting:
        raw.release_wal(path)
        with pytest.raises(NotAtRest, match="the lock that keeps it at rest was lost"):
            resting.require_unchanged()


def test_it_lasts_for_longer_than_a_hold(path: Path, raw: RawReader) -> None:
    with open_at_rest(Target("jobs", path), raw) as resting:
        time.sleep(2.5)  # holds end by themselves after two seconds
        raw.read_lock_table()
        resting.require_unchanged()


def test_a_live_a_linked_and_a_crashed_database_are_not_at_rest(path: Path, raw: RawReader, tmp_path: Path) -> None:
    target = Target("jobs", path)
    connection = commit(path, close=False)
    with pytest.raises(NotAtRest, match=r"queue\.db-wal is there"), open_at_rest(target, raw):
        pass
    connection.close()
    with hard_link(path, tmp_path / "other.db"), pytest.raises(NotAtRest, match="2 names"), open_at_rest(target, raw):
        pass
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "delete")
    connection.close()
    with pytest.raises(NotAtRest), open_at_rest(target, raw):
        pass


# --- on a read-only mount ---


@as_root
def test_a_poll_reads_its_values(view: Path, raw: RawReader) -> None:
    snapshot = poll_database(Target("jobs", view, limits=Limits(read_wal=30)), None, time.time(), raw)
    assert (snapshot.state, snapshot.up) == ("readable", True)
    assert sum(sample.value_at(0) for sample in snapshot.samples_of("sqlite_queue_tasks")) == 50
    states = {sample.labels[-1]: sample.value_at(0) for sample in snapshot.samples_of("sqlite_wal_state")}
    assert states["absent"] == 1
    assert all(result.success for result in snapshot.collectors.values())
    assert os.listdir(view.parent) == ["queue.db"]
    assert raw.find_held_locks(view) == ()


@as_root
def test_a_poll_beside_an_application_that_comes_publishes_nothing_old(
    path: Path, view: Path, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application commits after the values were read, and before the proof."""
    from collectors import enqueued

    real = enqueued.read

    def read_late(*arguments: object) -> object:
        commit(path)
        return real(*arguments)  # type: ignore[arg-type] # what it was called with

    target = Target("jobs", view, limits=Limits(read_wal=30))
    monkeypatch.setattr(enqueued, "read", read_late)
    snapshot = poll_database(target, None, time.time(), raw)
    assert (snapshot.state, snapshot.up, snapshot.samples, snapshot.signature) == ("owner_down", True, (), None)
    assert "queue.db-wal is there" in snapshot.message


@as_root
def test_it_is_backed_up_verified_and_checked(view: Path, tmp_path: Path) -> None:
    place = BackupSettings(tmp_path / "backups", own_folder=False)
    target = replace(target_of(view, backup=place, limits=Limits(disk_reserve=0)), state=tmp_path / "state")
    for action, options in (
        ("backup", {}),
        ("backup", {"full": True}),
        ("verify", {}),
        ("drill", {}),
        ("integrity", {}),
    ):
        run = by_hand(target, action, **options)
        assert run.outcome == "done", f"{action}: {run.message}"
        if action == "backup":
            with apsw.Connection(str(run.figures["path"])) as copy:
                assert copy.execute(COUNT).get == 50
    assert os.listdir(view.parent) == ["queue.db"]
    assert QueueMaintenance(view, state=tmp_path / "state").get_database_stats().page_size == 4096


def _context(target: Target, raw: RawReader, emit: Callable[[Event], None]) -> ActionContext:
    return ActionContext(
        target=target,
        options={},
        automatic=False,
        trust_owner=False,
        last_attempt=None,
        source_failure=None,
        raw=raw,
        stop=StopSignal(),
        now=time.time,
        emit=emit,
    )


@as_root
@pytest.mark.parametrize("phase", ["copy", "compare"])
@pytest.mark.parametrize("stays", [True, False])
def test_a_backup_beside_an_application_that_comes_has_its_commit_or_fails(
    path: Path, view: Path, raw: RawReader, phase: str, stays: bool
) -> None:
    target = replace(target_of(view), limits=Limits(disk_reserve=0))
    connections: list[apsw.Connection] = []

    def come(event: Event) -> None:
        if not connections and phase in str(event):
            connections.append(commit(path, close=not stays))

    copy = path.parent.parent / "copy.db"
    copy.touch()
    with suppress(Unverified):
        copy_and_prove(_context(target, raw, come), copy)
        assert _count(copy) == 51, "published as a copy of the newest commit"
    assert connections


def _count(copy: Path) -> int:
    with apsw.Connection(str(copy)) as database:
        return int(database.execute(COUNT).get)


def test_a_live_database_is_read_as_ever(path: Path, raw: RawReader) -> None:
    connection = commit(path, close=False)
    with open_live_or_at_rest(Target("jobs", path), raw) as database:
        assert database.execute(COUNT).get == 51
    connection.close()


@as_root
def test_what_an_action_would_change_is_planned_there_and_its_run_names_the_folder(view: Path, tmp_path: Path) -> None:
    with apsw.Connection(str(tmp_path / "app" / "queue.db")) as owner:
        owner.execute("UPDATE task_queue SET status = 'processing', lease_until_utc = '2020-01-01 00:00:00'")
    owner.close()
    target = replace(target_of(view, limits=Limits(disk_reserve=0)), state=tmp_path / "state")
    plan = planned(target, "requeue", {"workers_stopped": True})
    assert plan.message.startswith("planned only: give 50 tasks back"), plan
    for action, options in (("requeue", {"workers_stopped": True}), ("analyze", {})):
        run = by_hand(target, action, **options)
        assert (run.outcome, run.reason) == ("failed", "read_only"), f"{action}: {run.message}"
        assert f"{view.parent} cannot be written here" in run.message
        assert "mounted writable" in run.next_step


@as_root
def test_the_files_beside_a_symbolic_link_prove_nothing(path: Path, view: Path, raw: RawReader) -> None:
    link = path.parent.parent / "link.db"
    link.symlink_to(view)
    connection = commit(path, close=False)
    with pytest.raises(NotAtRest, match="wal is there"), open_at_rest(Target("jobs", link), raw):
        pass
    assert not needs_reading_at_rest(Target("jobs", link), raw)
    connection.close()
    assert needs_reading_at_rest(Target("jobs", link), raw)
