"""The dispatcher: a run that it cannot start or does not know ends once with a message, and the other runs continue."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actions.model.condition import Condition
from actions.model.outcome import Outcome
from actions.model.request import Request
from actions.policy.rules import BlastRadius, Rule
from actions.policy.windows import Window
from actions.store import runs
from actions.store.database import state_store
from actions.store.pause import clear_pause, set_pause
from actions.store.runs import Run
from collectors.raw_reader.client import RawReader
from collectors.target import Target
from exporter.config.settings import ActingSettings
from exporter.triggers.dispatcher import Dispatcher
from tests.support.scenes import prismq, runner_child
from tests.support.scenes.run_actions import target_of

RULED = {"guarded": True, "limit": 100}


@pytest.fixture
def target(queue: prismq.Queue) -> Target:
    queue.leased(time.time() - 100_000, 3)
    return target_of(queue.path)


@pytest.fixture
def dispatcher(target: Target, raw: RawReader) -> Iterator[Dispatcher]:
    assert target.state is not None
    made = Dispatcher(
        target.state,
        lambda: {target.name: target},
        lambda path: raw.find_flock_holder(Path(path)) is not None,
        on_end=lambda _database: None,
        acting=lambda: ActingSettings(enabled=True),
    )
    made.start()
    yield made
    made.stop()


def asked(target: Target, action: str) -> int:
    assert target.state is not None
    with state_store(target.state) as store:
        wish = Request(action, target.name, "alert", options=RULED, rule="r")
        return runs.enqueue_run(store, wish, str(target.path), time.time())[0]


def ended(dispatcher: Dispatcher, target: Target, run_id: int) -> Run:
    """Wait until a run has ended."""
    assert target.state is not None
    dispatcher.wake_up()
    with state_store(target.state) as store:

        def found() -> Run | None:
            run = runs.load_run(store, run_id)
            return run if run.state == "ended" else None

        run = runner_child.eventually(found, "the run ends")
        assert isinstance(run, Run)
        return run


def count(target: Target) -> int:
    assert target.state is not None
    with state_store(target.state) as store:
        return int(store.execute("SELECT count(*) FROM run").get)


def test_an_action_of_another_version_is_refused_and_the_next_wish_is_heard(
    dispatcher: Dispatcher, target: Target, queue: prismq.Queue
) -> None:
    run = ended(dispatcher, target, asked(target, "defragment"))
    assert (run.outcome, run.reason) == ("refused", "unknown_action")
    assert ended(dispatcher, target, asked(target, "requeue")).outcome == "done"
    assert queue.value("SELECT count(*) FROM task_queue WHERE status = 'queued'") == 3


@pytest.mark.parametrize("program", ["/bin/false", "/nowhere/python"])
def test_a_process_that_does_not_start_ends_the_run_once_instead_of_for_ever(
    dispatcher: Dispatcher, target: Target, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", program)
        run = ended(dispatcher, target, asked(target, "requeue"))
    assert (run.outcome, run.reason) == ("failed", "not_begun")
    assert run.next_step
    assert ended(dispatcher, target, asked(target, "requeue")).outcome == "done"
    assert count(target) == 2


@contextmanager
def many(
    make_queue: Callable[..., prismq.Queue], raw: RawReader, acting: ActingSettings, radius: BlastRadius
) -> Iterator[tuple[Dispatcher, list[Target]]]:
    """A dispatcher over three queues, each with stale leases, and one rule."""
    queues = [make_queue(f"{name}.db") for name in ("a", "b", "c")]
    for queue in queues:
        queue.leased(time.time() - 100_000, 3)
    targets = {queue.path.stem: target_of(queue.path) for queue in queues}
    rule = Rule("r", Condition("sqlite_queue_stale_leases", above=0), "requeue", radius=radius)
    state = queues[0].path.parent / "state"
    made = Dispatcher(
        state,
        lambda: targets,
        lambda path: raw.find_flock_holder(Path(path)) is not None,
        on_end=lambda _database: None,
        acting=lambda: acting,
        rules=lambda: (rule,),
    )
    made.start()
    try:
        yield made, list(targets.values())
    finally:
        made.stop()


def test_an_automatic_wish_waits_for_its_window_and_a_persons_does_not(target: Target, raw: RawReader) -> None:
    assert target.state is not None
    minute = int(time.time()) // 60 % (24 * 60)
    closed, opened = Window((minute + 720) % 1440, (minute + 721) % 1440), Window(0, 1440)
    acting = [ActingSettings(enabled=True, windows={"requeue": closed, "checkpoint": closed})]
    made = Dispatcher(
        target.state,
        lambda: {target.name: target},
        lambda path: raw.find_flock_holder(Path(path)) is not None,
        on_end=lambda _database: None,
        acting=lambda: acting[0],
    )
    made.start()
    try:
        waiting = asked(target, "requeue")
        with state_store(target.state) as store:
            person = runs.enqueue_run(store, Request("checkpoint", target.name), str(target.path), time.time())[0]
        assert ended(made, target, person).outcome in ("done", "nothing_to_do")
        with state_store(target.state) as store:
            assert runs.load_run(store, waiting).state == "pending"
        acting[0] = ActingSettings(enabled=True, windows={"requeue": opened})
        assert ended(made, target, waiting).outcome == "done"
    finally:
        made.stop()


def states(target: Target) -> list[str]:
    assert target.state is not None
    with state_store(target.state) as store:
        return [str(state) for (state,) in store.execute("SELECT state FROM run ORDER BY id")]


def test_a_rule_acts_on_no_more_databases_than_its_radius_and_says_so_once(
    make_queue: Callable[..., prismq.Queue], raw: RawReader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with many(make_queue, raw, ActingSettings(enabled=True), BlastRadius(databases=1, share=0.0, within=600.0)) as (
        made,
        targets,
    ):
        asked_for = [asked(target, "requeue") for target in targets]
        assert ended(made, targets[0], asked_for[0]).outcome == "done"
        for _ in range(4):
            made.wake_up()
            time.sleep(0.1)
        assert states(targets[0]) == ["ended", "pending", "pending"]
        assert caplog.text.count("run waits") == 2
        assert "1 are allowed (blast_radius)" in str([record.__dict__.get("values") for record in caplog.records])


def test_the_quota_of_a_database_holds_its_next_automatic_run_and_no_persons(
    make_queue: Callable[..., prismq.Queue], raw: RawReader
) -> None:
    with many(make_queue, raw, ActingSettings(enabled=True, quota_per_hour=1), BlastRadius()) as (made, (target, *_)):
        assert ended(made, target, asked(target, "requeue")).outcome == "done"
        asked(target, "checkpoint")
        assert target.state is not None
        with state_store(target.state) as store:
            number, _ = runs.enqueue_run(store, Request("verify", target.name), str(target.path), time.time())
        assert ended(made, target, number).outcome is not None
        assert states(target) == ["ended", "pending", "ended"]


def test_a_pause_starts_nothing_and_its_end_starts_what_waits(dispatcher: Dispatcher, target: Target) -> None:
    assert target.state is not None
    with state_store(target.state) as store:
        set_pause(store, "the test")
        number = asked(target, "requeue")
        for _ in range(4):
            dispatcher.wake_up()
            time.sleep(0.1)
        assert runs.load_run(store, number).state == "pending"
        clear_pause(store)
    assert ended(dispatcher, target, number).outcome == "done"


def test_a_run_of_the_command_line_is_an_action_of_ours_too(dispatcher: Dispatcher, target: Target) -> None:
    assert target.state is not None
    with state_store(target.state) as store:
        claim = runs.enqueue_and_claim(store, Request("backup", target.name), str(target.path), time.time())
        assert runs.start_run(store, claim, time.time())
        dispatcher.wake_up()
        runner_child.eventually(lambda: dispatcher.is_busy_with(target.name), "the dispatcher sees it")
        number = asked(target, "requeue")
        for _ in range(4):
            dispatcher.wake_up()
            time.sleep(0.1)
        assert runs.load_run(store, number).state == "pending"
        runs.end_run(store, claim, runs.RunEnding(Outcome.DONE, "done"), time.time())
    assert ended(dispatcher, target, number).outcome == "done"
    runner_child.eventually(lambda: not dispatcher.is_busy_with(target.name), "the dispatcher sees its end")


def test_two_runs_that_did_not_help_are_said_to_suspend(
    dispatcher: Dispatcher, target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    """A bound that no requeue can reach: the first moves tasks, of which none goes away, the second finds none to move."""
    caplog.set_level("INFO")
    assert target.state is not None
    never = Condition("sqlite_queue_tasks", above=0)
    for outcome in ("done", "nothing_to_do"):
        with state_store(target.state) as store:
            wish = Request("requeue", target.name, "threshold", RULED, "r", never)
            number, _ = runs.enqueue_run(store, wish, str(target.path), time.time())
        run = ended(dispatcher, target, number)
        assert (run.outcome, run.effect) == (outcome, "no_effect")
    runner_child.eventually(lambda: "suspended" in caplog.text, "the log says so")
    runner_child.eventually(
        lambda: dispatcher.view.totals.suspensions[target.name, "requeue"].is_suspended, "the view shows it"
    )


def test_stopping_ends_what_runs_at_a_safe_point(dispatcher: Dispatcher, target: Target, queue: prismq.Queue) -> None:
    queue.leased(time.time() - 100_000, 5000)
    asked(target, "requeue")
    dispatcher.wake_up()
    runner_child.eventually(lambda: dispatcher.is_busy_with(target.name), "the action starts")
    dispatcher.stop()
    assert not dispatcher.is_busy_with(target.name)
    assert target.state is not None
    assert runner_child.left_unfinished(target.state) == []
