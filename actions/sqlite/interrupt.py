"""Ends statements early: at a request to stop, on a condition, or when their time is over.

A thread calls `interrupt()`, the only call on a connection that another thread may make: a progress handler is not called in
`count(*)` and ANALYZE (https://sqlite.org/c3ref/interrupt.html).
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
    connection: apsw.Connection, condition: Callable[[], bool], every: float = CHECK_INTERVAL
) -> Iterator[None]:
    """Interrupt the connection's statements in the block once `condition()` is true, looked at `every` seconds.

    Raises apsw.InterruptError then.
    """
    ended = threading.Event()

    def watch_condition() -> None:
        while not ended.wait(every):
            if condition():
                connection.interrupt()

    watcher = threading.Thread(target=watch_condition, name="watcher", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


@contextmanager
def limit_statements(
    context: ActionContext, connection: apsw.Connection, seconds: float | None = None
) -> Iterator[None]:
    """Interrupt the statements of the block at a request to stop, or `seconds` after it began.

    They are interrupted again and again until the block ends: an interrupt between two statements has no effect.
    Raises Cancelled, Interrupted, TimeLimitExceeded.
    """
    ends = None if seconds is None else time.monotonic() + seconds
    every = CHECK_INTERVAL if seconds is None else min(CHECK_INTERVAL, max(seconds / 10, 0.0005))

    def is_late() -> bool:
        return ends is not None and time.monotonic() >= ends

    try:
        with interrupt_when(connection, lambda: context.stop.is_requested or is_late(), every):
            yield
    except apsw.InterruptError as error:
        context.stop.raise_if_requested()
        if is_late():
            raise TimeLimitExceeded(f"stopped after {seconds:g} s") from error
        raise
