"""The runner as a process: callers that do not read or are gone, two runs at once, stale claims, dry runs."""

import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from actions.model.request import Request
from actions.runner.child import RUN_NOT_OURS
from actions.runner.protocol import Job
from actions.runner.spawn import RunningAction
from actions.store import runs
from actions.store.database import state_store
from collectors.raw_reader.client import RawReader
from collectors.target import BackupSettings, Limits, Target
from tests.support.scenes import prismq, runner_child
from tests.support.scenes.run_actions import by_hand, target_of

Hold = Callable[[Path], AbstractContextManager[int]]
LONG_AGO = 100_000.0
MANY = 1500


@pytest.fixture
def stale(queue: prismq.Queue) -> prismq.Queue:
    """Thousands of tasks whose worker is gone."""
    queue.leased(time.time() - LONG_AGO, MANY)
    return queue


@pytest.fixture
def target(stale: prismq.Queue, tmp_path: Path) -> Target:
    place = BackupSettings(tmp_path / "backups", own_folder=False)
    return target_of(stale.path, backup=place, limits=Limits(disk_reserve=0), owner_sqlite="3.51.3")


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """What a test puts here is ended with it."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        runner_child.close(child)


def requeued(queue: prismq.Queue) -> int:
    return int(queue.value("SELECT count(*) FROM task_queue WHERE status = 'queued'"))


def truncates(queue: prismq.Queue) -> bool:
    """Whether the application's own checkpoint is not blocked."""
    return queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0] == 0


def full_pipe() -> tuple[int, int]:
    """A pipe into which not one more byte goes."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"." * 4096)
    except BlockingIOError:
        return reading, writing


@pytest.mark.parametrize("action", ["requeue", "backup", "checkpoint"])
def test_a_caller_that_never_reads_holds_nothing_up(
    target: Target, stale: prismq.Queue, children: list[subprocess.Popen[bytes]], action: str
) -> None:
    stale.fill_wal(3000)
    job = runner_child.claimed(target, action)
    reading, writing = full_pipe()
    children.append(runner_child.start(job, stdout=writing))
    os.close(writing)
    assert children[0].wait(runner_child.PATIENCE) == 0
    assert runner_child.record(job).outcome == "done"
    assert truncates(stale)
    assert set(os.read(reading, 1 << 20)) == {ord(".")}
    os.close(reading)


def test_a_caller_that_closes_only_its_ear_lets_the_action_end(
    target: Target, children: list[subprocess.Popen[bytes]], stale: prismq.Queue
) -> None:
    job = runner_child.claimed(target, "requeue")
    reading, writing = os.pipe()
    children.append(runner_child.start(job, stdout=writing))
    os.close(writing)
    os.close(reading)
    assert children[0].wait(runner_child.PATIENCE) == 0
    assert (runner_child.record(job).outcome, requeued(stale)) == ("done", MANY)


def test_a_caller_that_is_gone_interrupts_at_a_safe_point_and_the_work_done_is_recorded(
    target: Target, stale: prismq.Queue, children: list[subprocess.Popen[bytes]]
) -> None:
    job = runner_child.claimed(runner_child.slow(target), "requeue")
    children.append(runner_child.start(job))
    runner_child.wait_for(children[0], "progress")
    runner_child.hang_up(children[0])
    status, _, errors = runner_child.finish(children[0])
    ended_run = runner_child.record(job)
    assert (status, errors) == (1, "")
    assert (ended_run.outcome, ended_run.reason) == ("interrupted", "caller_gone")
    assert 0 < requeued(stale) < MANY
    assert ended_run.figures["requeued"] == requeued(stale)
    with state_store(job.state) as store:
        assert store.execute("SELECT amount FROM amount_total WHERE name = 'requeued_tasks'").get == requeued(stale)
    assert by_hand(target, "requeue").figures["requeued"] == MANY - ended_run.figures["requeued"]


def test_a_backup_without_its_caller_leaves_no_file(
    target: Target, stale: prismq.Queue, children: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    stale.fill_wal(8000)
    job = runner_child.claimed(target, "backup")
    children.append(runner_child.start(job))
    runner_child.wait_for(children[0], "progress")
    runner_child.hang_up(children[0])
    assert runner_child.finish(children[0])[0] == 1
    assert runner_child.record(job).outcome == "interrupted"
    assert list((tmp_path / "backups").iterdir()) == []
    assert truncates(stale)


@pytest.mark.parametrize("how", ["word", "SIGTERM", "SIGINT"])
def test_a_requested_stop_cancels_the_run(
    target: Target, stale: prismq.Queue, children: list[subprocess.Popen[bytes]], how: str
) -> None:
    job = runner_child.claimed(runner_child.slow(target), "requeue")
    children.append(runner_child.start(job))
    runner_child.wait_for(children[0], "progress")
    if how == "word":
        runner_child.say(children[0], b"stop\n")
    else:
        children[0].send_signal(getattr(signal, how))
    status, _, errors = runner_child.finish(children[0])
    ended_run = runner_child.record(job)
    assert (status, errors, ended_run.outcome) == (1, "", "cancelled")
    assert ended_run.figures["requeued"] == requeued(stale) < MANY


def test_a_terminals_interrupt_does_not_reach_the_child(target: Target) -> None:
    """Ctrl-C goes to the whole foreground group; the child is asked by its caller alone."""
    child = RunningAction(runner_child.claimed(runner_child.slow(target), "requeue"))
    assert os.getpgid(child.pid) != os.getpgid(0)
    child.stop()
    list(child.read_events())
    child.wait_for_exit()


def test_stopping_a_child_that_has_ended_is_nothing(target: Target) -> None:
    child = RunningAction(runner_child.claimed(target, "requeue"))
    list(child.read_events())
    assert child.wait_for_exit() == (0, "")
    child.stop()


def test_waiting_without_listening_is_not_hanging_up(target: Target) -> None:
    job = runner_child.claimed(target, "requeue")
    assert RunningAction(job).wait_for_exit() == (0, "")
    assert runner_child.record(job).outcome == "done"


def test_a_disk_that_fills_in_the_middle_fails_and_the_work_done_is_recorded(
    target: Target, stale: prismq.Queue, children: list[subprocess.Popen[bytes]]
) -> None:
    """The kernel's limit on file sizes, set from outside: the database's WAL cannot grow, the smaller history's can."""
    job = runner_child.claimed(runner_child.slow(target), "requeue")
    children.append(runner_child.start(job))
    runner_child.wait_for(children[0], "progress")
    size = target.wal.stat().st_size
    resource.prlimit(children[0].pid, resource.RLIMIT_FSIZE, (size, size))
    status, _, errors = runner_child.finish(children[0])
    ended_run = runner_child.record(job)
    assert (status, errors, ended_run.outcome) == (1, "", "failed")
    assert ended_run.message.startswith("SQLite: ")
    assert 0 < requeued(stale) == ended_run.figures["requeued"] < MANY
    stale.put()
    assert stale.value("PRAGMA integrity_check") == "ok"


def test_a_second_action_ends_locked_and_the_first_is_untouched(
    target: Target, stale: prismq.Queue, children: list[subprocess.Popen[bytes]], raw: RawReader
) -> None:
    first = runner_child.claimed(runner_child.slow(target), "requeue")
    children.append(runner_child.start(first))
    runner_child.wait_for(children[0], "progress")
    assert raw.find_flock_holder(target.path) == children[0].pid
    elsewhere = replace(target, state=target.path.parent / "another-state")
    for place in (target, elsewhere):
        second = runner_child.claimed(place, "backup")
        status, events, _ = runner_child.finish(runner_child.start(second))
        ended_run = runner_child.record(second)
        assert (status, ended_run.outcome, ended_run.reason) == (4, "locked", "action_running")
        assert "queuekeeper history" in ended_run.next_step
        assert events[-1].figures["outcome"] == "locked"
    runner_child.say(children[0], b"stop\n")
    runner_child.finish(children[0])
    assert runner_child.record(first).outcome == "cancelled"
    assert raw.find_flock_holder(target.path) is None


def test_a_child_that_lost_its_claim_exits_and_does_nothing(target: Target, stale: prismq.Queue) -> None:
    assert target.state is not None
    request = Request("requeue", target.name, "threshold", options={"guarded": True, "limit": MANY})
    with state_store(target.state) as store:
        run_id, _ = runs.enqueue_run(store, request, str(target.path), 1.0)
        old = runs.claim_run(store, run_id, 2.0)
        assert old is not None
        assert runs.release_claim(store, run_id, old.token)
        new = runs.claim_run(store, run_id, 3.0)
    status, events, errors = runner_child.finish(runner_child.start(Job(request, target, target.state, old)))
    assert (status, events, errors) == (RUN_NOT_OURS, [], "")
    assert requeued(stale) == 0
    assert new is not None
    assert runner_child.finish(runner_child.start(Job(request, target, target.state, new)))[0] == 0
    assert requeued(stale) == MANY


def test_a_run_is_performed_once_however_many_children_get_its_claim(target: Target, stale: prismq.Queue) -> None:
    job = runner_child.claimed(target, "requeue")
    started = [runner_child.start(job) for _ in range(4)]
    statuses = sorted(runner_child.finish(child)[0] for child in started)
    assert statuses[0] in (0, 4)  # one was the first at the lock, unless a later one ended the claim as locked
    ended_run = runner_child.record(job)
    assert ended_run.outcome in ("done", "locked")
    assert requeued(stale) == (MANY if ended_run.outcome == "done" else 0)
    with state_store(job.state) as store:
        assert store.execute("SELECT sum(runs) FROM run_total").get == 1


REPLACING = """
import os, sys
from pathlib import Path
from actions.runner.action_lock import acquire_action_lock
from actions.model.errors import ActionError
database, other = Path(sys.argv[1]), sys.argv[2]
def between(event, _arguments):  # after the open, before the lock
    if event == "fcntl.flock":
        os.replace(other, database) if other else os.unlink(database)
sys.addaudithook(between)
try:
    acquire_action_lock(database, database.parent)
except ActionError as error:
    print(error.reason, error.next_step)
"""


@pytest.mark.parametrize("replaced_by", ["new.db", ""])
def test_a_file_that_is_replaced_while_it_is_being_locked_is_not_acted_upon(tmp_path: Path, replaced_by: str) -> None:
    (tmp_path / "queue.db").write_bytes(b"old")
    (tmp_path / "new.db").write_bytes(b"new")
    other = str(tmp_path / replaced_by) if replaced_by else ""
    ran = subprocess.run(
        [sys.executable, "-c", REPLACING, str(tmp_path / "queue.db"), other], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("replaced run it again")


def test_reading_the_lock_table_does_not_release_the_lock(target: Target, raw: RawReader, stale: prismq.Queue) -> None:
    """The kernel's table is read; taking the lock to see whether it is free would refuse an action that starts then."""
    descriptor = os.open(stale.path.with_name("lockfile"), os.O_CREAT | os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert raw.find_flock_holder(stale.path) is None
    assert raw.find_flock_holder(stale.path.with_name("lockfile")) == os.getpid()
    os.close(descriptor)
