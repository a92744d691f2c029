"""Many rows in short batches: how long these are, when they yield, when they wait for the WAL, how a run ends early."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from actions.batches import batch_loop, select_rows
from actions.model.errors import Blocked, Cancelled, Failed, Locked
from actions.sqlite import wal_budget
from actions.sqlite.pacing import (
    BACK_OFF,
    CAREFUL_TRANSACTIONS,
    SHORT_HOLD,
    HoldLength,
    WritePacing,
    delay_after_hold,
    nearest_rank_percentile,
)
from actions.sqlite.write_transaction import WriteTransaction
from collectors.queue_profiles import detection
from collectors.raw_reader.client import RawReader
from collectors.target import Limits
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import prismq, queue_files, runner_child
from tests.support.scenes.run_actions import target_of
from tests.support.scenes.run_in_process import run_here, work_on
from tests.support.scenes.small_disk import fill, small_disk

LONG_AGO = 100_000.0
Hold = Callable[[Path], AbstractContextManager[int]]


def stale(queue: prismq.Queue, number: int, **columns: Any) -> None:
    queue.leased(time.time() - LONG_AGO, number, **columns)


def statuses(queue: prismq.Queue) -> dict[str, int]:
    return dict(queue.owner.execute("SELECT status, count(*) FROM task_queue GROUP BY 1").fetchall())


# --- how long ---


def aged(seconds: float) -> WriteTransaction:
    return WriteTransaction(began=time.monotonic() - seconds, waited=0.0)


def test_a_batch_ends_by_time_or_rows_but_never_before_the_first_row() -> None:
    guard = WritePacing(budget=1000.0, rows=10)
    assert guard.may_add_row(aged(0), 9)
    assert not guard.may_add_row(aged(0), 10)
    assert not guard.may_add_row(aged(331), 5)
    assert guard.may_add_row(aged(9000), 0)


def test_what_the_commit_will_cost_counts() -> None:
    guard = WritePacing(budget=1000.0, rows=10_000)
    guard.record_transaction(WriteTransaction(0.0, 0.0, held=110.0), 100, committing=100.0)
    assert guard.row_commit == 1.0
    assert guard.may_add_row(aged(0), 329)
    assert not guard.may_add_row(aged(0), 331)


def test_batches_grow_after_short_holds_and_shrink_by_the_cost_of_their_rows() -> None:
    guard = WritePacing(budget=0.05, rows=100)
    guard.record_transaction(WriteTransaction(0.0, 0.0, held=0.004), 100, 0.0)
    assert guard.rows == 200
    guard.record_transaction(WriteTransaction(0.0, 0.0, held=0.100), 80, 0.0)
    assert guard.rows == 20
    assert guard.remaining_delay() > 0.09  # after a hold beyond the budget the delay is as long


def lengths_of(length: HoldLength, batches: int, rates: dict[float, float]) -> list[float]:
    """The planned holds of so many batches, on a machine that changes so many rows a second with each length."""
    lengths = []
    for _ in range(batches):
        lengths.append(length.planned_seconds)
        length.record_cycle(round(rates[length.planned_seconds]), 1.0, overran=False)
    return lengths


def test_the_faster_hold_length_is_used_and_the_other_tried_again() -> None:
    length = HoldLength(0.015)
    assert lengths_of(length, 400, {0.015: 900, SHORT_HOLD: 300}).count(0.015) >= 350
    busy = lengths_of(length, 400, {0.015: 100, SHORT_HOLD: 300})
    assert busy.count(SHORT_HOLD) >= 300
    assert busy.count(0.015) >= 30
    assert lengths_of(length, 400, {0.015: 900, SHORT_HOLD: 300})[-100:].count(0.015) >= 85


def test_after_a_hold_beyond_the_budget_holds_are_short_for_a_while() -> None:
    length = HoldLength(0.015, rates={0.015: 900.0, SHORT_HOLD: 300.0})
    length.record_cycle(900, 1.0, overran=True)
    assert set(lengths_of(length, CAREFUL_TRANSACTIONS - 1, {0.015: 900, SHORT_HOLD: 300})) == {SHORT_HOLD}


def test_a_budget_smaller_than_a_short_hold_has_one_length() -> None:
    assert set(lengths_of(HoldLength(0.001), 100, {0.001: 5})) == {0.001}


def test_who_waits_longer_than_the_budget_lets_the_others_go_first() -> None:
    guard = WritePacing(budget=0.05, rows=100)
    guard.record_transaction(WriteTransaction(0.0, waited=0.4, held=0.001), 10, 0.0)
    assert guard.yields == 1
    assert guard.remaining_delay() > 0.35
    assert guard.rows == 100  # doubled for its short hold, then halved


@pytest.mark.parametrize("held", [0.0001, 0.0029, 0.007, 0.0153, 0.018, 0.033, 0.05, 0.2, 0.9])
def test_the_rest_is_longer_than_the_sleep_of_anybody_who_waits(held: float) -> None:
    """For a waiter that began at any moment of the hold, by SQLite's own table of sleeps."""
    for began in (held * part / 20 for part in range(20)):
        tried, sleeps = began, iter(BACK_OFF)
        while tried < held:
            tried += next(sleeps, BACK_OFF[-1])
        assert tried - held < delay_after_hold(held)


def test_percentiles_are_of_what_happened() -> None:
    assert (
        nearest_rank_percentile([], 0.5),
        nearest_rank_percentile([3.0], 0.999),
        nearest_rank_percentile([1.0, 2.0, 3.0, 4.0], 0.5),
    ) == (0.0, 3.0, 2.0)


# --- how rows are selected ---


@pytest.fixture(params=["by the index", "walked one by one", "walked in ranges"])
def searching(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every way of selecting and changing rows, with limits small enough for these few."""
    monkeypatch.setattr(select_rows, "SEARCH_ROWS", 40)
    monkeypatch.setattr(select_rows, "STRIDE_ROWS", 30)
    monkeypatch.setattr(select_rows, "DENSE_ONE_IN", 0 if request.param == "by the index" else 10**6)
    monkeypatch.setattr(select_rows, "ADJACENT_ONE_IN", 10**6 if request.param == "walked in ranges" else 0)
    return str(request.param)


def mixed(queue: prismq.Queue) -> None:
    for _ in range(30):
        stale(queue, 6)
        stale(queue, 1, attempts=4)
        queue.put("queued", 2)
        queue.leased(time.time() + 300)
        queue.put("completed", 1)


def test_every_way_of_selecting_rows_changes_the_same_rows(queue: prismq.Queue, raw: RawReader, searching: str) -> None:
    mixed(queue)
    before = queue.value(
        "SELECT group_concat(id || status || updated_at_utc) FROM task_queue WHERE id % 11 IN (8, 9, 10, 0)"
    )
    done = run_here("requeue", work_on(target_of(queue.path), raw))
    assert (done.figures["requeued"], done.figures["dead"], done.figures["changed_meanwhile"]) == (180, 30, 0)
    assert statuses(queue) == {"completed": 30, "failed": 30, "leased": 30, "queued": 240}
    after = queue.value(
        "SELECT group_concat(id || status || updated_at_utc) FROM task_queue WHERE id % 11 IN (8, 9, 10, 0)"
    )
    assert before == after


def test_a_purge_by_every_way_deletes_all_finished_rows_and_no_others(
    queue: prismq.Queue, raw: RawReader, searching: str
) -> None:
    old = prismq.stamp(time.time() - 9e6)
    for number in range(100):
        queue.put("completed", 3, finished_at_utc=old)
        queue.put("completed", 1, finished_at_utc=old, idempotency_key=str(number))
        queue.put("queued")
    queue.owner.execute("INSERT INTO task_logs (task_id, level) SELECT id, 'info' FROM task_queue")
    done = run_here("purge", work_on(target_of(queue.path), raw))
    assert (done.figures["purged"], done.figures["kept_for_their_key"]) == (300, 100)
    assert statuses(queue) == {"completed": 100, "queued": 100}
    assert queue.value("SELECT count(*) FROM task_logs") == 200


def test_a_limit_is_exact(queue: prismq.Queue, raw: RawReader, searching: str) -> None:
    stale(queue, 200)
    assert run_here("requeue", work_on(target_of(queue.path), raw, limit=77)).figures["requeued"] == 77
    assert statuses(queue) == {"leased": 123, "queued": 77}


def test_rows_that_no_step_moves_end_by_themselves(
    queue: prismq.Queue, raw: RawReader, searching: str, tmp_path: Path
) -> None:
    text = (detection.SHIPPED_DIRECTORY / "prismq.yaml").read_text()
    useless = re.sub(r"(?s)steps:.*?  purge:", "steps: [{to: waiting, set: {error_message: \"'x'\"}}]\n  purge:", text)
    (tmp_path / "own.yaml").write_text(useless)
    stale(queue, 100)
    done = run_here("requeue", work_on(target_of(queue.path, profile=str(tmp_path / "own.yaml")), raw))
    assert int(str(done.figures["chunks"])) <= 100
    assert statuses(queue) == {"leased": 100}


def test_a_table_without_rowids_is_searched_by_its_index(tmp_path: Path, raw: RawReader) -> None:
    schema = "CREATE TABLE work (id TEXT PRIMARY KEY, status TEXT, until REAL) WITHOUT ROWID;"
    settings = {"table": "work", "lease_until": "until", "time": "unix_f", "requeue_status": "queued"}
    with queue_files.owned(tmp_path / "w.db", schema) as owner:
        for number in range(300):
            queue_files.add(owner, "work", id=f"t{number}", status="running", until=1.0)
        target = target_of(tmp_path / "w.db", profile="generic", settings=settings)
        assert run_here("requeue", work_on(target, raw)).figures["requeued"] == 300


def test_selecting_very_many_rows_visits_each_a_few_times_at_most(queue: prismq.Queue, raw: RawReader) -> None:
    """Bounded work: page reads and steps grow with the number of rows, not with its square."""
    stale(queue, 3000)
    queue.put("completed", 3000)
    visited = []

    def counted(number: int) -> int:
        steps = [0]
        original = select_rows.fetch_rows

        def watching(connection: apsw.Connection, bound: Any, **given: Any) -> list[Any]:
            rows = original(connection, bound, **given)
            steps[0] += len(rows)
            return rows

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(select_rows, "fetch_rows", watching)
            patch.setattr(select_rows, "SEARCH_ROWS", 50)
            patch.setattr(select_rows, "STRIDE_ROWS", 200)
            run_here("requeue", work_on(target_of(queue.path), raw, limit=number))
        return steps[0]

    visited = [counted(500), counted(2500)]
    assert visited[1] < 8 * visited[0]


# --- yielding ---


def test_a_write_lock_that_never_comes_free_ends_locked_by_name(
    queue: prismq.Queue, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale(queue, 3)
    monkeypatch.setattr(batch_loop, "FIRST_LOCK_PATIENCE", 0.2)
    with prismq.process("lock_holder.py", queue.path, "600000", "1") as holder:
        runner_child.eventually(
            lambda: any(lock.row.mode == "WRITE" for lock in raw.find_held_locks(queue.path)), "it has the write lock"
        )
        with pytest.raises(Locked, match=f"process {holder.pid} ") as locked:
            run_here("requeue", work_on(target_of(queue.path), raw))
        assert locked.value.figures["gave_way"] >= 1
    assert run_here("requeue", work_on(target_of(queue.path), raw)).figures["requeued"] == 3


def test_a_run_waits_for_a_lock_that_is_held_in_the_middle_and_goes_on(
    queue: prismq.Queue, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale(queue, 400)
    work = work_on(target_of(queue.path, limits=Limits(write_lock=1e-9)), raw)
    begun, occupied, gave_way = threading.Event(), threading.Event(), threading.Event()
    record_yield = WritePacing.record_yield

    def occupy() -> None:
        begun.wait(LONGEST_WAIT)
        other = apsw.Connection(str(queue.path))
        other.set_busy_timeout(30_000)
        other.execute("BEGIN IMMEDIATE")
        occupied.set()
        gave_way.wait(LONGEST_WAIT)
        other.execute("COMMIT")
        other.close()

    def go_on_when_occupied(_event: object) -> None:
        begun.set()
        occupied.wait(LONGEST_WAIT)

    def release_after_yield(pacing: WritePacing, seconds: float) -> None:
        record_yield(pacing, seconds)
        gave_way.set()

    monkeypatch.setattr(WritePacing, "record_yield", release_after_yield)
    thread = threading.Thread(target=occupy)
    thread.start()
    object.__setattr__(work, "emit", go_on_when_occupied)
    done = run_here("requeue", work)
    thread.join()
    assert (done.figures["requeued"], int(str(done.figures["gave_way"])) >= 1) == (400, True)


def test_readers_of_a_rollback_journal_database_are_never_shut_out_for_long(
    make_queue: Callable[..., prismq.Queue], raw: RawReader, held_reader: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit waits for readers, and new readers for it: so it waits briefly, and is then rolled back."""
    queue = make_queue("old.db", journal_mode="delete")
    stale(queue, 20)
    monkeypatch.setattr(batch_loop, "FIRST_LOCK_PATIENCE", 0.2)
    with held_reader(queue.path), pytest.raises(Blocked, match="readers keep every transaction from committing"):
        run_here("requeue", work_on(target_of(queue.path), raw))
    assert statuses(queue) == {"leased": 20}
    assert run_here("requeue", work_on(target_of(queue.path), raw)).figures["requeued"] == 20


# --- the WAL ---


@contextmanager
def budget_of(monkeypatch: pytest.MonkeyPatch, kibibytes: int) -> Iterator[Limits]:
    monkeypatch.setattr(wal_budget, "CHECKPOINT_PATIENCE", 0.3)
    yield Limits(wal_growth_bytes=kibibytes * 1024, wal_growth_ratio=0.0)


def test_without_checkpoints_it_ends_inside_the_wal_budget_with_a_message(
    queue: prismq.Queue, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.owner.wal_autocheckpoint(0)
    stale(queue, 3000, payload=f'"{"x" * 1500}"')
    queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    wal = queue.path.with_name("queue.db-wal")
    with budget_of(monkeypatch, 2000) as limits:
        done = run_here("requeue", work_on(target_of(queue.path, limits=limits), raw))
        assert 0 < int(str(done.figures["requeued"])) < 3000
        assert "the WAL has grown to its budget and no process checkpoints it" in done.message
        assert wal.stat().st_size <= 2000 * 1024
        assert "queuekeeper checkpoint queue, then run this again" in done.message


def test_the_applications_own_checkpoints_make_room_and_it_goes_on(
    queue: prismq.Queue, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale(queue, 3000, payload=f'"{"x" * 1500}"')
    queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    wal = queue.path.with_name("queue.db-wal")
    monkeypatch.setattr(wal_budget, "CHECKPOINT_PATIENCE", LONGEST_WAIT)
    limits = Limits(wal_growth_bytes=3000 * 1024, wal_growth_ratio=0.0)
    interval, frame_bytes = 100, 4096 + 24
    ends = threading.Event()

    def application() -> None:
        other = apsw.Connection(str(queue.path))
        other.set_busy_timeout(30_000)
        other.wal_autocheckpoint(interval)
        while not ends.wait(0.002):
            other.execute("INSERT INTO task_logs (task_id, level) VALUES (1, 'info')")
        other.close()

    thread = threading.Thread(target=application)
    thread.start()
    try:
        done = run_here("requeue", work_on(target_of(queue.path, limits=limits), raw))
    finally:
        ends.set()
        thread.join()
    assert (done.figures["requeued"], statuses(queue)) == (3000, {"queued": 3000})
    # While a batch waits for the write lock the application commits frames of its own, until its next checkpoint.
    assert wal.stat().st_size <= 3000 * 1024 + interval * frame_bytes


# --- ends ---


def test_it_stops_between_batches_and_reports_what_was_done(queue: prismq.Queue, raw: RawReader) -> None:
    stale(queue, 300)
    work = work_on(target_of(queue.path, limits=Limits(write_lock=1e-9)), raw)
    object.__setattr__(work, "emit", lambda event: work.stop.request_stop() if event.figures["done"] >= 20 else None)
    with pytest.raises(Cancelled) as cancelled:
        run_here("requeue", work)
    moved = int(str(cancelled.value.figures["requeued"]))
    assert 20 <= moved < 300
    assert cancelled.value.totals == {"requeued_tasks": float(moved)}
    assert statuses(queue) == {"leased": 300 - moved, "queued": moved}


@pytest.mark.parametrize("action", ["requeue", "purge"])
def test_a_disk_that_fills_up_ends_it_whole_and_says_what_was_done(tmp_path: Path, raw: RawReader, action: str) -> None:
    with small_disk(tmp_path / "small", 24) as folder:
        queue = prismq.create(folder / "queue.db")
        try:
            old = prismq.stamp(time.time() - 9e6)
            queue.owner.wal_autocheckpoint(0)
            stale(queue, 2500, payload=f'"{"x" * 1500}"')
            queue.put("completed", 2500, finished_at_utc=old, payload=f'"{"x" * 1500}"')
            queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            fill(folder, 1 << 18)
            limits = Limits(disk_reserve=0, wal_growth_bytes=1 << 30)
            with pytest.raises(Failed, match=r"after [1-9]\d* tasks") as failed:
                run_here(
                    action,
                    work_on(
                        target_of(
                            queue.path,
                            limits=limits,
                        ),
                        raw,
                    ),
                )
            assert failed.value.reason == "disk_full"
            done = int(str(failed.value.figures[{"requeue": "requeued", "purge": "purged"}[action]]))
            assert 0 < done < 2500
            (folder / "filler").unlink()
            assert queue.value("PRAGMA integrity_check(1)") == "ok"
            status, remaining = {"requeue": ("leased", 2500 - done), "purge": ("completed", 2500 - done)}[action]
            assert statuses(queue)[status] == remaining
            assert run_here(action, work_on(target_of(queue.path, limits=limits), raw)).totals
            assert status not in statuses(queue)
        finally:
            queue.owner.close()
