"""Every database is polled when it is due; a poll that hangs delays its own database only."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from collectors.access.snapshot import Snapshot
from collectors.target import Target
from exporter.exposition.latest import LatestSnapshots
from exporter.polling.loop import PollLoop, PollTiming, next_due_time
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes.exporter_state import target


class Polls:
    """Counts polls that run at once, and wakes the threads that wait for one to end."""

    def __init__(self, read: Callable[[Target], None] = lambda _: None) -> None:
        self._read = read
        self.changed = threading.Condition()
        self.ended: dict[str, int] = {}
        self.running: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.previous: list[Snapshot | None] = []

    def __call__(self, one: Target, previous: Snapshot | None, now: float) -> Snapshot:
        with self.changed:
            self.running[one.name] = self.running.get(one.name, 0) + 1
            self.most[one.name] = max(self.most.get(one.name, 0), self.running[one.name])
            self.previous.append(previous)
        try:
            self._read(one)
        finally:
            with self.changed:
                self.running[one.name] -= 1
                self.ended[one.name] = self.ended.get(one.name, 0) + 1
                self.changed.notify_all()
        return Snapshot(one, now, up=True, state="readable")

    def wait(self, name: str, times: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.ended.get(name, 0) >= times, LONGEST_WAIT), (
                f"{name}: {self.ended}"
            )


@pytest.fixture
def loops() -> Iterator[list[PollLoop]]:
    started: list[PollLoop] = []
    yield started
    for loop in started:
        loop.stop(0.1)


def started(loops: list[PollLoop], names: list[str], polls: Polls, **timing: float) -> tuple[PollLoop, LatestSnapshots]:
    board = LatestSnapshots()
    loop = PollLoop(lambda: tuple(map(target, names)), polls, board, timing=PollTiming(**timing))
    loops.append(loop)
    loop.start()
    return loop, board


def test_each_database_is_polled_again_and_sees_its_previous_reading(loops: list[PollLoop]) -> None:
    polls = Polls()
    _, board = started(loops, ["a"], polls, interval=0.01)
    polls.wait("a", 3)
    assert polls.previous[0] is None
    assert polls.previous[1] is not None
    assert board.all_databases_polled()


def test_a_database_that_hangs_costs_only_itself(loops: list[PollLoop], tmp_path: Path) -> None:
    """A fifo without a writer: `open` hangs in the kernel, as a dead network file system does."""
    fifo = tmp_path / "hung"
    os.mkfifo(fifo)
    hung = [f"hung-{number}" for number in range(10)]  # more than may run at once

    def read(one: Target) -> None:
        if one.name in hung:
            os.close(os.open(fifo, os.O_RDONLY))

    polls = Polls(read)
    loop, board = started(loops, [*hung, "fine"], polls, interval=0.02, hung_after=0.1)
    try:
        polls.wait("fine", 5)
        assert {polls.most.get(name, 0) for name in hung} == {1}
        assert board.view_at(0, 15).overruns["hung-0"] > 0
        assert not board.all_databases_polled()
        assert not loop.stop(0.05)
    finally:
        # a hanging poll gets its end of file, also one that began only now
        writer = os.open(fifo, os.O_RDWR)
        with polls.changed:
            polls.changed.wait_for(lambda: not any(polls.running.values()), LONGEST_WAIT)
        os.close(writer)


def test_one_database_is_never_polled_twice_at_once(loops: list[PollLoop]) -> None:
    go = threading.Event()
    polls = Polls(lambda _: go.wait(LONGEST_WAIT) and None)
    loop, board = started(loops, ["a"], polls, interval=0.005, hung_after=0.01)
    deadline = time.monotonic() + LONGEST_WAIT
    while board.view_at(0, 15).overruns.get("a", 0) < 5 and time.monotonic() < deadline:
        loop.poll_soon("a")
        go.wait(0.005)
    go.set()
    polls.wait("a", 2)
    assert polls.most == {"a": 1}
    assert board.view_at(0, 15).overruns["a"] >= 5


def test_a_poll_that_raises_does_not_stop_the_others_or_the_next(
    loops: list[PollLoop], caplog: pytest.LogCaptureFixture
) -> None:
    def read(one: Target) -> None:
        if one.name == "bad":
            raise RuntimeError("broken on purpose")

    polls = Polls(read)
    started(loops, ["bad", "good"], polls, interval=0.01)
    polls.wait("bad", 3)
    polls.wait("good", 3)
    assert "poll failed" in caplog.text


def test_new_files_are_found_and_vanished_ones_dropped(loops: list[PollLoop]) -> None:
    names = ["a"]
    polls = Polls()
    loop, board = started(loops, names, polls, interval=60, rescan=60)
    polls.wait("a", 1)
    names[:] = ["b"]
    loop.rescan_soon()
    polls.wait("b", 1)
    assert [target.name for target in board.view_at(0, 15).targets] == ["b"]
    assert board.newest_snapshot("a") is None


def test_a_file_that_gets_another_name_is_not_polled_twice_at_once(loops: list[PollLoop]) -> None:
    names, begun, go = ["a"], threading.Event(), threading.Event()
    running: list[str] = []

    def poll(one: Target, _: Snapshot | None, now: float) -> Snapshot:
        running.append(one.name)
        begun.set()
        go.wait(LONGEST_WAIT)
        return Snapshot(one, now, up=True, state="readable")

    watched = LatestSnapshots()
    find = lambda: tuple(replace(target(name), path=Path("/one/file.db")) for name in names)  # noqa: E731
    loop = PollLoop(find, poll, watched, timing=PollTiming(interval=0.005))
    loops.append(loop)
    loop.start()
    assert begun.wait(LONGEST_WAIT)
    names[:] = ["prod/a"]
    loop.rescan_soon()
    deadline = time.monotonic() + LONGEST_WAIT
    while watched.view_at(0, 15).overruns.get("prod/a", 0) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert running == ["a"]
    go.set()
    while "prod/a" not in running and time.monotonic() < deadline:
        time.sleep(0.005)
    assert watched.newest_snapshot("a") is None
    assert running[:2] == ["a", "prod/a"]


def test_poll_soon_does_not_wait_for_the_interval(loops: list[PollLoop]) -> None:
    polls = Polls()
    loop, board = started(loops, ["a"], polls, interval=3600)
    for times in range(2, 20):  # also while a poll runs: then it comes once more afterwards
        polls.wait("a", times - 1)
        loop.poll_soon("a")
    polls.wait("a", 19)
    assert board.view_at(0, 15).overruns == {}


def test_stopping_waits_for_the_running_poll_and_begins_no_other(loops: list[PollLoop]) -> None:
    begun, go = threading.Event(), threading.Event()

    def read(_: Target) -> None:
        begun.set()
        go.wait(LONGEST_WAIT)

    polls = Polls(read)
    loop, _ = started(loops, ["a"], polls, interval=0.01)
    assert begun.wait(LONGEST_WAIT)
    threading.Timer(0.05, go.set).start()
    assert loop.stop(LONGEST_WAIT)
    assert polls.ended == {"a": 1}


def test_a_listing_that_fails_keeps_what_is_known(loops: list[PollLoop]) -> None:
    answers: list[tuple[Target, ...] | OSError] = [(target("a"),), OSError("stale handle")]

    def find() -> tuple[Target, ...]:
        answer = answers.pop(0) if answers else OSError("stale handle")
        if isinstance(answer, OSError):
            raise answer
        return answer

    polls = Polls()
    loop = PollLoop(find, polls, LatestSnapshots(), timing=PollTiming(interval=0.01, rescan=0.01))
    loops.append(loop)
    loop.start()
    polls.wait("a", 5)
    assert not any(isinstance(answer, tuple) for answer in answers)


def test_many_databases_are_spread_over_the_interval() -> None:
    dues = [next_due_time(f"database-{number}", 1, 0.0, 10.0) for number in range(200)]
    assert all(5.0 <= due <= 10.0 for due in dues)
    assert len({round(due, 1) for due in dues}) > 30
    assert next_due_time("a", 2, 7.0, 10.0) == 17.0
