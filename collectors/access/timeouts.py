"""Bounds how long statements may run.

One thread for all connections calls `interrupt()`, the only call on a connection that another thread may make
(https://sqlite.org/c3ref/interrupt.html). A progress handler is not enough: it is not called in `count(*)` and ANALYZE.
An interrupt does not cut a wait in a busy handler short: busy timeouts must be shorter than the limit.
One that falls between two statements is lost, and what runs then is interrupted only later: so a limit bounds a statement, and
bounds a transaction of several statements only where no more than its budget passes between them. On a busy machine, or beside
other threads that compute, it does: a lock on an application's database is held within one statement (`shared_reads`).
"""

import heapq
import itertools
import threading
import time
from contextlib import suppress

import apsw


class TimeLimitExceeded(Exception):
    """A statement ran into its time limit and was interrupted."""


class _ArmedLimit:
    """The limit of one block that runs. All fields are read and written under the watchdog's lock."""

    __slots__ = ("connection", "fired", "over", "repeat")

    def __init__(self, connection: apsw.Connection, repeat: float) -> None:
        self.connection, self.repeat = connection, repeat
        self.fired = False
        self.over = False


class _Watchdog:
    """Interrupts each connection at its deadline (monotonic seconds), and again as long as its block goes on."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: list[tuple[float, int, _ArmedLimit]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None

    def arm_limit(self, connection: apsw.Connection, seconds: float, repeat: float) -> _ArmedLimit:
        limit = _ArmedLimit(connection, repeat)
        with self._changed:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch_deadlines, name="time-limit", daemon=True)
                self._thread.start()
            entry = (time.monotonic() + seconds, next(self._order), limit)
            heapq.heappush(self._queue, entry)
            if self._queue[0] is entry:  # else the thread wakes early enough as it is
                self._changed.notify()
        return limit

    def disarm_limit(self, limit: _ArmedLimit) -> bool:
        """Stop interrupting the connection for this limit. Returns whether that happened already."""
        with self._changed:
            limit.over = True
            return limit.fired

    def _watch_deadlines(self) -> None:
        with self._changed:
            while True:
                wait = self._fire_due(time.monotonic())
                self._changed.wait(wait)

    def _fire_due(self, now: float) -> float | None:
        """Interrupt what is due. Returns the seconds until the next deadline, None when there is none."""
        while self._queue and (self._queue[0][2].over or self._queue[0][0] <= now):
            _, _, limit = heapq.heappop(self._queue)
            if not limit.over:
                limit.fired = True
                _interrupt_connection(limit.connection)
                heapq.heappush(self._queue, (now + max(limit.repeat, 0.001), next(self._order), limit))
        return self._queue[0][0] - now if self._queue else None


def _interrupt_connection(connection: apsw.Connection) -> None:
    with suppress(apsw.ConnectionClosedError):  # closed inside its limit: there is nothing to stop
        connection.interrupt()


_WATCHDOG = _Watchdog()


class time_limit:  # noqa: N801 - used like a function; a generator would cost twice as much, ten times a poll
    """Statements of this block that still run after `seconds` are interrupted. Raises TimeLimitExceeded then.

    `repeat`: seconds until what runs then is interrupted again, by default as many. `budget`: what the message names.
    """

    __slots__ = ("_budget", "_connection", "_limit", "_repeat", "_seconds")

    def __init__(
        self, connection: apsw.Connection, seconds: float, *, budget: float | None = None, repeat: float | None = None
    ) -> None:
        self._connection, self._seconds = connection, seconds
        self._budget = seconds if budget is None else budget
        self._repeat = seconds if repeat is None else repeat

    def __enter__(self) -> None:
        self._limit = _WATCHDOG.arm_limit(self._connection, self._seconds, self._repeat)

    def __exit__(self, _kind: object, error: BaseException | None, _at: object) -> None:
        fired = _WATCHDOG.disarm_limit(self._limit)
        if fired and isinstance(error, apsw.InterruptError):
            raise TimeLimitExceeded(f"stopped after {self._budget:g} s") from error
