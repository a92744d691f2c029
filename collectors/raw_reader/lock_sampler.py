"""Samples the write locks of all watched databases, and the readers that pin a WAL. Runs in the raw reader.

About ten times a second the kernel is asked about each database that was written to lately, and half as often again about
a part of the quiet ones; a sample stands for the time since the one before. When that would cost more than one hundredth
of a core, samples are taken less often (bench/lock_sampler.py). Nothing is locked.
The distances vary at random, so that a writer in step with the samples is not always, or never, seen.
"""

import math
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from collectors.raw_reader.file_headers import NETWORK_FILE_SYSTEMS, file_system_type
from collectors.raw_reader.file_hold import CAN_PROBE
from collectors.raw_reader.lock_table import describe_process
from collectors.raw_reader.sampled_file import SampledFile
from collectors.raw_reader.wal_readers import Pin

SAMPLE_EVERY = 0.1
SHARE_OF_A_CORE = 0.007
LONGEST_PAUSE = 2.0
# A quiet database is sampled only in one of so many samples; it is quiet when it was not written to for so many seconds.
QUIET_EVERY, LIVELY_FOR = 5, 30.0
# A file that was created again (an owner that comes back makes a new -shm) is noticed after about so many seconds.
REFRESH_EVERY = 2.0
FORGET_AFTER = 7200.0
# Two samples farther apart than this say nothing about the time between them.
MAX_SAMPLE_GAP = 0.5
# Holders that are remembered of one database: more would be an application that forks for each write.
MOST_HOLDERS = 50

_jitter = random.Random()  # noqa: S311 - spreads samples, guards nothing


@dataclass(slots=True)
class SampledHolder:
    """A process that held the write lock: in how many samples, and the longest time over which every sample saw it.

    `since` and `last_seen` are monotonic seconds, of the hold that still lasts.
    """

    samples: int = 0
    longest: float = 0.0
    since: float = 0.0
    last_seen: float = 0.0
    last_tick: int = -1
    command: str = ""
    command_line: str = ""


@dataclass(slots=True)
class SampledDatabase:
    """One watched database. `looked_at`: the last sample that included it; `lively_until`: monotonic seconds.

    `file` is None on a network file system, where a question about a lock might wait for a server. `unable`: no permission.
    `hidden`: its files change, but no process was ever seen: its application's locks are not shown to us.
    `pin`: the reader that pinned the WAL at the last refresh; `pinned`: the same reader did at the one before.
    `elsewhere`: a process that worked on it by another name at the last refresh; `used_elsewhere`: it did at the one before.
    """

    path: str
    file: SampledFile | None
    asked_at: float
    looked_at: int
    lively_until: float
    hidden: bool = False
    unable: bool = False
    busy: int = 0
    holders: dict[int, SampledHolder] = field(default_factory=dict)
    pin: Pin | None = None
    pinned: bool = False
    elsewhere: int | None = None
    used_elsewhere: bool = False


class LockSampler:
    """All watched databases. `every`: seconds between samples, longer where they would cost more than `share` of a core.

    Clocks are monotonic seconds and are arguments. `parent`: our own process that started this one; its locks do not count.
    """

    def __init__(self, parent: int, every: float = SAMPLE_EVERY, share: float = SHARE_OF_A_CORE) -> None:
        self._every, self._share, self._parent = every, share, parent
        self._databases: dict[str, SampledDatabase] = {}
        self._lively: dict[str, SampledDatabase] = {}
        self._groups: tuple[dict[str, SampledDatabase], ...] = tuple({} for _ in range(QUIET_EVERY))
        self._turn: Iterator[SampledDatabase] = iter(())
        self._ticks = 0
        self._due = 0.0
        self._epoch = f"{os.getpid()}-{time.monotonic_ns()}"

    def watch_database(self, path: str, now: float) -> int:
        """Watch this database until it is not requested again for FORGET_AFTER seconds. Returns the samples so far."""
        database = self._databases.get(path)
        if database is None:
            file = SampledFile(path, self._parent) if CAN_PROBE and not _is_remote(path) else None
            database = self._databases[path] = SampledDatabase(path, file, now, self._ticks, now + LIVELY_FOR)
            if file is not None:
                self._lively[path] = database
                self._refresh_database(database, file, now)
        database.asked_at = now
        return self._ticks

    @property
    def samples_taken(self) -> int:
        """The number of samples taken so far."""
        return self._ticks

    def report_usage(self) -> dict[str, Any]:
        """Report, and begin again, the databases whose lock was held since the last call; `ticks` counts all samples."""
        databases = self._databases.values()
        busy = [database for database in databases if database.busy]
        usage = {database.path: _usage_report(database) for database in busy}
        for database in busy:
            database.busy, database.holders = (
                0,
                {pid: _carry_over(holder) for pid, holder in database.holders.items() if self._still_holds(holder)},
            )
        return {
            "epoch": self._epoch,
            "ticks": self._ticks,
            "table": CAN_PROBE,
            "hidden": [
                database.path for database in databases if database.hidden or database.unable or database.file is None
            ],
            "pinned": [database.path for database in databases if database.pinned],
            "elsewhere": [database.path for database in databases if database.used_elsewhere],
            "uses": usage,
        }

    def sample_if_due(self, now: float) -> float | None:
        """Sample if it is time. Returns the seconds until the next sample; None while nothing is watched."""
        if not self._databases or not CAN_PROBE:
            return None
        if now >= self._due:
            started = time.process_time()
            self._sample_all(now)
            cost = time.process_time() - started
            pause = min(LONGEST_PAUSE, max(self._every, cost / self._share))
            self._due = now + pause * _jitter.uniform(0.5, 1.5)
        return max(0.0, self._due - now)

    def _sample_all(self, now: float) -> None:
        self._refresh_some(now)
        self._ticks += 1
        for databases in (self._lively, self._groups[self._ticks % QUIET_EVERY]):
            for database in tuple(databases.values()):
                if database.file is not None:
                    self._sample_database(database, database.file, now)

    def _sample_database(self, database: SampledDatabase, file: SampledFile, now: float) -> None:
        """Ask about one database; the answer stands for all samples since it was last included."""
        try:
            pid = file.find_writer()
        except OSError:
            database.unable = True
            return
        if pid is not None:
            file.others_seen = True
            self._note_holder(database, pid, now)
        database.looked_at = self._ticks

    def _note_holder(self, database: SampledDatabase, pid: int, now: float) -> None:
        samples = self._ticks - database.looked_at
        database.busy += samples
        database.hidden = False
        self._mark_lively(database, now)
        holder = database.holders.get(pid) or _add_holder(database, pid)
        if holder is None:
            return
        goes_on = holder.last_tick == self._ticks - 1 and now - holder.last_seen <= MAX_SAMPLE_GAP
        holder.since = holder.since if goes_on else now
        holder.samples, holder.last_tick, holder.last_seen = holder.samples + samples, self._ticks, now
        holder.longest = max(holder.longest, now - holder.since)

    def _still_holds(self, holder: SampledHolder) -> bool:
        return holder.last_tick == self._ticks

    def _mark_lively(self, database: SampledDatabase, now: float) -> None:
        if database.path not in self._lively:
            self._lively[database.path] = database
            for group in self._groups:
                group.pop(database.path, None)
        database.lively_until = now + LIVELY_FOR

    def _refresh_some(self, now: float) -> None:
        """Refresh a part of the databases in turn: each of them once in REFRESH_EVERY seconds."""
        for _ in range(math.ceil(len(self._databases) * self._every / REFRESH_EVERY)):
            database = next(self._turn, None)
            if database is None:
                self._turn = iter(tuple(self._databases.values()))
                return
            if now - database.asked_at > FORGET_AFTER:
                self._forget_database(database)
            elif database.file is not None:
                self._refresh_database(database, database.file, now)

    def _refresh_database(self, database: SampledDatabase, file: SampledFile, now: float) -> None:
        try:
            written = file.refresh_file()
            pin, elsewhere = file.find_pin(), file.find_user_elsewhere()
        except OSError:
            database.unable = True
            return
        database.unable = False
        if written:
            self._mark_lively(database, now)
            database.hidden = not file.others_seen
        elif now > database.lively_until and self._lively.pop(database.path, None) is not None:
            min(self._groups, key=len)[database.path] = database
        database.pin, database.pinned = pin, pin is not None and pin == database.pin
        database.used_elsewhere = elsewhere is not None and elsewhere == database.elsewhere
        database.elsewhere = elsewhere

    def _forget_database(self, database: SampledDatabase) -> None:
        if database.file is not None:
            database.file.close()
        for databases in (self._databases, self._lively, *self._groups):
            databases.pop(database.path, None)


def _is_remote(path: str) -> bool:
    try:
        return file_system_type(path) in NETWORK_FILE_SYSTEMS
    except OSError:
        return False  # the poll reports why


def _add_holder(database: SampledDatabase, pid: int) -> SampledHolder | None:
    if len(database.holders) >= MOST_HOLDERS:
        return None
    who = describe_process(pid) if pid > 0 else {}
    return database.holders.setdefault(
        pid, SampledHolder(command=who.get("command", ""), command_line=who.get("command_line", ""))
    )


def _usage_report(database: SampledDatabase) -> dict[str, Any]:
    holders = [
        [pid, holder.samples, holder.longest, holder.command, holder.command_line]
        for pid, holder in database.holders.items()
    ]
    return {"busy": database.busy, "holders": holders}


def _carry_over(holder: SampledHolder) -> SampledHolder:
    """A holder that still holds the lock: the next report knows since when, and counts its samples from zero."""
    return replace(holder, samples=0, longest=0.0)
