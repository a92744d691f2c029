"""A dry run of a restore promises what the run can do: places that cannot be written, disks too small, damage."""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from actions.backups.publish import create_partial_file
from collectors.target import BackupSettings, Limits, Target
from tests.support.scenes import prismq
from tests.support.scenes.run_actions import by_hand, planned, target_of
from tests.support.scenes.small_disk import fill, small_disk


@pytest.fixture
def target(queue: prismq.Queue, tmp_path: Path) -> Target:
    queue.put("queued", 20)
    return target_of(queue.path, backup=BackupSettings(tmp_path / "b", own_folder=False), limits=Limits(disk_reserve=0))


def both(target: Target, **options: Any) -> tuple[str, str]:
    """(outcome of the dry run, outcome of the run), and that both say the same where neither is done."""
    event = planned(target, "restore", options)
    run = by_hand(target, "restore", **options)
    if run.outcome != "done":
        assert (event.message, event.figures["next_step"]) == (run.message, run.next_step)
        assert "[Errno" not in run.message
    return str(event.figures["outcome"]), str(run.outcome)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)


def test_a_safety_copy_that_cannot_be_written_is_refused_when_planned_and_goes_elsewhere_by_word(
    target: Target, queue: prismq.Queue, tmp_path: Path
) -> None:
    """The backups lie on a medium that is mounted read-only."""
    with small_disk(tmp_path / "medium", 16) as medium:
        there = replace(target, backup=BackupSettings(medium / "b", own_folder=False))
        assert by_hand(there, "backup").outcome == "done"
        queue.put("queued", 7)
        with read_only(medium):
            assert both(there, in_place=True) == ("refused", "refused")
            run = by_hand(there, "restore", in_place=True)
            assert run.reason == "not_writable"
            assert "the safety copy cannot be written" in run.message
            assert "--safety-to DIR" in str(run.next_step)
            assert queue.value("SELECT count(*) FROM task_queue") == 27
            other = tmp_path / "other"
            assert both(there, in_place=True, safety_to=str(other)) == ("done", "done")
    assert queue.value("SELECT count(*) FROM task_queue") == 20
    assert len(list(other.glob("*.db"))) == 1


def test_a_new_path_on_a_read_only_mount_or_in_no_folder(target: Target, tmp_path: Path) -> None:
    assert by_hand(target, "backup").outcome == "done"
    with small_disk(tmp_path / "small", 16) as disk, read_only(disk):
        assert both(target, to=str(disk / "x.db")) == ("refused", "refused")
    assert both(target, to=str(tmp_path / "no" / "folder" / "x.db")) == ("refused", "refused")
    assert "mkdir -p" in str(by_hand(target, "restore", to=str(tmp_path / "no" / "x.db")).next_step)


def test_a_live_database_on_a_read_only_mount(target: Target, queue: prismq.Queue, tmp_path: Path) -> None:
    backup = Path(str(by_hand(target, "backup").figures["path"]))
    queue.owner.close()
    with small_disk(tmp_path / "small", 16) as disk:
        (disk / "queue.db").write_bytes(target.path.read_bytes())
        connection = apsw.Connection(str(disk / "queue.db"))
        connection.execute("PRAGMA journal_mode=DELETE").fetchall()
        connection.close()
        live = replace(target, path=disk / "queue.db")
        options = {"in_place": True, "backup": str(backup)}
        with read_only(disk):
            assert both(live, **options)[0] == both(live, **options)[1] != "done"


@pytest.mark.parametrize("way", ["missing", "malformed"])
def test_a_process_that_has_the_replaced_file_open_is_met_by_the_dry_run(
    way: str, target: Target, queue: prismq.Queue
) -> None:
    assert by_hand(target, "backup").outcome == "done"
    queue.owner.close()
    with target.path.open("rb") as file:
        user = subprocess.Popen(["sleep", "600"], stdin=file)
    with user:
        target.path.unlink() if way == "missing" else target.path.write_bytes(b"\x00" * 5000)
        outcomes = both(target, in_place=True)
        user.kill()
    assert outcomes == ("blocked", "blocked")
    assert both(target, in_place=True) == ("done", "done")


def test_needs_on_one_disk_are_added(target: Target, tmp_path: Path) -> None:
    """The safety copy and the WAL of the live database fit one by one, and not together."""
    with small_disk(tmp_path / "small", 64) as disk:
        (disk / "app").mkdir()
        live = prismq.create(disk / "app" / "queue.db", "wal", 4096)
        live.put("queued", 3)
        live.owner.execute("CREATE TABLE ballast (bytes); INSERT INTO ballast VALUES (zeroblob(6000000))")
        live.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        there = replace(target, path=live.path, backup=BackupSettings(disk / "b", own_folder=False))
        assert by_hand(there, "backup").outcome == "done"
        fill(disk, 9_000_000)
        assert both(there, in_place=True) == ("refused", "refused")
        assert "12" in str(by_hand(there, "restore", in_place=True).message)
        (disk / "filler").unlink()
        assert both(there, in_place=True) == ("done", "done")
        live.owner.close()


def test_damage_that_a_safety_copy_would_meet_is_met_by_the_dry_run(target: Target, queue: prismq.Queue) -> None:
    queue.put("queued", 500, idempotency_key=None)
    assert by_hand(target, "backup").outcome == "done"
    page = int(queue.value("SELECT rootpage FROM sqlite_schema WHERE name = 'ix_task_type_status'"))
    queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    queue.owner.close()
    with target.path.open("r+b") as file:
        file.seek(page * 4096 - 20)
        file.write(b"\xff" * 20)
    assert both(target, in_place=True) == ("unverified", "unverified")
    run = by_hand(target, "restore", in_place=True)
    assert run.reason == "damaged_source"
    assert "--application-stopped" in str(run.next_step)
    assert both(target, in_place=True, application_stopped=True) == ("done", "done")


def test_where_the_check_takes_too_long_the_dry_run_says_that_it_is_unsure(target: Target, queue: prismq.Queue) -> None:
    queue.put("queued", 3000)
    assert by_hand(target, "backup").outcome == "done"
    hurried = replace(target, limits=Limits(disk_reserve=0, read_wal=0.0001))
    event = planned(hurried, "restore", {"in_place": True})
    assert event.figures["outcome"] == "done"
    assert "was not checked whole" in str(event.figures["warnings"])


def test_a_dry_run_leaves_nothing_behind(target: Target, queue: prismq.Queue, tmp_path: Path) -> None:
    assert by_hand(target, "backup").outcome == "done"
    before = sorted(path for path in tmp_path.rglob("*") if "state" not in path.parts)
    planned(target, "restore", {"in_place": True})
    planned(target, "restore", {"to": str(tmp_path / "x.db")})
    assert sorted(path for path in tmp_path.rglob("*") if "state" not in path.parts) == before
    assert list((target.state / "scratch").iterdir()) == []


# --- a full disk in the middle, and kill -9


@pytest.mark.parametrize("way", ["to", "missing", "malformed"])
def test_a_disk_that_fills_up_meanwhile_leaves_what_was_there(
    target: Target, queue: prismq.Queue, tmp_path: Path, way: str
) -> None:
    """There was room when it was planned; then no file may grow beyond 1 MB (setrlimit(2), RLIMIT_FSIZE)."""
    queue.owner.execute("CREATE TABLE ballast (bytes); INSERT INTO ballast VALUES (zeroblob(2000000))")
    assert by_hand(target, "backup").outcome == "done"
    queue.owner.close()
    if way == "missing":
        target.path.unlink()
    elif way == "malformed":
        target.path.write_bytes(b"\0" * 5000)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("queue.db*")}
    options = {"to": str(tmp_path / "x.db")} if way == "to" else {"in_place": True, "application_stopped": True}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        run = by_hand(target, "restore", **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (run.outcome, run.reason) == ("failed", "disk_full"), run.message
    assert {path.name: path.read_bytes() for path in tmp_path.glob("queue.db*")} == before
    assert not list(tmp_path.glob(".*partial*"))


@pytest.mark.parametrize("way", ["missing", "malformed"])
def test_killed_at_each_step_of_the_swap_the_path_is_never_empty_and_the_next_run_ends_it(
    target: Target, queue: prismq.Queue, way: str
) -> None:
    """The child is killed (kill -9) at every rename and link in turn."""
    assert by_hand(target, "backup").outcome == "done"
    queue.owner.close()
    for number in range(1, 30):
        for path in target.path.parent.glob("*queue.db*"):
            path.unlink()
        if way == "malformed":
            target.path.write_bytes(b"\0" * 5000)
        target.wal.write_bytes(b"stale")
        if not _run_and_kill(target, number):
            break
        if way == "malformed":
            assert target.path.exists()
        run = by_hand(target, "restore", in_place=True, application_stopped=True)
        assert run.outcome in ("done", "unverified"), run.message
        connection = apsw.Connection(str(target.path), flags=apsw.SQLITE_OPEN_READONLY)
        assert connection.execute("SELECT count(*) FROM task_queue").get == 20
        connection.close()
        assert not list(target.path.parent.glob(".*partial*"))
    assert number > 2


def _run_and_kill(target: Target, number: int) -> bool:
    """Run the restore in a process that dies at its `number`th rename or link; whether it came to that."""
    child = os.fork()
    if child == 0:
        _die_in_call(number)
        _restore_here(target)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _die_in_call(number: int) -> None:
    from actions.backups import no_overwrite

    calls = iter(range(1, 1000))

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(calls) == number:
                os.kill(os.getpid(), 9)
            return real(*arguments, **options)

        return call

    for name in ("rename", "replace", "link", "unlink"):
        setattr(os, name, dying(getattr(os, name)))
    no_overwrite._call_renameat2 = dying(no_overwrite._call_renameat2)


def _restore_here(target: Target) -> None:
    from collectors.raw_reader.client import RawReader
    from tests.support.scenes.run_in_process import run_here, work_on

    with RawReader() as raw:
        run_here("restore", work_on(target, raw, in_place=True, application_stopped=True))


def test_a_partial_file_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    with create_partial_file(tmp_path, "x.db") as path:
        assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == []
