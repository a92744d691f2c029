"""Polls every database when it is due. One scheduler thread decides, short-lived workers poll what is due by then.

Never two polls of one database at once; a poll that hangs holds up only its own database: it gives its place back once
it is `hung_after` seconds old. Threads are daemons, so that a poll hanging in the kernel cannot hold up the end.
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
# Two quick polls at once keep us and the raw reader busy; more only take the interpreter from each other (measured: twice
# the CPU seconds for the same polls with eight). A poll that is slow waits for something and takes nothing.
QUICK_AT_ONCE = 2
SLOW_AFTER = 0.5
# So many databases that are due at once are worth a worker of their own; most are only looked at by stat.
DUE_PER_WORKER = 16
# Of so many databases it is asked ahead, at once, what their polls will ask; again when so few of them are left.
PREFETCH_BATCH, PREFETCH_WHEN_LEFT = 8, 4
# What falls due within this time is polled by one worker (seconds): a thread for each of a thousand costs more than they.
GROUPING_TIME = 0.1
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PollTiming:
    """Seconds. `hung_after`: a poll older than this no longer counts among the WIDTH that may run at once."""

    interval: float = 15.0
    rescan: float = 60.0
    hung_after: float = 10.0


@dataclass(slots=True)
class _PollState:
    """Where one database stands; touched under the loop's lock only."""

    target: Target
    due: float
    polls: int = 0
    queued: bool = False
    asked_ahead: bool = False
    overrun_noted: bool = False
    wanted_again: bool = False


class PollLoop:
    """`find()` gives the databases, `poll` reads one, `on_snapshot` hears of each reading (in the poll's thread).

    `ahead` is told of several that are polled next, each with its last reading: what they need can be fetched together.
    `clock` is unix time for the readings, `monotonic` measures what is due.
    """

    def __init__(
        self,
        find: Callable[[], tuple[Target, ...]],
        poll: PollFunction,
        board: LatestSnapshots,
        on_snapshot: Callable[[Snapshot], None] = lambda _: None,
        timing: PollTiming | None = None,
        *,
        ahead: PrefetchFunction = lambda _: None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find, self._poll, self._board, self._on_snapshot = find, poll, board, on_snapshot
        self._timing = timing or PollTiming()
        self._ahead = ahead
        self._clock, self._monotonic = clock, monotonic
        self._changed = threading.Condition()
        self._courses: dict[str, _PollState] = {}
        self._waiting: list[
            tuple[float, int, _PollState]
        ] = []  # a heap by due time; an entry that is outlived is skipped
        self._entry = itertools.count()
        self._ready: deque[_PollState] = deque()
        self._running: dict[Path, float] = {}  # since when; by file, which a rescan may give another name
        self._rescan_due = 0.0
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Find the databases (so that readiness knows what to wait for) and begin."""
        self._rescan_databases()
        self._thread = threading.Thread(target=self._schedule_loop, name="poll-loop", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """Begin no poll any more and wait for those that run; False when one did not end within `timeout` seconds."""
        deadline = self._monotonic() + timeout
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, max(0.0, deadline - self._monotonic()))

    def poll_soon(self, database: str) -> None:
        """Let this database be due now, or again once its running poll ended: something changed it."""
        with self._changed:
            course = self._courses.get(database)
            if course is None or course.queued:
                return
            if course.target.path in self._running:
                course.wanted_again = True
            else:
                self._set_due(course, self._monotonic())
            self._changed.notify_all()

    def rescan_soon(self, timing: PollTiming | None = None) -> None:
        """Look for databases now, and poll at these times from now on: the configuration changed."""
        with self._changed:
            self._timing = timing or self._timing
            self._rescan_due = self._monotonic()
            for course in self._courses.values():
                self._set_due(course, min(course.due, self._rescan_due + self._timing.interval))
            self._changed.notify_all()

    def _schedule_loop(self) -> None:
        while not self._stopping:
            if self._monotonic() >= self._rescan_due:
                self._rescan_databases()
            with self._changed:
                self._start_due(self._monotonic())
                if not self._stopping:
                    self._changed.wait(self._seconds_to_wait(self._monotonic()))

    def _rescan_databases(self) -> None:
        try:
            targets = self._find()
        except OSError as error:
            log_event(LOG, logging.WARNING, "could not look for databases, watching the known ones", error=error)
            targets = tuple(course.target for course in self._courses.values())
        self._board.set_targets(targets)
        now = self._monotonic()
        with self._changed:
            self._rescan_due = now + self._timing.rescan
            known = self._courses
            self._courses = {}
            for target in targets:
                course = self._courses[target.name] = _continue_or_start(known.get(target.name), target, now)
                if course is not known.get(target.name):
                    self._set_due(course, now)

    def _set_due(self, course: _PollState, due: float) -> None:
        course.due = due
        heapq.heappush(self._waiting, (due, next(self._entry), course))

    def _start_due(self, now: float) -> None:
        """Line up what is due, and start workers for it; those that run already go on with it as well."""
        while self._waiting and self._waiting[0][0] <= now:
            due, _, course = heapq.heappop(self._waiting)
            if self._is_current(course) and course.due == due and not course.queued:
                if course.target.path in self._running:
                    self._note_overrun(course)
                else:
                    course.queued = True
                    self._ready.append(course)
        for _ in range(min(self._free_places(now), -(-len(self._ready) // DUE_PER_WORKER))):
            taken = self._take_next(now)
            if taken is not None:
                name = f"poll {taken.target.name}"
                threading.Thread(target=self._poll_ready, args=(taken,), name=name, daemon=True).start()

    def _is_current(self, course: _PollState) -> bool:
        return self._courses.get(course.target.name) is course

    def _note_overrun(self, course: _PollState) -> None:
        self._set_due(course, course.due + self._timing.interval)
        self._board.count_overrun(course.target.name)
        if not course.overrun_noted:
            course.overrun_noted = True
            log_event(
                LOG, logging.WARNING, "a poll is due but the one before has not ended", database=course.target.name
            )

    def _busy_workers(self, now: float) -> int:
        return sum(now - since < self._timing.hung_after for since in self._running.values())

    def _free_places(self, now: float) -> int:
        """How many workers more there may be."""
        slow_after = min(SLOW_AFTER, self._timing.hung_after)
        quick = sum(now - since < slow_after for since in self._running.values())
        return min(MAX_POLLS - self._busy_workers(now), QUICK_AT_ONCE - quick)

    def _take_next(self, now: float) -> _PollState | None:
        """The next course to poll, marked as running; None when none is ready."""
        while self._ready and not self._stopping:
            course = self._ready.popleft()
            course.queued = False
            if not self._is_current(course):
                continue
            if course.target.path in self._running:
                self._note_overrun(course)  # its file was polled under another name meanwhile
                continue
            self._running[course.target.path] = now
            course.polls += 1
            self._set_due(course, next_due(course.target.name, course.polls, now, self._timing.interval))
            return course
        return None

    def _poll_ready(self, first: _PollState) -> None:
        """Poll one course after the other while any is ready and there is a place for us."""
        course: _PollState | None = first
        while course is not None:
            self._prefetch_batch(course)
            self._poll_one(course)
            now = self._monotonic()
            with self._changed:
                self._end_poll(course, now)
                course = self._take_next(now) if self._busy_workers(now) < MAX_POLLS else None

    def _prefetch_batch(self, course: _PollState) -> None:
        """Of this one and the next ones, unless that was done."""
        with self._changed:
            coming = [course, *itertools.islice(self._ready, PREFETCH_BATCH)]
            if all(one.asked_ahead for one in coming[: PREFETCH_WHEN_LEFT + 1]):
                return
            batch = [one for one in coming if not one.asked_ahead]
            for one in batch:
                one.asked_ahead = True
        if len(batch) > 1:
            self._ahead([(one.target, self._board.newest_snapshot(one.target.name)) for one in batch])

    def _poll_one(self, course: _PollState) -> None:
        name = course.target.name
        try:
            snapshot = self._poll(course.target, self._board.newest_snapshot(name), self._clock())
            if self._board.store_snapshot(snapshot):
                self._on_snapshot(snapshot)
        except Exception as error:  # noqa: BLE001 - a thread's end: one database's trouble must not stop the others
            log_event(LOG, logging.ERROR, "poll failed", database=name, error=f"{type(error).__name__}: {error}")

    def _end_poll(self, course: _PollState, now: float) -> None:
        del self._running[course.target.path]
        course.overrun_noted = course.asked_ahead = False
        if course.wanted_again:
            course.wanted_again = False
            self._set_due(course, now)
        if course.due <= now or self._stopping:
            self._changed.notify_all()

    def _seconds_to_wait(self, now: float) -> float:
        """Seconds until something is due, but time enough for what is due together; a wish wakes the loop earlier."""
        due = [self._waiting[0][0]] if self._waiting else []
        ends = [since + self._timing.hung_after for since in self._running.values()] if self._ready else []
        later = [self._rescan_due, *due, *(end for end in ends if end > now)]
        if self._ready:  # a worker may be slow by then
            later.append(now)
        return max(min(GROUPING_TIME, self._timing.interval / 20), min(later) - now)


def next_due(name: str, polls: int, now: float, interval: float) -> float:
    """When to poll next: one interval on; after the first poll a part of it that differs by name."""
    if polls > 1:
        return now + interval
    return now + interval * (0.5 + zlib.crc32(name.encode("utf-8", "surrogateescape")) % 1000 / 2000)


def _continue_or_start(known: _PollState | None, target: Target, now: float) -> _PollState:
    """A poll of what was known under this name before goes on alone."""
    return known if known is not None and known.target == target else _PollState(target, now)
