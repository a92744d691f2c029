"""Statements that end early: when we are asked to stop, when something is over, or when their time is up.

By a thread that calls `interrupt()`, the only call on a connection that another thread may make: a progress handler is not
called in `count(*)` and ANALYZE (https://sqlite.org/c3ref/interrupt.html).
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import apsw

from actions.model.context import ActionContext
from collectors.access.timeouts import TimeLimitExceeded

CHECK_INTERVAL = 0.02


@contextmanager
def interrupt_when(
    connection: apsw.Connection, over: Callable[[], bool], every: float = CHECK_INTERVAL
) -> Iterator[None]:
    """Interrupts the connection's statements of this block once `over()` says so. Raises apsw.InterruptError then."""
    ended = threading.Event()

    def watch_condition() -> None:
        while not ended.wait(every):
            if over():
                connection.interrupt()

    watcher = threading.Thread(target=watch_condition, name="watcher", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


@contextmanager
def limit_statements(work: ActionContext, connection: apsw.Connection, seconds: float | None = None) -> Iterator[None]:
    """Statements of this block end when asked to stop, or `seconds` after it began.

    Interrupted again and again until the block ends: an interrupt between two statements is lost.
    Raises Cancelled, Interrupted, TimeLimitExceeded.
    """
    ends = None if seconds is None else time.monotonic() + seconds
    every = CHECK_INTERVAL if seconds is None else min(CHECK_INTERVAL, max(seconds / 10, 0.0005))

    def is_late() -> bool:
        return ends is not None and time.monotonic() >= ends

    try:
        with interrupt_when(connection, lambda: work.stop.is_requested or is_late(), every):
            yield
    except apsw.InterruptError as error:
        work.stop.raise_if_requested()
        if is_late():
            raise TimeLimitExceeded(f"stopped after {seconds:g} s") from error
        raise
