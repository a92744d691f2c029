"""kill -9 of the child at random instants of each action, beside a worker that never rests.

The instants cover the whole life of the process evenly; half of them lie in the time in which it acts.
The seed of each test is printed; QK_SEED=N repeats it.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actions.backups.publish import PARTIAL
from actions.model.request import Request
from actions.runner.protocol import Job
from actions.store import runs
from actions.store.database import state_store
from actions.store.recovery import end_lost_run
from actions.store.runs import Run
from collectors.raw_reader.client import RawReader
from tests.support.scenes import prismq, runner_child
from tests.support.scenes.crash_scene import (
    ACTIONS,
    HEALING,
    STALE,
    WISHES,
    Scene,
    check_backups,
    check_database,
    check_nothing_is_held,
    check_record,
    check_tasks,
    seeded,
    spread,
    stage,
)
from tests.support.scenes.run_actions import by_hand

LONG = pytest.param(30, marks=[pytest.mark.soak, pytest.mark.timeout(600)])
INSTANTS = [10, LONG]
pytestmark = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="needs the kernel's table of locks")


@pytest.fixture
def set_up(
    make_queue: Callable[..., prismq.Queue], tmp_path: Path, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Scene]]:
    with stage(make_queue, tmp_path, raw, monkeypatch) as made:
        yield made


def claimed(scene: Scene) -> Job:
    target = runner_child.slow(scene.target) if scene.action in ("requeue", "purge", "slices") else scene.target
    action, options = WISHES.get(scene.action, (scene.action, {}))
    return runner_child.claimed(target, action, **options)


def undisturbed(scene: Scene) -> tuple[float, float]:
    """How long the action takes as a process, and how long from its plan on, in seconds."""
    scene.give_work()
    job = claimed(scene)
    started = time.monotonic()
    child = runner_child.start(job)
    runner_child.wait_for(child, "planned")
    planned = time.monotonic()
    runner_child.finish(child)
    ended = time.monotonic()
    assert runner_child.record(job).outcome == "done"
    return ended - started, ended - planned


def after_the_kill(scene: Scene, job: Job) -> Run:
    """Everything that must hold, before and after the lost run is ended.

    We are the claimer and live: a run that its child never began is ours to end, as commands and the agent do.
    """
    run_before = runner_child.record(job)
    scene.seen[run_before.state] += 1
    check_nothing_is_held(scene)
    with state_store(scene.state) as store:
        if run_before.state == "claimed":
            end_lost_run(store, run_before, time.time())
    runner_child.recovered(scene.state, scene.raw)
    assert runner_child.left_unfinished(scene.state) == []
    ended_run = runner_child.record(job)
    check_record(scene, ended_run)
    check_backups(scene)
    return ended_run


@pytest.mark.parametrize("instants", INSTANTS)
@pytest.mark.parametrize("action", ACTIONS)
def test_killing_the_child_at_any_instant_loses_nothing_and_leaves_nothing(
    set_up: Callable[..., Scene], action: str, instants: int
) -> None:
    kill_at_instants(set_up(action), instants)


def kill_at_instants(scene: Scene, instants: int) -> None:
    """Kill it so often, and look after each kill."""
    rng = seeded()
    whole, acting = undisturbed(scene)
    for number, instant in enumerate(spread(rng, instants, 1.0)):
        scene.give_work()
        job = claimed(scene)
        child = runner_child.start(job)
        if number % 2:  # every other one while it acts: most of a short action's life is its start-up
            runner_child.wait_for(child, "planned")
        time.sleep(instant * (acting if number % 2 else whole))  # the instant is what is tested
        runner_child.close(child)
        after_the_kill(scene, job)
    undisturbed(scene)
    check_database(scene)
    assert not [path for path in scene.backups if PARTIAL in path.name]
    check_tasks(scene)


@pytest.mark.parametrize("instants", [4, LONG])
@pytest.mark.parametrize("action", HEALING)
def test_killing_what_heals_the_file_at_any_instant_leaves_it_whole(
    set_up: Callable[..., Scene], action: str, instants: int
) -> None:
    kill_at_instants(set_up(action), instants)


def test_a_child_killed_in_the_middle_of_a_backup_leaves_a_partial_file_that_the_next_one_removes(
    set_up: Callable[..., Scene],
) -> None:
    scene = set_up("backup")
    job = claimed(scene)
    child = runner_child.start(job)
    runner_child.wait_for(child, "progress")
    runner_child.close(child)
    assert runner_child.record(job).state == "running"
    ended_run = after_the_kill(scene, job)
    assert (ended_run.outcome, ended_run.reason) == ("interrupted", "process_gone")
    assert [PARTIAL in path.name for path in scene.backups] == [True]
    again = by_hand(scene.target, "backup")
    assert again.figures["leftovers_removed"] == 1
    assert len(scene.backups) == 2
    assert scene.queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0] == 0


@pytest.mark.parametrize(("action", "done"), [("requeue", "requeued"), ("purge", "purged")])
def test_a_child_killed_in_the_middle_of_many_turns_keeps_what_was_committed(
    set_up: Callable[..., Scene], action: str, done: str
) -> None:
    scene = set_up(action)
    scene.give_work()
    job = claimed(scene)
    child = runner_child.start(job)
    runner_child.wait_for(child, "progress")
    runner_child.close(child)
    assert after_the_kill(scene, job).outcome == "interrupted"
    remaining = scene.stale() if action == "requeue" else scene.left()
    assert 0 < remaining < STALE
    assert by_hand(scene.target, action).figures[done] == remaining
    check_database(scene)
    check_tasks(scene)


def test_a_claim_that_begins_while_it_is_given_up_is_not_ended(tmp_path: Path) -> None:
    """Between finding a lost claim and ending it, its child may have begun: ending it then would be a false record."""
    for wish in (Request("backup", "jobs"), Request("backup", "jobs", "threshold", rule="r")):
        with state_store(tmp_path / wish.trigger) as store:
            claim = runs.enqueue_and_claim(store, wish, "/jobs.db", 1.0)
            run_before = runs.load_run(store, claim.run_id)
            assert runs.start_run(store, claim, 2.0)
            end_lost_run(store, run_before, 3.0)
            assert runs.load_run(store, claim.run_id).state == "running"
