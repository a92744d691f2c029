"""A WAL file that shrinks in slices: what is in use is never cut; its content is whole after each slice and each kill."""

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actions.maintenance import wal_slices
from actions.maintenance.checkpoint_record import CheckpointRecord
from actions.maintenance.wal_copying import FEW_FRAMES, copy_below_pin
from actions.maintenance.wal_slices import CUT_STEP, LARGEST_SLICE, LONGEST_HOLD, cut_unused_tail
from actions.model.context import RunHistory
from actions.model.errors import Cancelled, Failed
from actions.sqlite import wal_restart
from actions.sqlite.pacing import PLANNED_SHARE
from actions.sqlite.wal_restart import open_for_restart
from collectors.raw_reader.client import RawReader
from collectors.raw_reader.formats import wal_file_bytes
from collectors.target import Limits, Target
from tests.support.scenes import prismq, runner_child
from tests.support.scenes.run_actions import by_hand, by_rule, target_of
from tests.support.scenes.run_in_process import plan_here, run_here, work_on

Hold = Callable[[Path], AbstractContextManager[int]]
Application = Callable[[Path, float], AbstractContextManager[int]]
SAFE = "3.51.3"
LARGE = 10_000  # frames of 4 KiB: 41 MB
# The system's own Python has the SQLite of its distribution, which is mostly an old one.
SYSTEM_PYTHON = "/usr/bin/python3"
KILLS = [5, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]


def safe(queue: prismq.Queue, **changes: object) -> Target:
    return target_of(queue.path, owner_sqlite=SAFE, **changes)


def wal_of(queue: prismq.Queue) -> Path:
    return queue.path.with_name(queue.path.name + "-wal")


def frames_of(connection: apsw.Connection) -> tuple[int, int]:
    _, frames, copied = connection.execute("PRAGMA wal_checkpoint(NOOP)").fetchall()[0]
    return frames, copied


def start_over(queue: prismq.Queue, frames: int = LARGE) -> None:
    """Make a large WAL file with a few frames: all are copied, and the application has begun anew."""
    queue.fill_wal(frames)
    queue.owner.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    queue.put()


QUESTIONS = (
    "PRAGMA integrity_check",
    "SELECT count(*), sum(id) FROM task_queue",
    "SELECT count(*), sum(length(bytes)) FROM ballast",
)


def content(path: Path) -> list[list[Any]]:
    """What a new connection reads: whether it is whole, and how much there is."""
    connection = apsw.Connection(str(path))
    connection.wal_autocheckpoint(0)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    answers = [[list(row) for row in connection.execute(question)] for question in QUESTIONS]
    connection.close()
    return answers


def content_by(program: str, path: Path) -> list[list[Any]]:
    """What the SQLite of another Python reads."""
    code = (
        "import json, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
        f"print(json.dumps([list(c.execute(q)) for q in {QUESTIONS!r}]))"
    )
    shown = subprocess.run([program, "-c", code, path], capture_output=True, text=True, check=True).stdout
    answers: list[list[Any]] = json.loads(shown)
    return answers


def after_power_failure(path: Path, read: Callable[[Path], list[list[Any]]] = content) -> list[list[Any]]:
    """What recovery makes of the files without the WAL-index. Another process copies: here it would drop SQLite's locks."""
    with TemporaryDirectory() as folder:
        subprocess.run(["cp", path, f"{path}-wal", folder], check=True)
        return read(Path(folder) / path.name)


# --- the whole way ---


def test_a_large_wal_shrinks_to_nothing_in_slices_beside_an_application(
    queue: prismq.Queue, application: Application
) -> None:
    queue.fill_wal(LARGE)
    with application(queue.path, 2):
        run = by_hand(safe(queue), "checkpoint")
    assert (run.outcome, run.plan.figures["modes"]) == ("done", "passive,truncate")
    assert run.figures["slices"] > 2
    assert run.figures["wal_bytes_before"] > LARGE * 4096
    assert run.figures["wal_bytes"] == 0
    assert 0 < run.figures["longest_hold_seconds"] < run.figures["stall_seconds"]
    assert queue.value("PRAGMA integrity_check") == "ok"


def test_a_small_wal_is_cut_at_once(queue: prismq.Queue) -> None:
    queue.fill_wal(200)
    run = by_hand(safe(queue), "checkpoint", mode="truncate")
    assert (run.outcome, run.figures["slices"], run.figures["wal_bytes"]) == ("done", 0, 0)


def test_the_plan_tells_the_copying_and_the_cutting_and_goes_by_what_was_measured(
    queue: prismq.Queue, raw: RawReader
) -> None:
    queue.fill_wal(LARGE)
    work = work_on(target_of(queue.path), raw)
    plan = plan_here("checkpoint", work)
    copying, cutting = plan.figures["copy_under_lock_seconds"], plan.figures["cut_under_lock_seconds"]
    assert plan.stall == pytest.approx(0.125 + copying + cutting, abs=1e-3)
    assert "cut in slices" in plan.steps[-1]
    slow = {"copy_bytes_per_second": 1e6, "cut_bytes_per_second": 2e6}
    slower = plan_here("checkpoint", replace(work, run_history=RunHistory(figure=slow.get)))
    assert slower.figures["copy_under_lock_seconds"] == pytest.approx(plan.figures["backlog_bytes"] / 1e6)
    assert slower.figures["cut_under_lock_seconds"] == pytest.approx(CUT_STEP / 2e6, abs=1e-3)


def test_the_rates_of_a_run_are_remembered_for_the_next_plan(queue: prismq.Queue) -> None:
    queue.fill_wal(LARGE)
    run = by_hand(safe(queue), "checkpoint")
    assert run.figures["cut_bytes_per_second"] > 0
    assert run.figures["copy_bytes_per_second"] > 0
    queue.fill_wal(LARGE)
    again = by_hand(safe(queue), "checkpoint")
    rate = run.figures["cut_bytes_per_second"]
    at_once = min(LARGEST_SLICE, max(CUT_STEP, PLANNED_SHARE * LONGEST_HOLD * rate))
    assert again.plan.figures["cut_under_lock_seconds"] == pytest.approx(at_once / rate, abs=1e-3)


# --- what is in use ---


def test_a_large_file_with_few_frames_is_cut_without_a_checkpoint_beside_a_reader_that_pins_it(
    queue: prismq.Queue, held_reader: Hold
) -> None:
    start_over(queue)
    with held_reader(queue.path) as reader:
        queue.put(number=5)
        frames, _ = frames_of(queue.owner)
        for owner in (SAFE, None):
            run = by_hand(target_of(queue.path, owner_sqlite=owner), "checkpoint")
            if owner == SAFE:
                assert (run.outcome, run.plan.figures["modes"]) == ("done", "cut")
                assert f"pid {reader}" in run.message
            else:
                assert (run.outcome, run.reason) == ("blocked", "reader_seen"), "nothing is left to cut"
        assert wal_of(queue).stat().st_size == wal_file_bytes(frames, 4096)
        assert frames_of(queue.owner)[0] == frames
    assert queue.value("PRAGMA integrity_check") == "ok"


def test_a_large_file_with_few_frames_is_cut_on_an_owner_not_proved_safe(
    queue: prismq.Queue, held_reader: Hold
) -> None:
    start_over(queue)
    with held_reader(queue.path):
        queue.put(number=5)
        run = by_hand(target_of(queue.path), "checkpoint")
    assert (run.outcome, run.plan.figures["modes"], run.figures["frames_copied"]) == ("done", "cut", 0)
    assert run.figures["wal_bytes"] < CUT_STEP


def test_nothing_is_cut_while_a_recovery_would_find_the_old_frames(queue: prismq.Queue, raw: RawReader) -> None:
    """The instant at which a TRUNCATE is killed: the WAL-index is new, the file is still that of the old generation."""
    queue.fill_wal(LARGE)
    vfs = _NeverCutting()
    connection = apsw.Connection(str(queue.path), vfs="never-cutting")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.close()
    vfs.unregister()
    size = wal_of(queue).stat().st_size
    assert (frames_of(queue.owner), size > LARGE * 4096) == ((0, 0), True)
    assert list(cut_unused_tail(work_on(safe(queue), raw), 0)) == []
    assert wal_of(queue).stat().st_size == size
    assert by_hand(safe(queue), "checkpoint").outcome == "done"
    assert wal_of(queue).stat().st_size == 0
    assert queue.value("PRAGMA integrity_check") == "ok"


class _NeverCutting(apsw.VFS):
    """A VFS that leaves out the cut of the WAL."""

    def __init__(self) -> None:
        super().__init__("never-cutting", "")

    def xOpen(self, name: apsw.URIFilename | str | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name
        return (_NeverCut if flags[0] & apsw.SQLITE_OPEN_WAL else apsw.VFSFile)("", name, flags)


class _NeverCut(apsw.VFSFile):
    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - apsw's name
        pass


@pytest.mark.parametrize("program", [sys.executable, SYSTEM_PYTHON])
def test_every_sqlite_takes_a_log_that_started_over_uncut_for_an_empty_one(queue: prismq.Queue, program: str) -> None:
    if not Path(program).exists():
        pytest.skip(f"no {program} here")
    queue.put(number=3)
    queue.fill_wal(3000)
    before = content_by(program, queue.path)
    with open_for_restart(queue.path, 0.125, 0) as restart:
        assert restart.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall() == [(0, 0, 0)]
        assert not restart.has_cut_file
    assert wal_of(queue).stat().st_size > 3000 * 4096
    assert content_by(program, queue.path) == before
    assert after_power_failure(queue.path, partial(content_by, program)) == before
    queue.put(number=2)
    assert queue.value("SELECT count(*) FROM task_queue") == 5
    assert after_power_failure(queue.path, partial(content_by, program)) == content(queue.path) != before


def test_threads_that_start_two_databases_over_each_go_by_their_own_budget(
    queue: prismq.Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite finds a VFS by its name, and another thread may register its own before this one opens its database."""
    (tmp_path / "second").mkdir()
    second = prismq.create(tmp_path / "second" / "queue.db")
    for each in (queue, second):
        each.fill_wal(1000)
    open_database = wal_restart.open_writable
    with ExitStack() as other_thread:

        def open_after_the_other(path: Path, *rest: Any) -> AbstractContextManager[apsw.Connection]:
            monkeypatch.setattr(wal_restart, "open_writable", open_database)
            other_thread.enter_context(open_for_restart(second.path, 0.125, 0))
            return open_database(path, *rest)

        monkeypatch.setattr(wal_restart, "open_writable", open_after_the_other)
        with open_for_restart(queue.path, 0.125, LARGEST_SLICE) as restart:
            assert restart.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall() == [(0, 0, 0)]
    assert (restart.has_cut_file, wal_of(queue).stat().st_size) == (True, 0)
    second.owner.close()


OPERATIONS = st.lists(
    st.sampled_from(["commit", "large", "passive", "restart", "read", "stop reading", "start over", "cut", "cut"]),
    min_size=4,
    max_size=14,
)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations=OPERATIONS)
def test_no_slice_cuts_what_is_in_use_whatever_happens_between_them(operations: list[str]) -> None:
    with TemporaryDirectory() as folder, RawReader() as raw:
        queue = prismq.create(Path(folder) / "queue.db")
        queue.fill_wal(1)
        reader = apsw.Connection(str(queue.path), flags=apsw.SQLITE_OPEN_READONLY)
        context = work_on(safe(queue), raw)
        for operation in operations:
            perform(operation, queue, reader)
            if operation == "cut":
                check_slices(queue, reader, cut_unused_tail(context, 0))
        reader.close()
        queue.owner.close()


def perform(operation: str, queue: prismq.Queue, reader: apsw.Connection) -> None:
    if operation == "commit":
        queue.put(number=2)
    if operation == "large":
        queue.fill_wal(600)
    if operation in ("passive", "restart"):
        queue.owner.execute(f"PRAGMA wal_checkpoint({operation})").fetchall()
    if operation == "read" and not reader.in_transaction:
        reader.execute("BEGIN; SELECT count(*) FROM task_queue").fetchall()
    if operation == "stop reading" and reader.in_transaction:
        reader.execute("COMMIT")
    if operation == "start over":
        with open_for_restart(queue.path, 0.0, 0) as restart:
            restart.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def check_slices(queue: prismq.Queue, reader: apsw.Connection, slices: Iterator[wal_slices.TailCut]) -> None:
    """After each slice: what is in use is there, a reader reads what it read, and a recovery finds the newest commit."""
    read = "SELECT count(*), total(length(payload)) FROM task_queue"
    snapshot = reader.execute(read).fetchall() if reader.in_transaction else []
    newest = content(queue.path)
    for slice_ in slices:
        frames, _ = frames_of(queue.owner)
        assert slice_.bytes <= LARGEST_SLICE
        assert wal_of(queue).stat().st_size >= wal_file_bytes(frames, 4096)
        assert after_power_failure(queue.path) == newest
    if snapshot:
        assert reader.execute(read).fetchall() == snapshot
    assert content(queue.path) == newest


# --- between two slices ---


@pytest.fixture
def many_slices(queue: prismq.Queue) -> Target:
    """Its slices are as short as can be: one step of the cut."""
    return safe(queue, limits=Limits(write_lock=1e-9, checkpoint_wait=5.0))


@pytest.mark.parametrize("kills", KILLS)
def test_a_run_killed_in_any_slice_leaves_the_database_whole(
    queue: prismq.Queue, many_slices: Target, kills: int
) -> None:
    seed = int(os.environ.get("QK_SEED", random.randrange(10**6)))
    print(f"QK_SEED={seed}")
    chance = random.Random(seed)
    for _ in range(kills):
        start_over(queue, 4000)
        newest = content(queue.path)
        child = runner_child.start(runner_child.claimed(many_slices, "checkpoint"))
        for _ in range(chance.randrange(1, 12)):
            runner_child.wait_for(child, "progress")
        runner_child.close(child)
        assert content(queue.path) == newest == after_power_failure(queue.path)
    run = by_hand(many_slices, "checkpoint")
    assert (run.outcome, wal_of(queue).stat().st_size) == ("done", 0)
    assert content(queue.path) == newest


def test_a_stop_between_slices_ends_the_run_and_its_record_tells_what_was_cut(
    queue: prismq.Queue, many_slices: Target, raw: RawReader
) -> None:
    start_over(queue)
    work = work_on(many_slices, raw)
    stopping = replace(work, emit=lambda event: work.stop.request_stop() if event.kind == "progress" else None)
    with pytest.raises(Cancelled) as stopped:
        run_here("checkpoint", stopping)
    assert stopped.value.figures["slices"] == 1
    assert stopped.value.totals["reclaimed_bytes"] == CUT_STEP
    assert content(queue.path) == after_power_failure(queue.path)
    assert by_hand(many_slices, "checkpoint").figures["wal_bytes"] == 0


@pytest.mark.parametrize("ends", ["closes", "is killed"])
def test_an_application_that_restarts_between_slices_finds_everything(
    queue: prismq.Queue, many_slices: Target, raw: RawReader, ends: str, application: Application
) -> None:
    start_over(queue)
    newest = content(queue.path)
    slices = cut_unused_tail(work_on(many_slices, raw), 0)
    next(slices)
    if ends == "is killed":
        with application(queue.path, 1):  # the context ends it by a kill
            next(slices)
        newest = content(queue.path)
    else:
        queue.owner.close()
        queue.owner = apsw.Connection(str(queue.path))
    assert content(queue.path) == newest
    queue.put()
    assert sum(slice_.bytes for slice_ in slices) > 0
    frames, _ = frames_of(queue.owner)
    assert wal_of(queue).stat().st_size == max(wal_file_bytes(frames, 4096), 0)
    assert queue.value("PRAGMA integrity_check") == "ok"


def test_a_file_that_may_not_be_cut_is_said_and_loses_nothing(
    queue: prismq.Queue, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_over(queue)
    newest = content(queue.path)

    def refuse(descriptor: int, size: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("actions.maintenance.wal_slices.os.ftruncate", refuse)
    with pytest.raises(Failed) as failure:
        run_here("checkpoint", work_on(safe(queue), raw))
    monkeypatch.undo()
    assert failure.value.reason == "wal_file"
    assert content(queue.path) == newest


# --- readers without a gap, and owners that are not proved safe ---


def test_the_operators_word_lets_a_truncate_wait_for_readers_that_overlap(
    queue: prismq.Queue, application: Application
) -> None:
    queue.fill_wal(1200)
    with application(queue.path, 5), prismq.process("taking_turns.py", queue.path, "200"):
        run = by_hand(safe(queue), "checkpoint", stall=20.0)
    assert run.outcome == "done", run.message
    assert run.figures["wal_bytes"] < run.figures["wal_bytes_before"]
    assert run.plan.stall <= 20.0


@contextmanager
def commits(path: Path) -> Iterator[None]:
    """Commit all the time on a connection that never checkpoints."""
    ended = threading.Event()

    def commit_rows() -> None:
        connection = apsw.Connection(str(path))
        connection.wal_autocheckpoint(0)
        connection.set_busy_timeout(60_000)
        while not ended.wait(0.005):
            connection.execute("INSERT INTO task_queue (type) VALUES ('live')")
        connection.close()

    thread = threading.Thread(target=commit_rows)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_on_an_owner_not_proved_safe_most_is_copied_ahead_and_the_log_is_never_copied_whole(
    queue: prismq.Queue, raw: RawReader
) -> None:
    queue.fill_wal(LARGE)
    record = CheckpointRecord((0, 0, 0))
    with commits(queue.path), open_for_restart(queue.path, 0.125, 0) as restart:
        copy_below_pin(work_on(target_of(queue.path), raw), record, restart)
    frames, copied = frames_of(queue.owner)
    assert LARGE <= copied < frames
    assert record.copied_bytes >= LARGE * 4096


def test_on_an_owner_not_proved_safe_a_rule_may_act_on_a_large_log_that_is_written_to(queue: prismq.Queue) -> None:
    queue.fill_wal(5 * LARGE)  # 205 MB: 0.3 s of copying under the write lock, more than allowed
    with commits(queue.path):
        run = by_rule(target_of(queue.path), "checkpoint")
    assert (run.outcome, run.plan.figures["modes"]) == ("done", "truncate"), run.message
    assert run.plan.figures["copy_under_lock_seconds"] <= FEW_FRAMES * 4096 / 1e8
    assert run.figures["wal_bytes"] < run.figures["wal_bytes_before"]
    assert queue.value("PRAGMA integrity_check") == "ok"


def test_on_an_owner_not_proved_safe_a_rule_leaves_a_large_log_that_is_not_written_to(queue: prismq.Queue) -> None:
    queue.fill_wal(5 * LARGE)
    before = frames_of(queue.owner)
    run = by_rule(target_of(queue.path), "checkpoint")
    assert (run.outcome, run.reason) == ("refused", "stall")
    assert "while the application commits" in run.next_step
    assert frames_of(queue.owner) == before
    assert by_hand(target_of(queue.path), "checkpoint").outcome == "done", "a person is not bound"
    assert wal_of(queue).stat().st_size == 0
