"""Samples the write locks of all watched databases from the kernel's lock table. Runs in the raw reader.

One read of the table serves every database, about ten times a second; when the machine has so many locks that this
would cost more than one hundredth of a core, less often (bench/lock_sampler.py). Nothing is locked, nothing opened.
The distances vary at random, so that a writer in step with us is not always, or never, met.
"""

import math
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from collectors.raw_reader.layout import PENDING_BYTE, RECOVER_BYTE, RESERVED_BYTE, WRITE_BYTE
from collectors.raw_reader.lock_table import lock_table, places, process, rows_on

EVERY = 0.1
SHARE_OF_A_CORE = 0.007
LONGEST_PAUSE = 2.0
# A file that was made anew (an owner that comes back makes a new -shm) is found again after about so many seconds.
REFRESH = 2.0
FORGET_AFTER = 7200.0
# Two samples farther apart than this say nothing about the time between them.
STRETCH = 0.5
# Who holds it, by process: more than these would be an application that forks for each write.
MOST_HOLDERS = 50

_WRITE_BYTES = {"shm": (WRITE_BYTE, RECOVER_BYTE), "db": (RESERVED_BYTE, PENDING_BYTE)}
_jitter = random.Random()  # noqa: S311 - spreads samples, guards nothing


@dataclass(slots=True)
class Held:
    """One process: in how many samples it held the write lock, and the longest time over which each sample met it.

    `since` and `last_seen` are monotonic seconds, of the stretch that goes on.
    """

    samples: int = 0
    longest: float = 0.0
    since: float = 0.0
    last_seen: float = 0.0
    last_tick: int = -1
    command: str = ""
    command_line: str = ""


@dataclass(slots=True)
class Watch:
    """One database. `files`: its row key in the table -> "db" or "shm"; `foreign`: another process was ever seen there.

    `hidden`: its files change, but nobody was ever seen: the table does not show us its application's processes.
    """

    path: str
    asked_at: float
    files: dict[str, str] = field(default_factory=dict)
    written: tuple[int, int] | None = None
    foreign: bool = False
    hidden: bool = False
    busy: int = 0
    busy_tick: int = -1
    held: dict[int, Held] = field(default_factory=dict)


class WriteLocks:
    """All watched databases. `every`: seconds between samples, longer where they would cost more than `share` of a core.

    Clocks are monotonic seconds and are arguments.
    """

    def __init__(self, every: float = EVERY, share: float = SHARE_OF_A_CORE) -> None:
        self._every, self._share = every, share
        self._watches: dict[str, Watch] = {}
        self._by_file: dict[str, Watch] = {}
        self._turn: Iterator[Watch] = iter(())
        self._ticks = 0
        self._due = 0.0
        self._table_seen = True
        self._epoch = f"{os.getpid()}-{time.monotonic_ns()}"

    def watch(self, path: str, now: float) -> int:
        """Look at this database from now on; forgotten when not said again in FORGET_AFTER seconds. The samples so far."""
        if path not in self._watches:
            self._watches[path] = Watch(path, now)
            self._refresh(self._watches[path], "")
        self._watches[path].asked_at = now
        return self._ticks

    @property
    def taken(self) -> int:
        """How many samples were taken so far."""
        return self._ticks

    def uses(self) -> dict[str, Any]:
        """What was seen since the last call, of databases whose lock was held; `ticks` counts all samples so far."""
        seen = {watch.path: _told(watch) for watch in self._watches.values() if watch.busy}
        for watch in self._watches.values():
            watch.busy, watch.held = 0, {pid: _continued(held) for pid, held in watch.held.items() if self._holds(held)}
        hidden = [watch.path for watch in self._watches.values() if watch.hidden]
        return {
            "epoch": self._epoch,
            "ticks": self._ticks,
            "table": self._table_seen,
            "hidden": hidden,
            "uses": seen,
        }

    def tick(self, now: float) -> float | None:
        """Sample if it is time. Seconds until the next sample; None while nothing is watched."""
        if not self._watches:
            return None
        if now >= self._due:
            started = time.process_time()
            self._sample(now)
            cost = time.process_time() - started
            pause = min(LONGEST_PAUSE, max(self._every, cost / self._share))
            self._due = now + pause * _jitter.uniform(0.5, 1.5)
        return max(0.0, self._due - now)

    def _sample(self, now: float) -> None:
        table = lock_table(reads=1)  # a row that is left out now and then makes no difference to a share
        self._table_seen = table is not None
        self._refresh_some(now, table or "")
        if table is None:
            return
        self._ticks += 1
        for watch, pid in self._writers(table):
            self._note(watch, pid, now)

    def _writers(self, table: str) -> Iterator[tuple[Watch, int]]:
        """Who holds which write lock: a look at the rows in WRITE mode alone."""
        at = 0
        while (at := table.find(" WRITE ", at)) >= 0:
            end = table.find("\n", at)
            words = table[table.rfind("\n", 0, at) + 1 : end if end >= 0 else len(table)].split()
            at += 1
            watch = self._by_file.get(words[5]) if len(words) == 8 and words[1] != "FLOCK" else None
            if watch is not None and _covers(words, _WRITE_BYTES[watch.files[words[5]]]):
                yield watch, int(words[4])

    def _note(self, watch: Watch, pid: int, now: float) -> None:
        if watch.busy_tick != self._ticks:
            watch.busy, watch.busy_tick = watch.busy + 1, self._ticks
            watch.foreign, watch.hidden = True, False
        held = watch.held.get(pid) or _introduced(watch, pid)
        if held is None or held.last_tick == self._ticks:
            return
        goes_on = held.last_tick == self._ticks - 1 and now - held.last_seen <= STRETCH
        held.since = held.since if goes_on else now
        held.samples, held.last_tick, held.last_seen = held.samples + 1, self._ticks, now
        held.longest = max(held.longest, now - held.since)

    def _holds(self, held: Held) -> bool:
        return held.last_tick == self._ticks

    def _refresh_some(self, now: float, table: str) -> None:
        """A part of the databases in turn: each of them once in REFRESH seconds."""
        for _ in range(math.ceil(len(self._watches) * self._every / REFRESH)):
            watch = next(self._turn, None)
            if watch is None:
                self._turn = iter(tuple(self._watches.values()))
                return
            if now - watch.asked_at > FORGET_AFTER:
                self._forget(watch)
            else:
                self._refresh(watch, table)

    def _refresh(self, watch: Watch, table: str) -> None:
        found = {
            f"{major:02x}:{minor:02x}:{inode}": name
            for name, path in (("db", watch.path), ("shm", watch.path + "-shm"))
            for major, minor, inode in places(path)
        }
        if found != watch.files:
            self._forget_files(watch)
            watch.files = found
            self._by_file |= dict.fromkeys(found, watch)
        written = _modified(watch.path), _modified(watch.path + "-wal")
        if watch.written is not None and written != watch.written and not watch.foreign:
            watch.foreign = _somebody_else(watch, table)
            watch.hidden = not watch.foreign
        watch.written = written

    def _forget_files(self, watch: Watch) -> None:
        for file in watch.files:
            if self._by_file.get(file) is watch:
                del self._by_file[file]

    def _forget(self, watch: Watch) -> None:
        self._forget_files(watch)
        self._watches.pop(watch.path, None)


def _somebody_else(watch: Watch, table: str) -> bool:
    """Whether another process than ours, which started this one, is seen to have the database open."""
    inodes = {int(file.rpartition(":")[2]) for file in watch.files}
    rows = (row.split() for row in rows_on(table, inodes).splitlines())
    return any(row[5] in watch.files and int(row[4]) not in (-1, os.getppid()) for row in rows if len(row) == 8)


def _introduced(watch: Watch, pid: int) -> Held | None:
    if len(watch.held) >= MOST_HOLDERS:
        return None
    who = process(pid) if pid > 0 else {}
    return watch.held.setdefault(pid, Held(command=who.get("command", ""), command_line=who.get("command_line", "")))


def _covers(words: list[str], wanted: tuple[int, ...]) -> bool:
    start, end = int(words[6]), math.inf if words[7] == "EOF" else int(words[7])
    return any(start <= byte <= end for byte in wanted)


def _told(watch: Watch) -> dict[str, Any]:
    holders = [[pid, held.samples, held.longest, held.command, held.command_line] for pid, held in watch.held.items()]
    return {"busy": watch.busy, "holders": holders}


def _continued(held: Held) -> Held:
    """Who still holds it goes on: the next report knows since when, and counts from zero."""
    return replace(held, samples=0, longest=0.0)


def _modified(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116 - as above
    except OSError:
        return 0
