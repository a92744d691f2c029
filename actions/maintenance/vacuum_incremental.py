"""Gives free pages back from the end of the file, in slices of a few milliseconds beside the live application.

incremental_vacuum moves one page at each step, so a slice ends when its time is up, not when a guessed number of pages
is reached; the rest of its time is left for the commit. Nothing is checkpointed: the file shrinks at the next checkpoint.
https://sqlite.org/pragma.html#pragma_incremental_vacuum, docs/safety.md
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import apsw

from actions.model.context import Work
from actions.model.errors import ActionError, Blocked, Locked
from actions.model.lock_holders import in_the_way
from actions.policy.vacuum_plan import SLICE
from actions.sqlite.busy_timeout import wait_at_most
from actions.sqlite.connection import without_syncs
from actions.sqlite.pacing import LatencyGuard
from actions.sqlite.wal_room import WalRoom
from actions.sqlite.write_transaction import write_turn

# Fewer pages would hold the lock hardly less long: the commit, or in rollback-journal mode its syncs, takes most of it.
SMALLEST_SLICE = 64
# How long to go on asking for the write lock, in seconds: before anything was done, and when a part was.
PATIENCE, PATIENCE_AMID = 2.0, 30.0
# How long to wait for it at a time, and then to give way, in seconds: growing, up to the longest.
LOCK_WAIT, FIRST_YIELD, LONGEST_YIELD = 0.05, 0.02, 0.5
# How long a commit may wait for readers of a rollback-journal database: they and we hold each other up meanwhile.
COMMIT_WAIT = 0.05


@dataclass(frozen=True, slots=True)
class Freed:
    """Pages cut off, in how many slices, and the longest time the write lock was held in one, in seconds."""

    pages: int = 0
    slices: int = 0
    longest_hold: float = 0.0

    def __add__(self, other: "Freed") -> "Freed":
        return Freed(self.pages + other.pages, self.slices + other.slices, max(self.longest_hold, other.longest_hold))


def free_in_slices(work: Work, connection: apsw.Connection, keep: int) -> Iterator[Freed]:
    """Free pages down to `keep` of them, yielding each slice. Raises ActionError, WalFull, apsw.Error."""
    without_syncs(connection)
    guard, room = LatencyGuard(min(SLICE, work.target.limits.write_lock)), WalRoom(work)
    while (left := int(connection.pragma("freelist_count")) - keep) > 0:
        work.stop.check()
        work.stop.wait(guard.still_to_rest())
        room.wait()
        work.stop.check()
        freed = _patient_slice(work, connection, guard, left)
        if freed.pages == 0:
            return
        yield freed


def _patient_slice(work: Work, connection: apsw.Connection, guard: LatencyGuard, most: int) -> Freed:
    """One slice; where the lock is not to be had, or a commit not possible, again after giving way. Raises Locked, Blocked."""
    pause = FIRST_YIELD
    gives_up = time.monotonic() + (PATIENCE_AMID if guard.holds else PATIENCE)
    while True:
        try:
            return _slice(connection, guard, most)
        except (Locked, apsw.BusyError) as error:
            if time.monotonic() >= gives_up:
                raise _given_up(work, began=isinstance(error, apsw.BusyError)) from error
        guard.gave_way(pause)
        work.stop.wait(pause)
        work.stop.check()
        pause = min(LONGEST_YIELD, 2 * pause)


def _slice(connection: apsw.Connection, guard: LatencyGuard, most: int) -> Freed:
    wait_at_most(connection, LOCK_WAIT)
    with write_turn(connection, LOCK_WAIT) as turn:
        wait_at_most(connection, COMMIT_WAIT)
        before = int(connection.pragma("page_count"))
        steps = connection.execute(f"PRAGMA incremental_vacuum({most})")
        for number, _ in enumerate(steps, 1):
            if number >= SMALLEST_SLICE and not guard.may_go_on(turn, number):
                break
        steps.close()
        pages = before - int(connection.pragma("page_count"))
        worked = turn.age()
    guard.ended(turn, pages, turn.held - worked)
    return Freed(pages, 1, turn.held)


def _given_up(work: Work, *, began: bool) -> ActionError:
    if began:
        return Blocked(
            f"readers keep every slice from committing: {in_the_way(work)}",
            reason="reader",
            next_step="`queuekeeper readers` shows who reads; run it again when they are done",
        )
    return Locked(
        f"the write lock did not come free: {in_the_way(work)} has it",
        reason="write_lock",
        next_step="`queuekeeper readers` shows who holds it; run it again later",
    )
