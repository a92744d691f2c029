"""Samples the write locks of all watched databases, and sees who pins a WAL. Runs in the raw reader.

About ten times a second the kernel is asked about each database that was written to lately, and half as often again about
a part of the quiet ones; what is found stands for the time since the look before. When that would cost more than one
hundredth of a core, all of it is done less often (bench/lock_sampler.py). Nothing is locked.
The distances vary at random, so that a writer in step with us is not always, or never, met.
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
from collectors.raw_reader.sampled_file import Pin, SampledFile

SAMPLE_EVERY = 0.1
SHARE_OF_A_CORE = 0.007
LONGEST_PAUSE = 2.0
# What lies quiet is looked at in every so many samples; it is quiet when nobody wrote for so many seconds.
QUIET_EVERY, LIVELY_FOR = 5, 30.0
# A file that was made anew (an owner that comes back makes a new -shm) is found again after about so many seconds.
REFRESH_EVERY = 2.0
FORGET_AFTER = 7200.0
# Two samples farther apart than this say nothing about the time between them.
MAX_SAMPLE_GAP = 0.5
# Who holds it, by process: more than these would be an application that forks for each write.
MOST_HOLDERS = 50

_jitter = random.Random()  # noqa: S311 - spreads samples, guards nothing


@dataclass(slots=True)
class SampledHolder:
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
class SampledDatabase:
    """One database. `looked_at`: the sample in which it was looked at last; `lively_until`: monotonic seconds.

    `file` is None on another machine, where a question about a lock might wait for that. `unable`: it may not be looked at.
    `hidden`: its files change, but nobody was ever seen: its application's locks are not shown to us.
    `pin`: who pinned the WAL when it was last refreshed; `pinned`: it was the same one before.
    """

    path: str
    file: SampledFile | None
    asked_at: float
    looked_at: int
    lively_until: float
    hidden: bool = False
    unable: bool = False
    busy: int = 0
    held: dict[int, SampledHolder] = field(default_factory=dict)
    pin: Pin | None = None
    pinned: bool = False


class LockSampler:
    """All watched databases. `every`: seconds between samples, longer where they would cost more than `share` of a core.

    Clocks are monotonic seconds and are arguments. `parent`: the process that asks, whose own locks are no finding.
    """

    def __init__(self, parent: int, every: float = SAMPLE_EVERY, share: float = SHARE_OF_A_CORE) -> None:
        self._every, self._share, self._parent = every, share, parent
        self._watches: dict[str, SampledDatabase] = {}
        self._lively: dict[str, SampledDatabase] = {}
        self._groups: tuple[dict[str, SampledDatabase], ...] = tuple({} for _ in range(QUIET_EVERY))
        self._turn: Iterator[SampledDatabase] = iter(())
        self._ticks = 0
        self._due = 0.0
        self._epoch = f"{os.getpid()}-{time.monotonic_ns()}"

    def watch_database(self, path: str, now: float) -> int:
        """Look at this database from now on; forgotten when not said again in FORGET_AFTER seconds. The samples so far."""
        watch = self._watches.get(path)
        if watch is None:
            file = SampledFile(path, self._parent) if CAN_PROBE and not _is_remote(path) else None
            watch = self._watches[path] = SampledDatabase(path, file, now, self._ticks, now + LIVELY_FOR)
            if file is not None:
                self._lively[path] = watch
                self._refresh_database(watch, file, now)
        watch.asked_at = now
        return self._ticks

    @property
    def samples_taken(self) -> int:
        """How many samples were taken so far."""
        return self._ticks

    def report_usage(self) -> dict[str, Any]:
        """What was seen since the last call, of databases whose lock was held; `ticks` counts all samples so far."""
        watches = self._watches.values()
        busy = [watch for watch in watches if watch.busy]
        told = {watch.path: _usage_report(watch) for watch in busy}
        for watch in busy:
            watch.busy, watch.held = (
                0,
                {pid: _carry_over(held) for pid, held in watch.held.items() if self._still_holds(held)},
            )
        return {
            "epoch": self._epoch,
            "ticks": self._ticks,
            "table": CAN_PROBE,
            "hidden": [watch.path for watch in watches if watch.hidden or watch.unable or watch.file is None],
            "pinned": [watch.path for watch in watches if watch.pinned],
            "uses": told,
        }

    def sample_if_due(self, now: float) -> float | None:
        """Sample if it is time. Seconds until the next sample; None while nothing is watched."""
        if not self._watches or not CAN_PROBE:
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
        for watches in (self._lively, self._groups[self._ticks % QUIET_EVERY]):
            for watch in tuple(watches.values()):
                if watch.file is not None:
                    self._sample_database(watch, watch.file, now)

    def _sample_database(self, watch: SampledDatabase, file: SampledFile, now: float) -> None:
        """What is seen stands for the samples since the last look."""
        try:
            pid = file.find_writer()
        except OSError:
            watch.unable = True
            return
        if pid is not None:
            file.others_seen = True
            self._note_holder(watch, pid, now)
        watch.looked_at = self._ticks

    def _note_holder(self, watch: SampledDatabase, pid: int, now: float) -> None:
        samples = self._ticks - watch.looked_at
        watch.busy += samples
        watch.hidden = False
        self._mark_lively(watch, now)
        held = watch.held.get(pid) or _add_holder(watch, pid)
        if held is None:
            return
        goes_on = held.last_tick == self._ticks - 1 and now - held.last_seen <= MAX_SAMPLE_GAP
        held.since = held.since if goes_on else now
        held.samples, held.last_tick, held.last_seen = held.samples + samples, self._ticks, now
        held.longest = max(held.longest, now - held.since)

    def _still_holds(self, held: SampledHolder) -> bool:
        return held.last_tick == self._ticks

    def _mark_lively(self, watch: SampledDatabase, now: float) -> None:
        if watch.path not in self._lively:
            self._lively[watch.path] = watch
            for group in self._groups:
                group.pop(watch.path, None)
        watch.lively_until = now + LIVELY_FOR

    def _refresh_some(self, now: float) -> None:
        """A part of the databases in turn: each of them once in REFRESH seconds."""
        for _ in range(math.ceil(len(self._watches) * self._every / REFRESH_EVERY)):
            watch = next(self._turn, None)
            if watch is None:
                self._turn = iter(tuple(self._watches.values()))
                return
            if now - watch.asked_at > FORGET_AFTER:
                self._forget_database(watch)
            elif watch.file is not None:
                self._refresh_database(watch, watch.file, now)

    def _refresh_database(self, watch: SampledDatabase, file: SampledFile, now: float) -> None:
        try:
            written = file.refresh_file()
            pin = file.find_pin()
        except OSError:
            watch.unable = True
            return
        watch.unable = False
        if written:
            self._mark_lively(watch, now)
            watch.hidden = not file.others_seen
        elif now > watch.lively_until and self._lively.pop(watch.path, None) is not None:
            min(self._groups, key=len)[watch.path] = watch
        watch.pin, watch.pinned = pin, pin is not None and pin == watch.pin

    def _forget_database(self, watch: SampledDatabase) -> None:
        if watch.file is not None:
            watch.file.close()
        for watches in (self._watches, self._lively, *self._groups):
            watches.pop(watch.path, None)


def _is_remote(path: str) -> bool:
    try:
        return file_system_type(path) in NETWORK_FILE_SYSTEMS
    except OSError:
        return False  # whoever looks at it will be told why not


def _add_holder(watch: SampledDatabase, pid: int) -> SampledHolder | None:
    if len(watch.held) >= MOST_HOLDERS:
        return None
    who = describe_process(pid) if pid > 0 else {}
    return watch.held.setdefault(
        pid, SampledHolder(command=who.get("command", ""), command_line=who.get("command_line", ""))
    )


def _usage_report(watch: SampledDatabase) -> dict[str, Any]:
    holders = [[pid, held.samples, held.longest, held.command, held.command_line] for pid, held in watch.held.items()]
    return {"busy": watch.busy, "holders": holders}


def _carry_over(held: SampledHolder) -> SampledHolder:
    """Who still holds it goes on: the next report knows since when, and counts from zero."""
    return replace(held, samples=0, longest=0.0)
