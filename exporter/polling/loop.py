"""Polls every database when it is due. One scheduler thread decides; short-lived worker threads poll.

A database is never polled twice at once. A poll that hangs delays its own database only: its worker no longer counts once it is
`hung_after` seconds old. Threads are daemons, so that a poll hanging in the kernel cannot delay the exit.
"""

import heapq
import itertools
import logging
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from collectors.access.snapshot import Snapshot
from collectors.target import Target
from exporter.exposition.latest import LatestSnapshots
from exporter.log import log_event

PollFunction = Callable[[Target, Snapshot | None, float], Snapshot]
PrefetchFunction = Callable[[Sequence[tuple[Target, Snapshot | None]]], None]
MAX_POLLS = 8
# Two quick polls at once keep the interpreter and the raw reader busy; more only compete for the interpreter (measured: twice
# the CPU seconds for the same polls with eight). A slow poll waits for something else and needs no CPU.
QUICK_AT_ONCE = 2
SLOW_AFTER = 0.5
# One worker is started for so many databases that are due at once; for most of them a poll is only a stat.
DUE_PER_WORKER = 16
# Raw readings are prefetched for so many databases at once, and again when so few of them remain.
PREFETCH_BATCH, PREFETCH_WHEN_LEFT = 8, 4
# Databases that are due within this time (seconds) share a worker: a thread for each of a thousand costs more than the polls.
GROUPING_TIME = 0.1
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PollTiming:
    """Times in seconds. A poll older than `hung_after` no longer counts among the MAX_POLLS that may run at once."""

    interval: float = 15.0
    rescan: float = 60.0
    hung_after: float = 10.0


@dataclass(slots=True)
class _PollState:
    """The state of one database's polls; read and changed under the loop's lock only."""

    target: Target
    due: float
    polls: int = 0
    queued: bool = False
    prefetched: bool = False
    overrun_noted: bool = False
    wanted_again: bool = False


class PollLoop:
    """Polls the databases that `find()` returns: `poll` reads one, `on_snapshot` gets each reading in the poll's thread.

    `prefetch` gets several databases that are polled next, each with its last reading, to fetch their raw readings together.
    `clock` is unix time for the readings, `monotonic` measures what is due.
    """

    def __init__(
        self,
        find: Callable[[], tuple[Target, ...]],
        poll: PollFunction,
        latest: LatestSnapshots,
        on_snapshot: Callable[[Snapshot], None] = lambda _: None,
        timing: PollTiming | None = None,
        *,
        prefetch: PrefetchFunction = lambda _: None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find, self._poll, self._latest, self._on_snapshot = find, poll, latest, on_snapshot
        self._timing = timing or PollTiming()
        self._prefetch = prefetch
        self._clock, self._monotonic = clock, monotonic
        self._changed = threading.Condition()
        self._states: dict[str, _PollState] = {}
        self._waiting: list[tuple[float, int, _PollState]] = []  # a heap by due time; outdated entries are skipped
        self._entry = itertools.count()
        self._ready: deque[_PollState] = deque()
        self._running: dict[Path, float] = {}  # start time by file, since a rescan may rename a database
        self._rescan_due = 0.0
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Find the databases, so that readiness knows what to wait for, and start the scheduler thread."""
        self._rescan_databases()
        self._thread = threading.Thread(target=self._schedule_loop, name="poll-loop", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """Start no more polls and wait for those that run; False when one did not end within `timeout` seconds."""
        deadline = self._monotonic() + timeout
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, max(0.0, deadline - self._monotonic()))

    def poll_soon(self, database: str) -> None:
        """Make this database due now, or again after its running poll: it was changed."""
        with self._changed:
            state = self._states.get(database)
            if state is None or state.queued:
                return
            if state.target.path in self._running:
                state.wanted_again = True
            else:
                self._set_due_time(state, self._monotonic())
            self._changed.notify_all()

    def rescan_soon(self, timing: PollTiming | None = None) -> None:
        """Search for databases now, and use this timing from now on: the configuration changed."""
        with self._changed:
            self._timing = timing or self._timing
            self._rescan_due = self._monotonic()
            for state in self._states.values():
                self._set_due_time(state, min(state.due, self._rescan_due + self._timing.interval))
            self._changed.notify_all()

    def _schedule_loop(self) -> None:
        while not self._stopping:
            if self._monotonic() >= self._rescan_due:
                self._rescan_databases()
            with self._changed:
                self._start_due_polls(self._monotonic())
                if not self._stopping:
                    self._changed.wait(self._seconds_to_wait(self._monotonic()))

    def _rescan_databases(self) -> None:
        try:
            targets = self._find()
        except OSError as error:
            log_event(LOG, logging.WARNING, "could not search for databases, watching the known ones", error=error)
            targets = tuple(state.target for state in self._states.values())
        self._latest.set_targets(targets)
        now = self._monotonic()
        with self._changed:
            self._rescan_due = now + self._timing.rescan
            known = self._states
            self._states = {}
            for target in targets:
                state = self._states[target.name] = _continue_or_start(known.get(target.name), target, now)
                if state is not known.get(target.name):
                    self._set_due_time(state, now)

    def _set_due_time(self, state: _PollState, due: float) -> None:
        state.due = due
        heapq.heappush(self._waiting, (due, next(self._entry), state))

    def _start_due_polls(self, now: float) -> None:
        """Queue the databases that are due, and start workers for them; running workers take from the queue as well."""
        while self._waiting and self._waiting[0][0] <= now:
            due, _, state = heapq.heappop(self._waiting)
            if self._is_current(state) and state.due == due and not state.queued:
                if state.target.path in self._running:
                    self._note_overrun(state)
                else:
                    state.queued = True
                    self._ready.append(state)
        for _ in range(min(self._count_free_workers(now), -(-len(self._ready) // DUE_PER_WORKER))):
            next_state = self._take_next_ready(now)
            if next_state is not None:
                name = f"poll {next_state.target.name}"
                threading.Thread(target=self._poll_ready_databases, args=(next_state,), name=name, daemon=True).start()

    def _is_current(self, state: _PollState) -> bool:
        return self._states.get(state.target.name) is state

    def _note_overrun(self, state: _PollState) -> None:
        self._set_due_time(state, state.due + self._timing.interval)
        self._latest.count_poll_overrun(state.target.name)
        if not state.overrun_noted:
            state.overrun_noted = True
            log_event(
                LOG, logging.WARNING, "a poll is due but the one before has not ended", database=state.target.name
            )

    def _count_busy_workers(self, now: float) -> int:
        return sum(now - since < self._timing.hung_after for since in self._running.values())

    def _count_free_workers(self, now: float) -> int:
        """Return how many more workers may start."""
        slow_after = min(SLOW_AFTER, self._timing.hung_after)
        quick = sum(now - since < slow_after for since in self._running.values())
        return min(MAX_POLLS - self._count_busy_workers(now), QUICK_AT_ONCE - quick)

    def _take_next_ready(self, now: float) -> _PollState | None:
        """Take the next database from the queue and mark it as running; None when none is ready."""
        while self._ready and not self._stopping:
            state = self._ready.popleft()
            state.queued = False
            if not self._is_current(state):
                continue
            if state.target.path in self._running:
                self._note_overrun(state)  # its file is being polled under another name
                continue
            self._running[state.target.path] = now
            state.polls += 1
            self._set_due_time(state, next_due_time(state.target.name, state.polls, now, self._timing.interval))
            return state
        return None

    def _poll_ready_databases(self, first: _PollState) -> None:
        """Poll one database after the other while any is ready and this worker may continue."""
        state: _PollState | None = first
        while state is not None:
            self._prefetch_batch(state)
            self._poll_database(state)
            now = self._monotonic()
            with self._changed:
                self._end_poll(state, now)
                state = self._take_next_ready(now) if self._count_busy_workers(now) < MAX_POLLS else None

    def _prefetch_batch(self, state: _PollState) -> None:
        """Prefetch the raw readings of this database and the next ones, unless that was done."""
        with self._changed:
            coming = [state, *itertools.islice(self._ready, PREFETCH_BATCH)]
            if all(state.prefetched for state in coming[: PREFETCH_WHEN_LEFT + 1]):
                return
            batch = [state for state in coming if not state.prefetched]
            for state in batch:
                state.prefetched = True
        if len(batch) > 1:
            self._prefetch([(state.target, self._latest.newest_snapshot(state.target.name)) for state in batch])

    def _poll_database(self, state: _PollState) -> None:
        name = state.target.name
        try:
            snapshot = self._poll(state.target, self._latest.newest_snapshot(name), self._clock())
            if self._latest.store_snapshot(snapshot):
                self._on_snapshot(snapshot)
        except Exception as error:  # noqa: BLE001 - end of a thread: an error of one database must not stop the others
            log_event(LOG, logging.ERROR, "poll failed", database=name, error=f"{type(error).__name__}: {error}")

    def _end_poll(self, state: _PollState, now: float) -> None:
        del self._running[state.target.path]
        state.overrun_noted = state.prefetched = False
        if state.wanted_again:
            state.wanted_again = False
            self._set_due_time(state, now)
        if state.due <= now or self._stopping:
            self._changed.notify_all()

    def _seconds_to_wait(self, now: float) -> float:
        """Return the seconds until a database is due, at least GROUPING_TIME; `poll_soon` wakes the loop earlier."""
        due = [self._waiting[0][0]] if self._waiting else []
        ends = [since + self._timing.hung_after for since in self._running.values()] if self._ready else []
        later = [self._rescan_due, *due, *(end for end in ends if end > now)]
        if self._ready:  # a worker may be slow by then
            later.append(now)
        return max(min(GROUPING_TIME, self._timing.interval / 20), min(later) - now)


def next_due_time(name: str, polls: int, now: float, interval: float) -> float:
    """Return when to poll next: after one interval, and after the first poll after a part of it that differs by name."""
    if polls > 1:
        return now + interval
    return now + interval * (0.5 + zlib.crc32(name.encode("utf-8", "surrogateescape")) % 1000 / 2000)


def _continue_or_start(known: _PollState | None, target: Target, now: float) -> _PollState:
    """Return the state known under this name, or a new one for another file: a poll of the former file continues alone."""
    return known if known is not None and known.target == target else _PollState(target, now)
