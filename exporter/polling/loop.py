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
from exporter.exposition.latest import Board
from exporter.log import event

Poll = Callable[[Target, Snapshot | None, float], Snapshot]
Ahead = Callable[[Sequence[tuple[Target, Snapshot | None]]], None]
WIDTH = 8
# Two quick polls at once keep us and the raw reader busy; more only take the interpreter from each other (measured: twice
# the CPU seconds for the same polls with eight). A poll that is slow waits for something and takes nothing.
QUICK_AT_ONCE = 2
SLOW_AFTER = 0.5
# So many databases that are due at once are worth a worker of their own; most are only looked at by stat.
DUE_PER_WORKER = 16
# Of so many databases it is asked ahead, at once, what their polls will ask; again when so few of them are left.
AHEAD, AHEAD_LEFT = 8, 4
# What falls due within this time is polled by one worker (seconds): a thread for each of a thousand costs more than they.
TOGETHER = 0.1
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. `hung_after`: a poll older than this no longer counts among the WIDTH that may run at once."""

    interval: float = 15.0
    rescan: float = 60.0
    hung_after: float = 10.0


@dataclass(slots=True)
class _Course:
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
        poll: Poll,
        board: Board,
        on_snapshot: Callable[[Snapshot], None] = lambda _: None,
        timing: Timing | None = None,
        *,
        ahead: Ahead = lambda _: None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find, self._poll, self._board, self._on_snapshot = find, poll, board, on_snapshot
        self._timing = timing or Timing()
        self._ahead = ahead
        self._clock, self._monotonic = clock, monotonic
        self._changed = threading.Condition()
        self._courses: dict[str, _Course] = {}
        self._waiting: list[tuple[float, int, _Course]] = []  # a heap by due time; an entry that is outlived is skipped
        self._entry = itertools.count()
        self._ready: deque[_Course] = deque()
        self._running: dict[Path, float] = {}  # since when; by file, which a rescan may give another name
        self._rescan_due = 0.0
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Find the databases (so that readiness knows what to wait for) and begin."""
        self._rescan()
        self._thread = threading.Thread(target=self._run, name="poll-loop", daemon=True)
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
                self._due_at(course, self._monotonic())
            self._changed.notify_all()

    def rescan_soon(self, timing: Timing | None = None) -> None:
        """Look for databases now, and poll at these times from now on: the configuration changed."""
        with self._changed:
            self._timing = timing or self._timing
            self._rescan_due = self._monotonic()
            for course in self._courses.values():
                self._due_at(course, min(course.due, self._rescan_due + self._timing.interval))
            self._changed.notify_all()

    def _run(self) -> None:
        while not self._stopping:
            if self._monotonic() >= self._rescan_due:
                self._rescan()
            with self._changed:
                self._begin_due(self._monotonic())
                if not self._stopping:
                    self._changed.wait(self._pause(self._monotonic()))

    def _rescan(self) -> None:
        try:
            targets = self._find()
        except OSError as error:
            event(LOG, logging.WARNING, "could not look for databases, watching the known ones", error=error)
            targets = tuple(course.target for course in self._courses.values())
        self._board.watch(targets)
        now = self._monotonic()
        with self._changed:
            self._rescan_due = now + self._timing.rescan
            known = self._courses
            self._courses = {}
            for target in targets:
                course = self._courses[target.name] = _continued(known.get(target.name), target, now)
                if course is not known.get(target.name):
                    self._due_at(course, now)

    def _due_at(self, course: _Course, due: float) -> None:
        course.due = due
        heapq.heappush(self._waiting, (due, next(self._entry), course))

    def _begin_due(self, now: float) -> None:
        """Line up what is due, and start workers for it; those that run already go on with it as well."""
        while self._waiting and self._waiting[0][0] <= now:
            due, _, course = heapq.heappop(self._waiting)
            if self._is_current(course) and course.due == due and not course.queued:
                if course.target.path in self._running:
                    self._note_overrun(course)
                else:
                    course.queued = True
                    self._ready.append(course)
        for _ in range(min(self._places(now), -(-len(self._ready) // DUE_PER_WORKER))):
            taken = self._take(now)
            if taken is not None:
                name = f"poll {taken.target.name}"
                threading.Thread(target=self._work, args=(taken,), name=name, daemon=True).start()

    def _is_current(self, course: _Course) -> bool:
        return self._courses.get(course.target.name) is course

    def _note_overrun(self, course: _Course) -> None:
        self._due_at(course, course.due + self._timing.interval)
        self._board.overrun(course.target.name)
        if not course.overrun_noted:
            course.overrun_noted = True
            event(LOG, logging.WARNING, "a poll is due but the one before has not ended", database=course.target.name)

    def _busy(self, now: float) -> int:
        return sum(now - since < self._timing.hung_after for since in self._running.values())

    def _places(self, now: float) -> int:
        """How many workers more there may be."""
        slow_after = min(SLOW_AFTER, self._timing.hung_after)
        quick = sum(now - since < slow_after for since in self._running.values())
        return min(WIDTH - self._busy(now), QUICK_AT_ONCE - quick)

    def _take(self, now: float) -> _Course | None:
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
            self._due_at(course, next_due(course.target.name, course.polls, now, self._timing.interval))
            return course
        return None

    def _work(self, first: _Course) -> None:
        """Poll one course after the other while any is ready and there is a place for us."""
        course: _Course | None = first
        while course is not None:
            self._ask_ahead(course)
            self._poll_one(course)
            now = self._monotonic()
            with self._changed:
                self._end(course, now)
                course = self._take(now) if self._busy(now) < WIDTH else None

    def _ask_ahead(self, course: _Course) -> None:
        """Of this one and the next ones, unless that was done."""
        with self._changed:
            coming = [course, *itertools.islice(self._ready, AHEAD)]
            if all(one.asked_ahead for one in coming[: AHEAD_LEFT + 1]):
                return
            batch = [one for one in coming if not one.asked_ahead]
            for one in batch:
                one.asked_ahead = True
        if len(batch) > 1:
            self._ahead([(one.target, self._board.newest(one.target.name)) for one in batch])

    def _poll_one(self, course: _Course) -> None:
        name = course.target.name
        try:
            snapshot = self._poll(course.target, self._board.newest(name), self._clock())
            if self._board.put(snapshot):
                self._on_snapshot(snapshot)
        except Exception as error:  # noqa: BLE001 - a thread's end: one database's trouble must not stop the others
            event(LOG, logging.ERROR, "poll failed", database=name, error=f"{type(error).__name__}: {error}")

    def _end(self, course: _Course, now: float) -> None:
        del self._running[course.target.path]
        course.overrun_noted = course.asked_ahead = False
        if course.wanted_again:
            course.wanted_again = False
            self._due_at(course, now)
        if course.due <= now or self._stopping:
            self._changed.notify_all()

    def _pause(self, now: float) -> float:
        """Seconds until something is due, but time enough for what is due together; a wish wakes the loop earlier."""
        due = [self._waiting[0][0]] if self._waiting else []
        ends = [since + self._timing.hung_after for since in self._running.values()] if self._ready else []
        later = [self._rescan_due, *due, *(end for end in ends if end > now)]
        if self._ready:  # a worker may be slow by then
            later.append(now)
        return max(min(TOGETHER, self._timing.interval / 20), min(later) - now)


def next_due(name: str, polls: int, now: float, interval: float) -> float:
    """When to poll next: one interval on; after the first poll a part of it that differs by name."""
    if polls > 1:
        return now + interval
    return now + interval * (0.5 + zlib.crc32(name.encode("utf-8", "surrogateescape")) % 1000 / 2000)


def _continued(known: _Course | None, target: Target, now: float) -> _Course:
    """A poll of what was known under this name before goes on alone."""
    return known if known is not None and known.target == target else _Course(target, now)
