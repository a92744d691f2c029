"""Vacuum beside a live application: nothing, an incremental or a full one; what forbids it; what remains when it is stopped."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from actions import vacuum
from actions.batches import batch_loop
from actions.maintenance import vacuum_full, vacuum_incremental
from actions.maintenance.rowids import renumbered_tables
from actions.model.errors import Blocked, Failed, Locked, NothingToDo, Refused
from actions.model.stop import StopSignal
from actions.sqlite import wal_budget
from actions.store.database import state_store
from actions.store.runs import Run
from actions.store.totals import read_totals
from collectors.raw_reader.client import RawReader
from collectors.target import BackupSettings, Limits, Target
from tests.support.scenes import prismq, runner_child
from tests.support.scenes.run_actions import by_hand, by_rule, target_of
from tests.support.scenes.run_in_process import plan_here, run_here, work_on
from tests.support.scenes.small_disk import fill, small_disk

Application = Callable[[Path, float], AbstractContextManager[int]]
Hold = Callable[[Path], AbstractContextManager[int]]
Make = Callable[..., prismq.Queue]
ALL_FREE = [10**9] * 26


def filled(queue: prismq.Queue, rows: int = 4000, auto_vacuum: int = 0) -> prismq.Queue:
    """Three of four pages held finished tasks, which are deleted; all of it is in the database file."""
    owner = queue.owner
    if auto_vacuum:
        owner.pragma("auto_vacuum", auto_vacuum)
        owner.execute("VACUUM")
    owner.execute(
        "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < ?1) INSERT INTO task_queue"
        " (type, status, payload) SELECT 'mail', iif(i % 1000 < 750, 'completed', 'queued'),"
        " json_object('x', hex(zeroblob(300))) FROM s",
        (rows,),
    )
    owner.execute("DELETE FROM task_queue WHERE status = 'completed'")
    owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return queue


def heavy(queue: prismq.Queue) -> prismq.Queue:
    """So much to copy that a vacuum can be met at work."""
    queue.owner.execute("CREATE TABLE ballast (id INTEGER PRIMARY KEY, bytes)")
    queue.owner.execute(
        "INSERT INTO ballast (bytes) SELECT zeroblob(900) FROM json_each('[' || replace(hex(zeroblob(?1)), '0', '1,') || '1]')",
        (60_000,),
    )
    return filled(queue)


def pages(queue: prismq.Queue) -> tuple[int, int]:
    return queue.value("PRAGMA page_count"), queue.value("PRAGMA freelist_count")


def check_whole(queue: prismq.Queue, rows: int) -> None:
    assert queue.value("PRAGMA integrity_check") == "ok"
    assert queue.value("SELECT count(*) FROM task_queue") == rows


def free(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


@pytest.mark.parametrize("auto_vacuum", [0, 2])
@pytest.mark.parametrize("automatic", [True, False])
def test_a_queue_that_refills_nightly_is_left_alone(
    make_queue: Make, raw: RawReader, auto_vacuum: int, automatic: bool
) -> None:
    queue = filled(make_queue(), auto_vacuum=auto_vacuum)
    target = target_of(queue.path)
    nightly = [*ALL_FREE[:10], 3, *ALL_FREE[:12]]
    with pytest.raises(NothingToDo, match="3 of them have been for 22 hours: the others are filled again") as caught:
        plan_here("vacuum", work_on(target, raw, automatic=automatic, lows=nightly, free_for=22 * 3600.0))
    assert "--free-for 0s" in caught.value.next_step
    all_of_it = work_on(target, raw, automatic=automatic, lows=nightly, free_for=0.0, stall=9.0)
    assert plan_here("vacuum", all_of_it).figures["way"] == ("incremental" if auto_vacuum else "full")


def test_pages_watched_too_briefly_let_only_a_person_vacuum(queue: prismq.Queue, raw: RawReader) -> None:
    filled(queue)
    target = target_of(queue.path)
    for lows, hours in (((), 0), (ALL_FREE[:3], 2)):
        with pytest.raises(Refused, match=rf"watched for [{hours}{hours + 1}] of 24 hours") as caught:
            plan_here("vacuum", work_on(target, raw, automatic=True, lows=lows, stall=9.0))
        assert caught.value.reason == "unwatched"
        assert "is not known" in plan_here("vacuum", work_on(target, raw, lows=lows)).warnings[0]
    watched = plan_here("vacuum", work_on(target, raw, automatic=True, lows=ALL_FREE, stall=9.0))
    assert watched.figures["watched_seconds"] == 86400
    assert not any("is not known" in warning for warning in watched.warnings)


def test_free_for_is_limited_to_what_is_stored(queue: prismq.Queue, raw: RawReader) -> None:
    with pytest.raises(Refused, match="7 days at most"):
        plan_here("vacuum", work_on(target_of(filled(queue).path), raw, free_for=30 * 86400.0))


def test_what_the_agent_noted_reaches_the_plan(queue: prismq.Queue) -> None:
    from time import time

    from actions.store.free_pages import record_free_pages

    filled(queue)
    target = target_of(queue.path, backup=BackupSettings(queue.path.parent / "backups"), limits=Limits(disk_reserve=0))
    assert by_hand(target, "backup").outcome == "done", "automatic runs of what cannot be undone need a fresh one"
    hour = int(time() // 3600)
    with state_store(target.state) as store:
        record_free_pages(store, {("queue", hour - age): 10**6 for age in range(30)}, time())
        record_free_pages(store, {("queue", hour - 5): 2, ("other", hour): 0}, time())
    run = by_rule(target, "vacuum")
    assert (run.outcome, run.reason) == ("nothing_to_do", "not_worth_it")
    assert "2 of them have been for 24 hours" in run.message


def test_a_full_vacuum_packs_the_file_and_says_when_it_shrinks(queue: prismq.Queue) -> None:
    filled(queue)
    target = target_of(queue.path)
    size = queue.path.stat().st_size
    before, unused = pages(queue)
    schema = queue.value("SELECT group_concat(sql) FROM sqlite_schema")
    names = sorted(path.name for path in queue.path.parent.glob("queue.db*"))
    run = by_hand(target, "vacuum")
    assert run.outcome == "done", run.message
    assert (run.plan.figures["way"], run.plan.figures["gives_back_bytes"]) == ("full", unused * 4096)
    assert run.plan.stall > 0
    assert "the file shrinks at the next checkpoint" in run.message
    assert run.figures["freed_pages"] == before - pages(queue)[0] >= unused
    assert queue.path.stat().st_size == run.figures["file_bytes"] == size, "nothing of ours checkpoints"
    check_whole(queue, 1000)
    with state_store(target.state) as store:
        assert read_totals(store).amounts["queue", "reclaimed_bytes"] == run.figures["freed_bytes"]
    queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert queue.path.stat().st_size == pages(queue)[0] * 4096 < size / 2
    assert queue.value("SELECT group_concat(sql) FROM sqlite_schema") == schema
    assert queue.value("PRAGMA journal_mode") == "wal"
    assert sorted(path.name for path in queue.path.parent.glob("queue.db*")) == names


def test_what_it_took_the_last_time_predicts_the_next(queue: prismq.Queue, raw: RawReader) -> None:
    from actions.model.context import RunHistory

    work = work_on(target_of(filled(queue).path), raw)
    assert plan_here("vacuum", work).stall == plan_here("vacuum", work).figures["live_bytes"] / vacuum.DEFAULT_RATE
    rate = run_here("vacuum", work).figures["full_bytes_per_second"]
    filled(queue)
    slow = replace(work, run_history=RunHistory(figure=lambda name: {"full_bytes_per_second": 1000}.get(name)))
    assert plan_here("vacuum", slow).stall == plan_here("vacuum", slow).figures["live_bytes"] / 1000
    assert rate > 1000


# --- incremental


def test_batches_beside_a_live_application_give_all_back(make_queue: Make, application: Application) -> None:
    queue = filled(make_queue(), 20_000, auto_vacuum=2)
    _, unused = pages(queue)
    with application(queue.path, 2):
        run = by_hand(target_of(queue.path), "vacuum")
    assert (run.outcome, run.figures["way"]) == ("done", "incremental"), run.message
    assert run.figures["freed_pages"] > unused * 0.9, "the application took a few of them"
    assert run.figures["slices"] > 3
    assert run.plan.stall == 0.015
    assert queue.value("PRAGMA integrity_check") == "ok"
    assert queue.value("SELECT count(*) FROM task_queue WHERE type = 'live'") > 0
    queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert queue.path.stat().st_size == pages(queue)[0] * 4096


def test_each_batch_is_sized_by_how_long_the_lock_was_held(make_queue: Make, raw: RawReader) -> None:
    """Bounded work instead of seconds: an allowance that is always exceeded keeps the batches small."""
    queue = filled(make_queue(), auto_vacuum=2)
    before, unused = pages(queue)
    tight = target_of(queue.path, limits=Limits(write_lock=1e-9, disk_reserve=0))
    done = run_here("vacuum", work_on(tight, raw))
    assert int(done.figures["slices"] or 0) >= unused // vacuum_incremental.SMALLEST_BATCH
    assert pages(queue) == (before - int(done.figures["freed_pages"] or 0), 0)


def test_batches_leave_what_the_queue_will_fill_again(make_queue: Make, raw: RawReader) -> None:
    queue = filled(make_queue(), auto_vacuum=2)
    _, unused = pages(queue)
    work = work_on(target_of(queue.path), raw, automatic=True, lows=[*ALL_FREE, unused - 100])
    assert plan_here("vacuum", work).figures["keep_free_pages"] == 100
    done = run_here("vacuum", work)
    assert pages(queue)[1] == 100
    assert abs(int(done.figures["freed_pages"] or 0) - (unused - 100)) < 5
    check_whole(queue, 1000)


def test_incremental_vacuum_is_refused_where_the_file_has_no_page_map(queue: prismq.Queue, raw: RawReader) -> None:
    with pytest.raises(Refused, match="auto_vacuum is none") as caught:
        plan_here("vacuum", work_on(target_of(filled(queue).path), raw, incremental=True))
    assert "leave --incremental out" in caught.value.next_step


def test_batches_stop_when_the_wal_is_full_and_go_on_after_a_checkpoint(
    make_queue: Make, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_budget, "CHECKPOINT_PATIENCE", 0.2)
    queue = filled(make_queue(), auto_vacuum=2)
    limits = Limits(wal_growth_bytes=100_000, wal_growth_ratio=0.0, disk_reserve=0)
    work = work_on(target_of(queue.path, limits=limits), raw)
    done = run_here("vacuum", work)
    assert "more remain: the WAL has grown to its budget; checkpoint it" in done.message
    free_pages = pages(queue)[1]
    assert 0 < free_pages == done.figures["free_pages"]
    queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert int(run_here("vacuum", work).figures["freed_pages"] or 0) > 0
    assert pages(queue)[1] < free_pages
    check_whole(queue, 1000)


def test_batches_wait_for_the_applications_own_checkpoint(
    make_queue: Make, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = filled(make_queue(), 8000, auto_vacuum=2)
    limits = Limits(wal_growth_bytes=100_000, wal_growth_ratio=0.0, disk_reserve=0)
    checkpoints: list[object] = []

    def checkpoint_instead_of_waiting(_stop: StopSignal, seconds: float) -> bool:
        if seconds == wal_budget.ROOM_CHECK_INTERVAL:
            checkpoints.append(queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        return False

    monkeypatch.setattr(StopSignal, "wait_for_stop", checkpoint_instead_of_waiting)
    done = run_here("vacuum", work_on(target_of(queue.path, limits=limits), raw))
    assert "more remain" not in done.message
    # How many pages fit into a batch depends on the machine's speed, so does how often a batch has to wait for room.
    assert 0 < len(checkpoints) < int(done.figures["slices"] or 0)
    assert pages(queue)[1] == 0


def test_readers_of_a_rollback_journal_database_delay_a_batch_only_for_a_moment(
    make_queue: Make, held_reader: Hold, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_loop, "FIRST_LOCK_PATIENCE", 0.2)
    queue = filled(make_queue("rollback.db", "delete"), auto_vacuum=2)
    before = pages(queue)
    work = work_on(target_of(queue.path), raw)
    with held_reader(queue.path) as reader, pytest.raises(Blocked, match=f"process {reader}"):
        run_here("vacuum", work)
    assert pages(queue) == before
    assert int(run_here("vacuum", work).figures["freed_pages"] or 0) > 0
    check_whole(queue, 1000)


# --- what forbids a full one


@pytest.mark.parametrize(
    ("columns", "row", "kept_by_number"),
    [
        ("x", "1", True),
        ("name TEXT PRIMARY KEY", "1", True),
        ("id INTEGER, n INTEGER, PRIMARY KEY (id, n)", "1, 2", True),
        ("id INTEGER PRIMARY KEY DESC", "1", True),
        ("id INT PRIMARY KEY", "1", True),
        ("id INTEGER PRIMARY KEY", "1", False),
        ("id INTEGER, x, PRIMARY KEY (id)", "1, 2", False),
    ],
)
def test_tables_whose_rows_may_be_numbered_anew_are_known(
    queue: prismq.Queue, columns: str, row: str, kept_by_number: bool
) -> None:
    target = target_of(queue.path)
    queue.owner.execute(f"CREATE TABLE extra ({columns})")
    assert renumbered_tables(queue.owner, target) == (), "an empty table has nothing to number"
    queue.owner.execute(f"INSERT INTO extra VALUES ({row})")
    assert renumbered_tables(queue.owner, target) == (("extra",) if kept_by_number else ())
    queue.owner.execute("DROP TABLE extra")
    queue.owner.execute(
        "CREATE TABLE plain (name TEXT PRIMARY KEY) WITHOUT ROWID; INSERT INTO plain VALUES (1)"
    ).fetchall()
    queue.owner.execute("CREATE VIEW seen AS SELECT 1 AS x; CREATE VIRTUAL TABLE words USING fts4(w)").fetchall()
    queue.owner.execute("INSERT INTO words VALUES ('a b c')")  # its word lists have no INTEGER PRIMARY KEY
    assert renumbered_tables(queue.owner, target) == ()


def test_rowids_that_may_be_used_are_not_changed(queue: prismq.Queue, raw: RawReader) -> None:
    filled(queue)
    queue.owner.execute("CREATE TABLE extra (x); INSERT INTO extra VALUES (7)").fetchall()
    target = target_of(queue.path)
    with pytest.raises(Refused, match="without INTEGER PRIMARY KEY: extra") as caught:
        plan_here("vacuum", work_on(target, raw))
    assert "--rowids-unused" in caught.value.next_step
    assert plan_here("vacuum", work_on(target, raw, rowids_unused=True)).figures["way"] == "full"
    refused = by_rule(target, "vacuum", rowids_unused=True)
    assert (refused.outcome, "only be given by a person" in refused.message) == ("refused", True)


def test_the_profile_declares_unused_rowids(queue: prismq.Queue, raw: RawReader, tmp_path: Path) -> None:
    queue.owner.execute("INSERT INTO workers (worker_id, capabilities) VALUES ('w', '{}')")
    target = target_of(filled(queue).path)
    assert renumbered_tables(queue.owner, target) == (), "prismq finds workers by their id"
    queue.owner.execute("CREATE TABLE Notes (x); INSERT INTO Notes VALUES (1)").fetchall()
    assert renumbered_tables(queue.owner, target) == ("Notes",)
    own = tmp_path / "own.yaml"
    shipped = (Path(vacuum.__file__).parents[1] / "collectors/queue_profiles/shipped/prismq.yaml").read_text()
    own.write_text(shipped.replace("rowids_unused: [workers]", "rowids_unused: [workers, notes]"))
    assert renumbered_tables(queue.owner, replace(target, profile=str(own))) == ()
    with pytest.raises(Refused) as caught:
        plan_here("vacuum", work_on(replace(target, profile="huey"), raw))
    assert caught.value.reason == "profile"


def test_rows_keep_their_numbers_where_the_table_has_an_index(queue: prismq.Queue, raw: RawReader) -> None:
    """Measured, not promised by SQLite: docs/safety.md says so."""
    filled(queue)
    queue.owner.execute("CREATE TABLE bare (x); CREATE TABLE keyed (name TEXT PRIMARY KEY)").fetchall()
    for table in ("bare", "keyed"):
        queue.owner.execute(f"INSERT INTO {table} VALUES ('a'), ('b'); DELETE FROM {table} WHERE rowid = 1").fetchall()
    run_here("vacuum", work_on(target_of(queue.path), raw, rowids_unused=True))
    assert (queue.value("SELECT rowid FROM keyed"), queue.value("SELECT rowid FROM bare")) == (2, 1)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_an_automatic_run_keeps_its_budgets_or_has_the_operators_confirmation(
    make_queue: Make, raw: RawReader, mode: str
) -> None:
    queue = filled(make_queue(f"{mode}.db", mode))
    target = target_of(queue.path, limits=Limits(write_lock=0.001, disk_reserve=0))
    with pytest.raises(Refused, match="the application would wait about") as caught:
        plan_here("vacuum", work_on(target, raw, automatic=True, free_for=0.0))
    assert "options: {stall: 2s}" in caught.value.next_step
    accepted = work_on(target, raw, automatic=True, free_for=0.0, stall=9.0)
    assert plan_here("vacuum", accepted).figures["way"] == "full"
    with pytest.raises(Refused, match="would not end before its window does"):
        plan_here("vacuum", replace(accepted, window_ends=accepted.now()))
    assert plan_here("vacuum", replace(accepted, window_ends=accepted.now() + 3600)).figures["way"] == "full"
    small = replace(target, limits=Limits(wal_growth_bytes=1, wal_growth_ratio=0.0, disk_reserve=0))
    if mode == "wal":
        with pytest.raises(Refused, match=r"limits\.wal_growth allows 1"):
            plan_here("vacuum", replace(accepted, target=small))
    plan_here("vacuum", work_on(small, raw))  # a person sees the warning before the run


def test_the_plan_warns_which_processes_wait(make_queue: Make, raw: RawReader) -> None:
    queue = filled(make_queue("rollback.db", "delete"))
    work = work_on(target_of(queue.path), raw)
    plan = plan_here("vacuum", work)
    assert any("every writer and reader waits about" in warning for warning in plan.warnings)
    size = queue.path.stat().st_size
    assert "checkpoint" not in run_here("vacuum", work).message
    assert queue.path.stat().st_size < size / 2
    check_whole(queue, 1000)


def test_a_reader_of_a_rollback_journal_database_is_waited_for_only_a_moment(
    make_queue: Make, held_reader: Hold, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vacuum_full, "LOCK_PATIENCE", 0.0)
    queue = filled(make_queue("rollback.db", "delete"))
    work = work_on(target_of(queue.path), raw)
    with held_reader(queue.path) as reader, pytest.raises(Locked, match=f"process {reader}"):
        run_here("vacuum", work)
    check_whole(queue, 1000)
    assert int(run_here("vacuum", work).figures["freed_pages"] or 0) > 0


def test_a_writer_that_keeps_the_lock_is_named(
    queue: prismq.Queue, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vacuum_full, "LOCK_PATIENCE", 0.0)
    monkeypatch.setattr(vacuum_full, "WAL_WAIT", 0.1)
    filled(queue)
    queue.owner.execute("BEGIN IMMEDIATE")
    with pytest.raises(Locked, match=f"process {os.getpid()}") as caught:
        run_here("vacuum", work_on(target_of(queue.path), raw))
    assert caught.value.reason == "write_lock"
    queue.owner.execute("COMMIT")


# --- room


def test_it_is_refused_with_the_bytes_that_are_missing(tmp_path: Path, raw: RawReader) -> None:
    with small_disk(tmp_path / "small", 24) as disk:
        queue = filled(prismq.create(disk / "queue.db"))
        work = work_on(target_of(queue.path, limits=Limits(disk_reserve=1000)), raw)
        live = int(plan_here("vacuum", work).figures["live_bytes"] or 0)
        fill(disk, live // 2)
        needed = int(live * 1.1)
        with pytest.raises(Refused) as caught:
            plan_here("vacuum", work)
        assert caught.value.reason == "disk_full"
        assert f"writes {needed} bytes in {disk} and 1000 must stay free" in str(caught.value)
        assert f"{needed + 1000 - free(disk)} bytes are missing" in str(caught.value)
        check_whole(queue, 1000)
        queue.owner.close()


def test_the_disk_of_temporary_files_is_checked_too(
    queue: prismq.Queue, tmp_path: Path, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(queue, 8000)
    with small_disk(tmp_path / "small", 1) as disk:
        monkeypatch.setenv("SQLITE_TMPDIR", str(disk))
        with pytest.raises(Refused, match=f"bytes in {disk} and") as caught:
            plan_here("vacuum", work_on(target_of(queue.path, limits=Limits(disk_reserve=0)), raw))
    assert "point SQLITE_TMPDIR to a directory with room" in caught.value.next_step
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    with pytest.raises(Refused) as caught:
        plan_here("vacuum", work_on(target_of(queue.path, limits=Limits(disk_reserve=1 << 60)), raw))
    live = 4096 * (pages(queue)[0] - pages(queue)[1])
    assert f"writes {2 * int(live * 1.1)} bytes" in str(caught.value), "on one file system both must fit"


@pytest.mark.parametrize("place", ["temp", "beside"])
def test_a_disk_that_fills_up_meanwhile_loses_nothing(
    tmp_path: Path, raw: RawReader, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    with small_disk(tmp_path / "small", 24) as disk:
        path, rows = (tmp_path, 24_000) if place == "temp" else (disk, 4000)  # a small temporary file stays in memory
        queue = filled(prismq.create(path / "queue.db"), rows)
        monkeypatch.setenv("SQLITE_TMPDIR", str(disk if place == "temp" else tmp_path))
        work = work_on(target_of(queue.path, limits=Limits(disk_reserve=0)), raw)
        plan = plan_here("vacuum", work)
        fill(disk, 500_000)
        with pytest.raises(Failed, match="a disk filled up, nothing was changed") as caught:
            vacuum.run(work, plan)
        assert caught.value.reason == "disk_full"
        (disk / "filler").unlink()
        check_whole(queue, rows // 4)
        queue.put()
        assert int(run_here("vacuum", work).figures["freed_pages"] or 0) > 0
        queue.owner.close()


def test_batches_on_a_disk_that_fills_up_keep_what_was_freed(tmp_path: Path, raw: RawReader) -> None:
    with small_disk(tmp_path / "small", 48) as disk:
        queue = filled(prismq.create(disk / "queue.db"), 8000, auto_vacuum=2)
        limits = Limits(disk_reserve=0, wal_growth_bytes=1 << 24, wal_growth_ratio=0.0)
        work = work_on(target_of(queue.path, limits=limits), raw)
        plan = plan_here("vacuum", work)
        fill(disk, 900_000)
        with pytest.raises(Failed, match="full, after") as caught:
            vacuum.run(work, plan)
        assert caught.value.reason == "disk_full"
        assert int(caught.value.figures["freed_pages"] or 0) * 4096 == caught.value.totals["reclaimed_bytes"] > 0
        (disk / "filler").unlink()
        check_whole(queue, 2000)
        queue.owner.close()


# --- stopped


def stopped_while(target: Target, when: Callable[[Any], object], **options: Any) -> Run:
    job = runner_child.claimed(target, "vacuum", **options)
    child = runner_child.start(job)
    try:
        when(child)
        runner_child.say(child, b"stop\n")
        runner_child.finish(child)
    finally:
        runner_child.close(child)
    return runner_child.record(job)


def test_a_full_vacuum_that_is_stopped_half_way_leaves_the_file_unchanged(queue: prismq.Queue, raw: RawReader) -> None:
    heavy(queue)
    before = pages(queue)

    def at_work(child: Any) -> None:
        runner_child.wait_for(child, "planned")
        runner_child.eventually(lambda: holds_write_lock(raw, queue.path, child.pid), "the vacuum takes the write lock")

    run = stopped_while(target_of(queue.path), at_work)
    assert (run.outcome, run.reason) == ("cancelled", "asked")
    assert pages(queue) == before
    check_whole(queue, 1000)
    queue.put()


def holds_write_lock(raw: RawReader, path: Path, pid: int) -> bool:
    held = [holder.row for holder in raw.find_held_locks(path) if holder.pid == pid and holder.file == "shm"]
    return any(row.covers_byte(120) and row.mode == "WRITE" for row in held)


def test_batches_that_are_stopped_keep_what_was_freed(make_queue: Make) -> None:
    queue = filled(make_queue(), auto_vacuum=2)
    before, unused = pages(queue)
    target = runner_child.slow(target_of(queue.path))
    run = stopped_while(target, lambda child: runner_child.wait_for(child, "progress"))
    assert run.outcome == "cancelled"
    assert 0 < pages(queue)[1] < unused
    assert run.figures["freed_pages"] == before - pages(queue)[0]
    check_whole(queue, 1000)


def test_an_automatic_vacuum_is_given_up_when_it_stalls_twice_as_long_as_accepted(
    queue: prismq.Queue, raw: RawReader
) -> None:
    heavy(queue)
    before = pages(queue)
    work = work_on(target_of(queue.path), raw)
    plan = plan_here("vacuum", work)
    hasty = replace(work, automatic=True, target=target_of(queue.path, limits=Limits(write_lock=0.001)))
    with pytest.raises(Failed, match=r"given up after 0\.00 s") as caught:
        vacuum.run(hasty, plan)
    assert caught.value.reason == "stall"
    assert pages(queue) == before
    check_whole(queue, 1000)


def test_a_schema_that_only_the_application_understands_is_reported(queue: prismq.Queue, raw: RawReader) -> None:
    filled(queue)
    queue.owner.create_scalar_function("twice", lambda x: x * 2, 1, deterministic=True)
    queue.owner.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x); CREATE INDEX i ON t (twice(x))").fetchall()
    queue.owner.execute("INSERT INTO t VALUES (1, 1)")
    with pytest.raises(Failed, match="only the application's SQLite has") as caught:
        run_here("vacuum", work_on(target_of(queue.path), raw))
    assert (caught.value.reason, "twice" in str(caught.value)) == ("schema", True)
    check_whole(queue, 1000)
    assert isinstance(queue.owner, apsw.Connection)
