"""Takes many rows beside a live application: turn after turn with the write lock, each short, with room for the others.

Between two turns nothing is held and everything is whole: there we look for more rows, rest, wait for the WAL to be
copied, and stop when asked to.
"""

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import apsw

from actions.batches.apply_rows import AppliedRows, apply_range_steps, apply_steps
from actions.batches.select_rows import SelectedRow, select_rows
from actions.model.context import ActionContext
from actions.model.errors import ActionError, Blocked, Locked
from actions.model.lock_holders import describe_lock_holder
from actions.model.plan import Figure
from actions.sqlite.busy_timeout import set_busy_timeout
from actions.sqlite.connection import relax_commit_syncs
from actions.sqlite.pacing import WritePacing, nearest_rank_percentile
from actions.sqlite.wal_budget import WalHeadroom
from actions.sqlite.write_transaction import WriteTransaction, begin_write_transaction
from collectors.queue_profiles.authorizer import SchemaEffects, read_schema_effects
from collectors.queue_profiles.row_changes import RowDestination
from collectors.queue_profiles.row_selection import RowSelection

# How long to go on asking for the write lock, in seconds: before anything was done, and when a part was.
FIRST_LOCK_PATIENCE, LATER_LOCK_PATIENCE = 2.0, 30.0
# How long to wait for it at a time, and then to give way, in seconds: growing, up to the longest.
LOCK_WAIT, FIRST_YIELD, LONGEST_YIELD = 0.05, 0.02, 0.5
# Share of the longest hold that a commit may wait for the readers of a rollback-journal database.
COMMIT_WAIT = 0.5
# How long a look waits for a commit there, in seconds: that holds nobody up.
READ_WAIT = 2.0
# KiB of pages kept in memory: a scattered index is read once, not for every row.
CACHE_KIB = 32 * 1024


@dataclass(slots=True)
class BatchProgress:
    """What was done until now. `changed`: rows that were found and had changed when they were to be taken."""

    guard: WritePacing
    room: WalHeadroom
    to: Counter[RowDestination] = field(default_factory=Counter)
    changed: int = 0

    @property
    def applied_rows(self) -> int:
        """How many rows were taken."""
        return self.to.total()

    def batch_figures(self) -> Mapping[str, Figure]:
        """How it went beside the others; times in seconds."""
        holds = self.guard.holds
        return {
            "changed_meanwhile": self.changed,
            "chunks": len(holds),
            "longest_hold_seconds": round(max(holds, default=0.0), 4),
            "p999_hold_seconds": round(nearest_rank_percentile(holds, 0.999), 4),
            "gave_way": self.guard.yields,
            "wal_pauses": self.room.pauses,
            "wal_paused_seconds": round(self.room.paused, 2),
        }


def start_progress(work: ActionContext) -> BatchProgress:
    """A new one, by the database's limits."""
    return BatchProgress(WritePacing(work.target.limits.write_lock), WalHeadroom(work))


@dataclass(frozen=True, slots=True)
class _RowBatches:
    """What all turns of one run share."""

    work: ActionContext
    connection: apsw.Connection
    account: BatchProgress
    limit: int | None
    older_than: float | None
    own: SchemaEffects

    @property
    def remaining_rows(self) -> int:
        """How many rows may still be taken."""
        return sys.maxsize if self.limit is None else max(0, self.limit - self.account.applied_rows)


ApplyRows = Callable[[_RowBatches, RowSelection, deque[SelectedRow], AppliedRows, WriteTransaction], None]


def apply_in_batches(
    work: ActionContext,
    connection: apsw.Connection,
    takings: Iterable[RowSelection],
    account: BatchProgress,
    limit: int | None,
    older_than: float | None = None,
) -> Iterator[int]:
    """Take at most `limit` rows, all without one; yields after each turn how many were taken until then.

    Raises WalFull, ActionError, ProfileError, apsw.Error: what was committed by then stays, and is in the account.
    """
    relax_commit_syncs(connection)
    connection.pragma("cache_size", -CACHE_KIB)
    turns = _RowBatches(work, connection, account, limit, older_than, read_schema_effects(connection))
    for taking in takings:
        yield from _apply_to_table(turns, taking)


def _apply_to_table(turns: _RowBatches, taking: RowSelection) -> Iterator[int]:
    left: set[Any] = set()
    for found in select_rows(turns.connection, taking, turns.work.now, turns.older_than, left):
        waiting = deque(found.rows)
        # What turns up in a range only now is taken too: then no limit can be kept.
        how = _apply_ranges if found.close and turns.limit is None else _apply_each
        while waiting:
            if turns.remaining_rows == 0:
                return
            _pause_between_batches(turns)
            taken = _retry_batch(turns, taking, waiting, how)
            left.update(taken.left)
            yield turns.account.applied_rows
        turns.work.stop.raise_if_requested()


def _pause_between_batches(turns: _RowBatches) -> None:
    """Rest, and wait until the WAL has room. Raises WalFull, Cancelled, Interrupted."""
    turns.work.stop.raise_if_requested()
    turns.work.stop.wait_for_stop(turns.account.guard.remaining_delay())
    turns.account.room.wait_for_room()
    turns.work.stop.raise_if_requested()


def _retry_batch(turns: _RowBatches, taking: RowSelection, waiting: deque[SelectedRow], how: ApplyRows) -> AppliedRows:
    """One turn; where the lock is not to be had, again after giving way. Raises Locked, Blocked."""
    guard, pause = turns.account.guard, FIRST_YIELD
    gives_up = time.monotonic() + (LATER_LOCK_PATIENCE if guard.holds else FIRST_LOCK_PATIENCE)
    while (taken := _run_batch(turns, taking, waiting, how, may_fail=time.monotonic() < gives_up)) is None:
        guard.record_yield(pause)
        turns.work.stop.wait_for_stop(pause)
        turns.work.stop.raise_if_requested()
        pause = min(LONGEST_YIELD, 2 * pause)
    return taken


def _run_batch(
    turns: _RowBatches, taking: RowSelection, waiting: deque[SelectedRow], how: ApplyRows, *, may_fail: bool
) -> AppliedRows | None:
    """One transaction, None when others kept it from beginning or from committing: then everything is as before."""
    taken, account, connection = AppliedRows(), turns.account, turns.connection
    set_busy_timeout(connection, LOCK_WAIT)
    try:
        with begin_write_transaction(connection, LOCK_WAIT) as turn:
            set_busy_timeout(connection, COMMIT_WAIT * account.guard.budget)
            how(turns, taking, waiting, taken, turn)
            worked = turn.seconds_held()
    except (Locked, apsw.BusyError) as error:
        waiting.extendleft(reversed(taken.tried))
        if not may_fail:
            raise _lock_error(turns.work, began=bool(taken.tried)) from error
        return None
    finally:
        set_busy_timeout(connection, READ_WAIT)
    account.guard.record_transaction(turn, len(taken.tried), turn.held - worked)
    account.to += taken.to
    account.changed += taken.changed_rows
    return taken


def _apply_each(
    turns: _RowBatches, taking: RowSelection, waiting: deque[SelectedRow], taken: AppliedRows, turn: WriteTransaction
) -> None:
    guard, most, steps = (
        turns.account.guard,
        turns.remaining_rows,
        taking.bind_row_steps(turns.work.now(), turns.older_than),
    )
    apply_steps(
        turns.connection, steps, waiting, taken, turns.own, lambda rows: rows < most and guard.may_add_row(turn, rows)
    )


def _apply_ranges(
    turns: _RowBatches, taking: RowSelection, waiting: deque[SelectedRow], taken: AppliedRows, turn: WriteTransaction
) -> None:
    guard, steps = turns.account.guard, taking.bind_range_steps(turns.work.now(), turns.older_than)
    apply_range_steps(turns.connection, steps, waiting, taken, turns.own, lambda rows: guard.may_add_row(turn, rows))


def _lock_error(work: ActionContext, *, began: bool) -> ActionError:
    who = describe_lock_holder(work)
    if began:
        return Blocked(
            f"readers keep every transaction from committing: {who}",
            reason="reader",
            next_step="`queuekeeper readers` shows who reads; run it again when they are done",
        )
    return Locked(
        f"the write lock did not come free: {who} has it",
        reason="write_lock",
        next_step="`queuekeeper readers` shows who holds it; run it again later",
    )
