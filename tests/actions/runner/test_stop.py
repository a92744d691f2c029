"""What stops a running action besides its caller: a pause, a cancel, the end of its window; and what remains after it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from actions.model.errors import Refused
from actions.model.request import Request
from actions.policy.windows import Window
from actions.runner.enqueue import enqueue_automatic
from actions.runner.pause_and_cancel import cancel_run, pause_actions, wait_for_runs
from actions.store import recent_runs, runs
from actions.store.database import state_store
from actions.store.pause import clear_pause, pause_reason
from collectors.target import BackupSettings, Limits, Target
from tests.support.scenes import prismq, runner_child
from tests.support.scenes.run_actions import by_hand, by_rule, target_of

LONG_AGO = 100_000.0
MANY = 1500
RULED = {"guarded": True, "limit": MANY}
# A child whose clock stands still until a file says otherwise: open, and then closed.
WITH_CLOCK = """
import os, sys, time
opened, flag = float(sys.argv[1]), sys.argv[2]
time.time = lambda: opened + 60 * os.path.exists(flag)
from actions.runner.child import main
sys.exit(main())
"""


@pytest.fixture
def queue_of_many(queue: prismq.Queue) -> prismq.Queue:
    queue.leased(time.time() - LONG_AGO, MANY)
    return queue


@pytest.fixture
def target(queue_of_many: prismq.Queue, tmp_path: Path) -> Target:
    place = BackupSettings(tmp_path / "backups", own_folder=False)
    return target_of(queue_of_many.path, backup=place, limits=Limits(disk_reserve=0))


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        runner_child.close(child)


def requeued(queue: prismq.Queue) -> int:
    return int(queue.value("SELECT count(*) FROM task_queue WHERE status = 'queued'"))


@pytest.mark.parametrize("trigger", ["person", "alert"])
def test_a_pause_stops_what_runs_whichever_trigger_requested_it(
    target: Target, queue: prismq.Queue, children: list[subprocess.Popen[bytes]], trigger: str
) -> None:
    request = Request("requeue", target.name, trigger, options=RULED)  # type: ignore[arg-type] # one of its words
    job = runner_child.claimed(runner_child.slow(target), "requeue", request)
    children.append(runner_child.start(job))
    runner_child.wait_for(children[0], "progress")
    with state_store(job.state) as store:
        assert pause_actions(store, "by ann") is None
        settled = wait_for_runs(store, runner_child.PATIENCE)
        assert [run.outcome for run in settled.ended] == ["cancelled"]
        assert settled.finishing == ()
        assert recent_runs.last_counted_end(store, target.name, "requeue", time.time()) is None, (
            "after the pause it may start at once"
        )
    runner_child.finish(children[0])  # a child holds its lock until its process is gone
    ended_run = runner_child.record(job)
    assert (ended_run.reason, ended_run.next_step) == ("paused", "queuekeeper resume, then run it again")
    assert "by ann" in ended_run.message
    assert ended_run.figures["requeued"] == requeued(queue)
    assert 0 < requeued(queue) < MANY
    with state_store(job.state) as store:
        clear_pause(store)
    assert by_hand(target, "requeue").outcome == "done"
    assert requeued(queue) == MANY


def test_a_second_pause_keeps_the_first_reason(target: Target) -> None:
    assert target.state is not None
    with state_store(target.state) as store:
        assert pause_actions(store, "by ann") is None
        assert pause_actions(store, "by ben") == "by ann"
        assert pause_reason(store) == "by ann"


def test_a_run_that_does_not_reach_a_safe_point_in_time_is_reported(target: Target) -> None:
    """This process stands for a child that is deep in one long step."""
    job = runner_child.claimed(target, "backup")
    with state_store(job.state) as store:
        assert job.claim is not None
        assert runs.start_run(store, job.claim, time.time())
        pause_actions(store, "by ann")
        assert [run.id for run in wait_for_runs(store, 0.0).finishing] == [job.claim.run_id]
        store.execute("UPDATE run SET child = '1:0'")  # a process that is gone is not at work
        assert wait_for_runs(store, 0.0).finishing == ()


def test_a_cancelled_run_names_the_person_and_leaves_no_request(
    target: Target, queue: prismq.Queue, children: list[subprocess.Popen[bytes]]
) -> None:
    job = runner_child.claimed(runner_child.slow(target), "requeue")
    assert job.claim is not None
    children.append(runner_child.start(job))
    runner_child.wait_for(children[0], "progress")
    with state_store(job.state) as store:
        assert cancel_run(store, job.claim.run_id, "ann", time.time()).state == "running"
        assert [run.id for run in wait_for_runs(store, runner_child.PATIENCE, only=job.claim.run_id).ended] == [
            job.claim.run_id
        ]
        assert store.execute("SELECT count(*) FROM setting WHERE name LIKE 'cancel%'").get == 0
        ended_run = runs.load_run(store, job.claim.run_id)
        assert (ended_run.outcome, ended_run.reason) == ("cancelled", "asked")
        assert "as ann asked" in ended_run.message
        assert 0 < requeued(queue) < MANY
        with pytest.raises(Refused, match="has ended already"):
            cancel_run(store, job.claim.run_id, "ann", time.time())
        with pytest.raises(KeyError, match="there is no run 99"):
            cancel_run(store, 99, "ann", time.time())


def test_a_mark_on_a_claim_stops_its_child_before_it_acts(target: Target, queue: prismq.Queue) -> None:
    job = runner_child.claimed(target, "requeue")
    assert job.claim is not None
    with state_store(job.state) as store:
        assert cancel_run(store, job.claim.run_id, "ann", time.time()).state == "claimed"
    runner_child.finish(runner_child.start(job))
    assert (runner_child.record(job).outcome, requeued(queue)) == ("cancelled", 0)


def test_a_waiting_run_is_cancelled_at_once_also_while_paused(target: Target) -> None:
    assert target.state is not None
    with state_store(target.state) as store:
        answer = enqueue_automatic(
            store, Request("requeue", target.name, "alert", options=RULED), str(target.path), 1.0
        )
        assert answer.run_id is not None
        pause_actions(store, "by ann")
        ended_run = cancel_run(store, answer.run_id, "ben", 2.0)
        assert (ended_run.state, ended_run.outcome, ended_run.ended_at) == ("ended", "cancelled", 2.0)
        assert runs.pending_runs(store) == []


def test_a_run_is_stopped_when_its_window_is_over(
    target: Target, queue: prismq.Queue, children: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    opened = float(int(time.time()) // 60 * 60)
    minute = int(opened) // 60 % (24 * 60)
    request = Request("requeue", target.name, "alert", options=RULED)
    job = replace(
        runner_child.claimed(runner_child.slow(target), "requeue", request), window=Window(minute, minute + 1)
    )
    flag = tmp_path / "it is later"
    command = (sys.executable, "-I", "-c", WITH_CLOCK, str(opened), str(flag))
    children.append(runner_child.start(job, command=command))
    runner_child.wait_for(children[0], "progress")
    flag.touch()
    runner_child.finish(children[0])
    ended_run = runner_child.record(job)
    assert (ended_run.outcome, ended_run.reason) == ("cancelled", "window_closed")
    assert "by hand: queuekeeper requeue" in ended_run.next_step
    assert 0 < requeued(queue) < MANY


def test_outside_its_window_an_action_is_refused_but_for_a_person(target: Target) -> None:
    closed = _closed_now()
    job = runner_child.claimed(target, "requeue", Request("requeue", target.name, "alert", options=RULED))
    runner_child.finish(runner_child.start(replace(job, window=closed)))
    ended_run = runner_child.record(job)
    assert (ended_run.outcome, ended_run.reason) == ("refused", "window_closed")
    person = runner_child.claimed(target, "requeue")
    runner_child.finish(runner_child.start(replace(person, window=closed)))
    assert runner_child.record(person).outcome == "done"


def test_a_disk_without_its_reserve_refuses_what_writes_and_not_what_gives_back(target: Target) -> None:
    greedy = replace(target, limits=Limits(disk_reserve=2**60), owner_sqlite="3.51.3")
    ended_run = by_hand(greedy, "requeue")
    assert (ended_run.outcome, ended_run.reason) == ("refused", "disk_full")
    assert "bytes are missing" in ended_run.message
    assert by_rule(greedy, "checkpoint").outcome in ("done", "nothing_to_do")


def _closed_now() -> Window:
    """Opens in twelve hours, at any time of the day."""
    minute = (int(time.time()) // 60 + 12 * 60) % (24 * 60)
    return Window(minute, minute + 1)
