"""The dispatcher: what it cannot start or does not know ends in words, once, and it goes on with the rest."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import door_child
import prismq
import pytest
from acting import target_of

from actions.history import runs
from actions.history.runs import Run
from actions.history.store import history
from actions.policy.windows import Window
from actions.run.request import Request
from collectors.raw_reader.ask import RawReader
from collectors.target import Target
from exporter.config.settings import Acting
from exporter.dispatcher import Dispatcher

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
        lambda path: raw.flock_holder(Path(path)) is not None,
        on_end=lambda _database: None,
        acting=lambda: Acting(enabled=True),
    )
    made.start()
    yield made
    made.stop()


def asked(target: Target, action: str) -> int:
    assert target.state is not None
    with history(target.state) as store:
        wish = Request(action, target.name, "alert", options=RULED, rule="r")
        return runs.ask(store, wish, str(target.path), time.time())[0]


def ended(dispatcher: Dispatcher, target: Target, run_id: int) -> Run:
    """Wait until a run has ended."""
    assert target.state is not None
    dispatcher.wake()
    with history(target.state) as store:

        def found() -> Run | None:
            told = runs.run(store, run_id)
            return told if told.state == "ended" else None

        told = door_child.eventually(found, "the run ends")
        assert isinstance(told, Run)
        return told


def count(target: Target) -> int:
    assert target.state is not None
    with history(target.state) as store:
        return int(store.execute("SELECT count(*) FROM run").get)


def test_an_action_of_another_version_is_refused_and_the_next_wish_is_heard(
    dispatcher: Dispatcher, target: Target, queue: prismq.Queue
) -> None:
    told = ended(dispatcher, target, asked(target, "defragment"))
    assert (told.outcome, told.reason) == ("refused", "unknown_action")
    assert ended(dispatcher, target, asked(target, "requeue")).outcome == "done"
    assert queue.value("SELECT count(*) FROM task_queue WHERE status = 'queued'") == 3


@pytest.mark.parametrize("program", ["/bin/false", "/nowhere/python"])
def test_a_process_that_does_not_start_ends_the_run_once_instead_of_for_ever(
    dispatcher: Dispatcher, target: Target, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", program)
        told = ended(dispatcher, target, asked(target, "requeue"))
    assert (told.outcome, told.reason) == ("failed", "not_begun")
    assert told.next_step
    assert ended(dispatcher, target, asked(target, "requeue")).outcome == "done"
    assert count(target) == 2


def test_an_automatic_wish_waits_for_its_window_and_a_persons_does_not(target: Target, raw: RawReader) -> None:
    assert target.state is not None
    minute = int(time.time()) // 60 % (24 * 60)
    closed, opened = Window((minute + 720) % 1440, (minute + 721) % 1440), Window(0, 1440)
    acting = [Acting(enabled=True, windows={"requeue": closed, "checkpoint": closed})]
    made = Dispatcher(
        target.state,
        lambda: {target.name: target},
        lambda path: raw.flock_holder(Path(path)) is not None,
        on_end=lambda _database: None,
        acting=lambda: acting[0],
    )
    made.start()
    try:
        waiting = asked(target, "requeue")
        with history(target.state) as store:
            person = runs.ask(store, Request("checkpoint", target.name), str(target.path), time.time())[0]
        assert ended(made, target, person).outcome in ("done", "nothing_to_do")
        with history(target.state) as store:
            assert runs.run(store, waiting).state == "pending"
        acting[0] = Acting(enabled=True, windows={"requeue": opened})
        assert ended(made, target, waiting).outcome == "done"
    finally:
        made.stop()


def test_stopping_ends_what_runs_at_a_safe_point(dispatcher: Dispatcher, target: Target, queue: prismq.Queue) -> None:
    queue.leased(time.time() - 100_000, 5000)
    asked(target, "requeue")
    dispatcher.wake()
    door_child.eventually(lambda: dispatcher.is_busy_with(target.name), "the action starts")
    dispatcher.stop()
    assert not dispatcher.is_busy_with(target.name)
    assert target.state is not None
    assert door_child.left_unfinished(target.state) == []
