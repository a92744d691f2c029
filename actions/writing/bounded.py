"""Statements that end early: when we are asked to stop, when something is over, or when their time is up.

By a thread that calls `interrupt()`, the only call on a connection that another thread may make: a progress handler is not
called in `count(*)` and ANALYZE (https://sqlite.org/c3ref/interrupt.html).
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import apsw

from actions.run.work import Work
from collectors.reading.time_limit import time_limit

LOOK_EVERY = 0.02


@contextmanager
def interrupted_when(
    connection: apsw.Connection, over: Callable[[], bool], every: float = LOOK_EVERY
) -> Iterator[None]:
    """Interrupts the connection's statements of this block once `over()` says so. Raises apsw.InterruptError then."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(every):
            if over():
                connection.interrupt()

    watcher = threading.Thread(target=watch, name="watcher", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


@contextmanager
def bounded(work: Work, connection: apsw.Connection, seconds: float | None = None) -> Iterator[None]:
    """Statements of this block end when asked to stop, or after `seconds`.

    Raises Cancelled, Interrupted, TimeLimitExceeded.
    """
    with ExitStack() as stack:
        if seconds is not None:
            stack.enter_context(time_limit(connection, seconds))
        stack.enter_context(interrupted_when(connection, lambda: work.stop.asked))
        try:
            yield
        except apsw.InterruptError:
            work.stop.check()
            raise
