"""Fixtures that every package's tests use."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import settings

from actions.runner import spawn
from collectors.raw_reader.client import RawReader
from tests.support.scenes import prismq
from tests.support.scenes.forked_process import REAL_PYTHON, spawn_forked_child

# A busy machine makes any example slow; what is too slow in earnest runs into the test's own time limit.
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")
# A shell ignores SIGINT for what it starts in the background, and every process that a test starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def forked_children() -> Iterator[None]:
    """An action's child is forked instead of started where a test starts it: much cheaper, and a process all the same.

    What an agent starts, and the children of `runner_child`, are started as always.
    """
    start = spawn._spawn_child

    def fork_or_start(errors: IO[bytes]) -> Any:
        return spawn_forked_child(errors) if sys.executable == REAL_PYTHON else start(errors)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(spawn, "_spawn_child", fork_or_start)
        yield


@pytest.fixture
def raw() -> Iterator[RawReader]:
    """A raw reader."""
    with RawReader() as reader:
        yield reader


@pytest.fixture
def make_queue(tmp_path: Path) -> Iterator[Callable[..., prismq.Queue]]:
    """Makes queues in the test's directory: make_queue(name="queue.db", journal_mode="wal", page_size=4096)."""
    with ExitStack() as stack:

        def make(name: str = "queue.db", journal_mode: str = "wal", page_size: int = 4096) -> prismq.Queue:
            queue = prismq.create(tmp_path / name, journal_mode, page_size)
            stack.callback(queue.owner.close)
            return queue

        yield make


@pytest.fixture
def queue(make_queue: Callable[..., prismq.Queue]) -> prismq.Queue:
    """An empty WAL queue whose owner is connected."""
    return make_queue()


@pytest.fixture
def held_reader() -> Callable[[Path], object]:
    """A context manager: another process holds a read transaction on this database meanwhile."""

    @contextmanager
    def hold(path: Path) -> Iterator[int]:
        with prismq.process("held_reader.py", path) as child:
            yield child.pid

    return hold


@pytest.fixture
def application() -> Callable[[Path, float], object]:
    """A context manager: another process commits to this queue meanwhile, every `interval` milliseconds."""

    @contextmanager
    def run(path: Path, interval: float = 5) -> Iterator[int]:
        with prismq.process("application.py", path, str(interval)) as child:
            yield child.pid

    return run
