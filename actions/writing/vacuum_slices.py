"""Gives free pages back from the end of the file, in slices of a few milliseconds beside the live application.

incremental_vacuum moves one page at each step, so a slice ends when its time is up, not when a guessed number of pages
is reached; the rest of its time is left for the commit. Nothing is checkpointed: the file shrinks at the next checkpoint.
https://sqlite.org/pragma.html#pragma_incremental_vacuum, docs/safety.md
"""

from collections.abc import Iterator
from dataclasses import dataclass

import apsw

from actions.policy.vacuum_choice import SLICE
from actions.run.errors import Blocked
from actions.run.work import Work
from actions.writing.busy_handler import wait_at_most
from actions.writing.connection import without_syncs
from actions.writing.free_space import size_or_zero
from actions.writing.in_the_way import in_the_way
from actions.writing.wal_budget import budget, live_growth
from actions.writing.write_turn import next_size, write_turn

# Pages of a slice. Fewer than the smallest would hold the lock hardly less long: the commit, or in rollback-journal mode
# its syncs, takes most of it.
SMALLEST_SLICE, LARGEST_SLICE = 64, 4096
# Share of the longest hold that a slice is made for: 2.5 ms of 15, half of them steps, half the commit. A busy machine takes
# the processor away from whoever works longer than that, and then the lock is held for nothing.
AIM = 1 / 6
# How long to wait for the write lock: waiting holds nobody up.
LOCK_WAIT = 2.0
# How long a commit may wait for readers of a rollback-journal database: they and we hold each other up meanwhile.
COMMIT_WAIT = 0.05
TRIES = 5
# Rest so many times as long as the lock was held: there is no hurry.
REST = 2.0
# How long to wait for the application's own checkpoint when the WAL has grown to its budget, in seconds.
PATIENCE = 10.0
LOOK_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Freed:
    """Pages cut off, in how many slices, and the longest time the write lock was held in one, in seconds."""

    pages: int = 0
    slices: int = 0
    longest_hold: float = 0.0

    def __add__(self, other: "Freed") -> "Freed":
        return Freed(self.pages + other.pages, self.slices + other.slices, max(self.longest_hold, other.longest_hold))


class WalFull(Exception):
    """The WAL has grown to its budget and nobody checkpoints it."""


def free_in_slices(work: Work, connection: apsw.Connection, keep: int) -> Iterator[Freed]:
    """Free pages down to `keep` of them, yielding each slice. Raises ActionError, WalFull, apsw.Error."""
    without_syncs(connection)
    before = size_or_zero(work.target.wal)
    longest = min(SLICE, work.target.limits.write_lock)
    size = SMALLEST_SLICE
    while (left := int(connection.pragma("freelist_count")) - keep) > 0:
        work.stop.check()
        _wait_for_room(work, before)
        freed = _patient_slice(work, connection, min(size, left), longest)
        if freed.pages == 0:
            return
        yield freed
        size = max(SMALLEST_SLICE, next_size(size, freed.longest_hold, 2 * AIM * longest, LARGEST_SLICE))
        work.stop.wait(REST * freed.longest_hold)


def _wait_for_room(work: Work, before: int) -> None:
    """Until the WAL's growth is well within its budget: the application's checkpoints make room. Raises WalFull."""
    waited = 0.0
    allowed = budget(work) / 2  # the application's own commits need the rest
    while live_growth(work, before) > allowed:
        if waited >= PATIENCE:
            raise WalFull
        work.stop.check()
        work.stop.wait(LOOK_EVERY)
        waited += LOOK_EVERY


def _patient_slice(work: Work, connection: apsw.Connection, pages: int, longest: float) -> Freed:
    """One slice; where readers keep it from committing, again after a while. Raises Locked, Blocked."""
    for number in range(TRIES):
        try:
            return _slice(connection, pages, longest)
        except apsw.BusyError:
            work.stop.wait(COMMIT_WAIT * 2**number)
            work.stop.check()
    raise Blocked(
        f"readers keep every slice from committing: {in_the_way(work)}",
        reason="reader",
        next_step="`queuekeeper readers` shows who reads; run it again when they are done",
    )


def _slice(connection: apsw.Connection, pages: int, longest: float) -> Freed:
    wait_at_most(connection, LOCK_WAIT)
    with write_turn(connection, LOCK_WAIT) as turn:
        wait_at_most(connection, COMMIT_WAIT)
        before = int(connection.pragma("page_count"))
        steps = connection.execute(f"PRAGMA incremental_vacuum({pages})")
        for _ in steps:
            if turn.age() > AIM / 2 * longest:
                break
        steps.close()
        after = int(connection.pragma("page_count"))
    return Freed(before - after, 1, turn.held)
