"""Gives free pages back from the end of the file, in slices of a few milliseconds beside the live application.

incremental_vacuum moves one page at each step, so a slice ends when its time is up, not when a guessed number of pages
is reached; the rest of its time is left for the commit. Nothing is checkpointed: the file shrinks at the next checkpoint.
https://sqlite.org/pragma.html#pragma_incremental_vacuum, docs/safety.md
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import apsw

from actions.model.context import ActionContext
from actions.model.errors import ActionError, Blocked, Locked
from actions.model.lock_holders import describe_lock_holder
from actions.policy.vacuum_plan import MAX_SLICE_SECONDS
from actions.sqlite.busy_timeout import set_busy_timeout
from actions.sqlite.connection import relax_commit_syncs
from actions.sqlite.pacing import WritePacing
from actions.sqlite.wal_budget import WalHeadroom
from actions.sqlite.write_transaction import begin_write_transaction

# Fewer pages would hold the lock hardly less long: the commit, or in rollback-journal mode its syncs, takes most of it.
SMALLEST_SLICE = 64
# How long to go on asking for the write lock, in seconds: before anything was done, and when a part was.
PATIENCE, PATIENCE_AMID = 2.0, 30.0
# How long to wait for it at a time, and then to give way, in seconds: growing, up to the longest.
LOCK_WAIT, FIRST_YIELD, LONGEST_YIELD = 0.05, 0.02, 0.5
# How long a commit may wait for readers of a rollback-journal database: they and we hold each other up meanwhile.
COMMIT_WAIT = 0.05


@dataclass(frozen=True, slots=True)
class FreedPages:
    """Pages cut off, in how many slices, and the longest time the write lock was held in one, in seconds."""

    pages: int = 0
    slices: int = 0
    longest_hold: float = 0.0

    def __add__(self, other: "FreedPages") -> "FreedPages":
        return FreedPages(
            self.pages + other.pages, self.slices + other.slices, max(self.longest_hold, other.longest_hold)
        )


def free_pages_in_slices(work: ActionContext, connection: apsw.Connection, keep: int) -> Iterator[FreedPages]:
    """Free pages down to `keep` of them, yielding each slice. Raises ActionError, WalFull, apsw.Error."""
    relax_commit_syncs(connection)
    guard, room = WritePacing(min(MAX_SLICE_SECONDS, work.target.limits.write_lock)), WalHeadroom(work)
    while (left := int(connection.pragma("freelist_count")) - keep) > 0:
        work.stop.raise_if_requested()
        work.stop.wait_for_stop(guard.remaining_delay())
        room.wait_for_room()
        work.stop.raise_if_requested()
        freed = _retry_slice(work, connection, guard, left)
        if freed.pages == 0:
            return
        yield freed


def _retry_slice(work: ActionContext, connection: apsw.Connection, guard: WritePacing, most: int) -> FreedPages:
    """One slice; where the lock is not to be had, or a commit not possible, again after giving way. Raises Locked, Blocked."""
    pause = FIRST_YIELD
    gives_up = time.monotonic() + (PATIENCE_AMID if guard.holds else PATIENCE)
    while True:
        try:
            return _free_slice(connection, guard, most)
        except (Locked, apsw.BusyError) as error:
            if time.monotonic() >= gives_up:
                raise _lock_error(work, began=isinstance(error, apsw.BusyError)) from error
        guard.record_yield(pause)
        work.stop.wait_for_stop(pause)
        work.stop.raise_if_requested()
        pause = min(LONGEST_YIELD, 2 * pause)


def _free_slice(connection: apsw.Connection, guard: WritePacing, most: int) -> FreedPages:
    set_busy_timeout(connection, LOCK_WAIT)
    with begin_write_transaction(connection, LOCK_WAIT) as turn:
        set_busy_timeout(connection, COMMIT_WAIT)
        before = int(connection.pragma("page_count"))
        steps = connection.execute(f"PRAGMA incremental_vacuum({most})")
        for number, _ in enumerate(steps, 1):
            if number >= SMALLEST_SLICE and not guard.may_add_row(turn, number):
                break
        steps.close()
        pages = before - int(connection.pragma("page_count"))
        worked = turn.seconds_held()
    guard.record_transaction(turn, pages, turn.held - worked)
    return FreedPages(pages, 1, turn.held)


def _lock_error(work: ActionContext, *, began: bool) -> ActionError:
    if began:
        return Blocked(
            f"readers keep every slice from committing: {describe_lock_holder(work)}",
            reason="reader",
            next_step="`queuekeeper readers` shows who reads; run it again when they are done",
        )
    return Locked(
        f"the write lock did not come free: {describe_lock_holder(work)} has it",
        reason="write_lock",
        next_step="`queuekeeper readers` shows who holds it; run it again later",
    )
