"""kill -9 in each named phase of a backup, a prune and a restore, a writer running; and a disk that fills up for real."""

import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from actions.model.request import Request
from actions.runner.protocol import Job
from actions.runner.spawn import RunningAction
from actions.store.database import state_store
from actions.store.recovery import recover_lost_runs
from actions.store.runs import enqueue_and_claim, newest_runs, unfinished_runs
from collectors.access.connection import open_immutable
from collectors.backup_catalog.store import find_backups
from collectors.raw_reader.client import RawReader
from collectors.target import BackupSettings, Limits, RetentionCounts, Target
from tests.support.scenes import prismq
from tests.support.scenes.run_actions import by_hand, target_of
from tests.support.scenes.small_disk import fill, small_disk

SEED = int(os.environ.get("QK_SEED", random.randrange(10**6)))
BACKUP_PHASES = ("pin", "copy", "frames", "compare", "verify", "fsync", "rename", "manifest")


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[apsw.Connection]:
    """About 4 MB in WAL mode, whose every transaction writes three tables; some of it only in the WAL."""
    connection = apsw.Connection(str(tmp_path / "busy.db"))
    connection.execute("PRAGMA journal_mode=WAL").fetchall()
    connection.execute(
        "CREATE TABLE meta (n INT); INSERT INTO meta VALUES (0);"
        "CREATE TABLE log (k INTEGER PRIMARY KEY, item INT); CREATE TABLE item (id INTEGER PRIMARY KEY, v INT, pad BLOB);"
        "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 4000)"
        "INSERT INTO item SELECT i, 0, randomblob(1000) FROM s"
    ).fetchall()
    yield connection
    connection.close()


@pytest.fixture
def target(owner: apsw.Connection, tmp_path: Path) -> Target:
    assert owner is not None
    place = BackupSettings(tmp_path / "b", RetentionCounts(2, 0, 0, 0, 0), own_folder=False)
    return target_of(tmp_path / "busy.db", backup=place, limits=Limits(disk_reserve=0))


def kill_in(target: Target, request: Request, phase: str, chance: random.Random) -> bool:
    """Start the action, kill its child just after it reports that `phase` begins; returns whether that phase was reached."""
    with state_store(target.state) as store:
        claim = enqueue_and_claim(store, request, str(target.path), time.time())
    child = RunningAction(Job(request, target, target.state, claim))
    reached = False
    for event in child.read_events():
        if event.kind == "phase" and event.message == phase:
            time.sleep(chance.random() * 0.005)
            os.kill(child.pid, signal.SIGKILL)
            reached = True
    child.wait_for_exit()
    return reached


def check_source(target: Target, owner: apsw.Connection, raw: RawReader) -> None:
    """Whole, writable at once, its lock free, and no record says that anything still runs."""
    assert owner.execute("PRAGMA integrity_check").get == "ok"
    n, rows, last = owner.execute("SELECT n, (SELECT count(*) FROM log), (SELECT max(k) FROM log) FROM meta").fetchone()
    assert (rows, last) == (n, n or None)
    assert raw.find_flock_holder(target.path) is None
    with state_store(target.state) as store:
        recover_lost_runs(store, lambda path: raw.find_flock_holder(Path(path)) is not None, time.time())
        assert unfinished_runs(store) == []


def check_backups(target: Target) -> None:
    """A file with a final name is whole; a file that was half written has none."""
    for backup in find_backups(target):
        with open_immutable(Path(backup.reference)) as copy:
            assert copy.execute("PRAGMA integrity_check").get == "ok"
            n = copy.execute("SELECT n FROM meta").get
            assert copy.execute("SELECT count(*), max(k) FROM log").fetchone() == (n, n or None)
        assert Path(backup.reference).stat().st_mode & 0o777 == 0o600


def in_each_phase(target: Target, owner: apsw.Connection, raw: RawReader, times: int) -> None:
    chance = random.Random(SEED)
    print(f"seed {SEED}")
    with prismq.process("two_tables_writer.py", target.path, "2"):
        for phase in BACKUP_PHASES:
            for _ in range(times):
                kill_in(target, Request("backup", target.name), phase, chance)
                check_backups(target)
                check_source(target, owner, raw)
    run = by_hand(target, "backup")
    assert run.outcome == "done", run.message
    assert list(target.backup.directory.glob(".*")) == []


def test_a_backup_killed_in_any_phase_leaves_nothing_bad(
    target: Target, owner: apsw.Connection, raw: RawReader
) -> None:
    in_each_phase(target, owner, raw, 1)


@pytest.mark.soak
def test_a_backup_killed_ten_times_in_every_phase_leaves_nothing_bad(
    target: Target, owner: apsw.Connection, raw: RawReader
) -> None:
    in_each_phase(target, owner, raw, 10)


@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.soak)])
def test_a_full_backup_killed_while_it_is_compared_leaves_nothing_bad(
    target: Target, owner: apsw.Connection, raw: RawReader, times: int
) -> None:
    chance = random.Random(SEED)
    with prismq.process("two_tables_writer.py", target.path, "2"):
        for _ in range(times):
            assert kill_in(target, Request("backup", target.name, options={"full": True}), "compare", chance)
            check_backups(target)
            check_source(target, owner, raw)
    run = by_hand(target, "backup", full=True)
    assert run.outcome == "done", run.message
    assert list(target.backup.directory.glob(".*")) == []


@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.soak)])
def test_a_prune_killed_half_way_leaves_the_newest_and_no_manifest_without_its_backup_for_long(
    target: Target, owner: apsw.Connection, raw: RawReader, times: int
) -> None:
    chance = random.Random(SEED)
    for _ in range(times):
        for _ in range(4):
            assert by_hand(target, "backup").outcome == "done"
        kill_in(target, Request("prune", target.name), "prune", chance)
        check_backups(target)
        check_source(target, owner, raw)
        assert [backup for backup in find_backups(target) if backup.state == "verified"]
    assert by_hand(target, "prune").outcome in ("done", "nothing_to_do")
    assert len([backup for backup in find_backups(target) if backup.state == "verified"]) == 2
    assert len(list(target.backup.directory.glob("*.manifest.json"))) == len(find_backups(target))


@pytest.mark.parametrize("times", [3, pytest.param(10, marks=pytest.mark.soak)])
@pytest.mark.parametrize("phase", ["restore", "pin", "restore_step"])
def test_a_restore_killed_at_any_point_leaves_the_old_rows_or_the_new(
    target: Target, owner: apsw.Connection, raw: RawReader, phase: str, times: int
) -> None:
    chance = random.Random(SEED)
    assert by_hand(target, "backup").outcome == "done"
    for number in range(times):
        owner.execute("UPDATE item SET v = 0; DELETE FROM log; UPDATE meta SET n = 0")
        owner.execute("INSERT INTO log VALUES (1, 1); UPDATE meta SET n = 1; UPDATE item SET v = 1 WHERE id = 1")
        request = Request("restore", target.name, options={"in_place": True})
        assert kill_in(target, request, phase, chance), number
        assert owner.execute("SELECT n FROM meta").get in (0, 1)
        check_source(target, owner, raw)
        check_backups(target)
    assert by_hand(target, "restore", in_place=True).outcome == "done"
    assert owner.execute("SELECT n FROM meta").get == 0


# --- a full disk


@pytest.mark.parametrize("compress", ["none", "zstd"])
def test_a_disk_that_is_full_is_one_sentence_with_the_missing_bytes(
    target: Target, owner: apsw.Connection, raw: RawReader, tmp_path: Path, compress: str
) -> None:
    with small_disk(tmp_path / "small", 16) as disk:
        there = replace(target, backup=BackupSettings(disk / "b", compress=compress, own_folder=False))
        assert by_hand(there, "backup").outcome == "done"
        before = sorted(path.name for path in (disk / "b").iterdir())
        fill(disk, 1024 * 1024)
        run = by_hand(there, "backup")
        assert (run.outcome, run.reason) == ("refused", "disk_full")
        assert "bytes are missing" in run.message
        assert sorted(path.name for path in (disk / "b").iterdir()) == before
    check_source(target, owner, raw)


@pytest.mark.parametrize("method", ["file", "pages"])
def test_a_copy_that_cannot_be_written_to_its_end_loses_nothing_and_leaves_nothing(
    target: Target, owner: apsw.Connection, raw: RawReader, method: str
) -> None:
    """There was room when it was planned; then the file may not grow any more (setrlimit(2), RLIMIT_FSIZE)."""
    if method == "pages":  # SQLite follows the link, and its -wal lies beside the file that it points to
        link = target.path.with_name("link.db")
        link.symlink_to(target.path)
        target = replace(target, path=link)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * 1024 * 1024, hard))
    try:
        run = by_hand(target, "backup")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (run.outcome, run.reason) == ("failed", "disk_full"), run.message
    assert list(target.backup.directory.iterdir()) == []
    check_source(target, owner, raw)
    run = by_hand(target, "backup", full=True)
    assert (run.outcome, run.figures["method"], run.figures["proof"]) == ("done", method, "content")


def test_a_comparison_needs_no_room(target: Target, owner: apsw.Connection, raw: RawReader, tmp_path: Path) -> None:
    """Every page is read a second time, and nothing but the copy is written."""
    size = target.path.stat().st_size + target.wal.stat().st_size
    with small_disk(tmp_path / "small", 16) as disk:
        there = replace(target, backup=BackupSettings(disk / "b", own_folder=False))
        fill(disk, size + 100 * 1024)
        run = by_hand(there, "backup", full=True)
        assert run.outcome == "done", run.message
    check_source(target, owner, raw)


def test_a_drill_and_a_restore_without_room_change_nothing(
    target: Target, owner: apsw.Connection, raw: RawReader, tmp_path: Path
) -> None:
    assert by_hand(target, "backup").outcome == "done"
    with small_disk(tmp_path / "small", 2) as disk:
        run = by_hand(target, "restore", to=str(disk / "copy.db"))
        assert (run.outcome, run.reason) == ("refused", "disk_full")
        assert list(disk.iterdir()) == []
    with small_disk(tmp_path / "state2", 20) as disk:
        there = replace(target, state=disk)
        assert by_hand(there, "verify").outcome == "done"
        fill(disk, 17 * 1024 * 1024)
        run = by_hand(there, "drill")
        assert run.outcome in ("refused", "done"), run.message
        assert list((disk / "scratch").iterdir()) == []
    check_source(target, owner, raw)


def test_history_without_room_refuses_to_act(target: Target, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 20) as disk:
        there = replace(target, state=disk)
        assert by_hand(there, "backup").outcome == "done"
        fill(disk, 4 * 1024 * 1024)
        run = by_hand(there, "backup")
        assert (run.outcome, run.reason) == ("refused", "state_full")
        with state_store(disk) as store:
            assert len(newest_runs(store, None, 10)) == 2
