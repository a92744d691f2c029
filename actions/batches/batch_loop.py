"""Runs the short write transactions of an action one after another beside a live application.

Requeue, purge and incremental vacuum share this loop. Between two batches nothing is locked and every change is
committed: there the loop waits for the pacing delay, waits for room in the WAL, and ends when a stop is requested.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import apsw

from actions.model.context import ActionContext, describe_lock_holder
from actions.model.errors import ActionError, Blocked, Locked
from actions.sqlite.busy_timeout import set_busy_timeout
from actions.sqlite.pacing import WritePacing
from actions.sqlite.wal_budget import WalHeadroom
from actions.sqlite.write_transaction import WriteTransaction, begin_write_transaction

# How long to retry for the write lock, in seconds: before the first batch, and after it.
FIRST_LOCK_PATIENCE, LATER_LOCK_PATIENCE = 2.0, 30.0
# How long one try waits for the lock, and how long to yield after it, in seconds: doubled up to the longest.
LOCK_WAIT, FIRST_YIELD, LONGEST_YIELD = 0.05, 0.02, 0.5
# Share of limits.write_lock that a commit may wait for the readers of a rollback-journal database: new readers and writers
# wait for it.
COMMIT_WAIT_SHARE = 0.5
# How long a read between two batches waits for a commit in a rollback-journal database, in seconds: it blocks no process.
READ_WAIT = 2.0


@dataclass(frozen=True, slots=True)
class BatchLoop:
    """The batches of one run on one connection, with the pacing and the WAL headroom that they share."""

    context: ActionContext
    connection: apsw.Connection
    pacing: WritePacing
    headroom: WalHeadroom

    def run_batch(self, write: Callable[[WriteTransaction], int]) -> WriteTransaction:
        """Commit what `write` does in one transaction; `write` returns how many rows or pages it processed.

        Retries while other processes hold the lock or keep the commit waiting: then `write` is called again, after its
        changes were rolled back. Raises Locked, Blocked, WalBudgetExhausted, Cancelled, Interrupted and what `write` raises.
        """
        self._wait_between_batches()
        pause = FIRST_YIELD
        deadline = time.monotonic() + (LATER_LOCK_PATIENCE if self.pacing.holds else FIRST_LOCK_PATIENCE)
        while True:
            try:
                return self._try_batch(write)
            except (Locked, apsw.BusyError) as error:
                if time.monotonic() >= deadline:
                    raise self._lock_error(has_begun=isinstance(error, apsw.BusyError)) from error
            self.pacing.record_yield(pause)
            self.context.stop.wait_for_stop(pause)
            self.context.stop.raise_if_requested()
            pause = min(LONGEST_YIELD, 2 * pause)

    def _wait_between_batches(self) -> None:
        """Wait for the pacing delay and for room in the WAL. Raises WalBudgetExhausted, Cancelled, Interrupted."""
        stop = self.context.stop
        stop.raise_if_requested()
        stop.wait_for_stop(self.pacing.remaining_delay())
        self.headroom.wait_for_room()
        stop.raise_if_requested()

    def _try_batch(self, write: Callable[[WriteTransaction], int]) -> WriteTransaction:
        """One transaction. Raises Locked where it could not begin, apsw.BusyError where it was rolled back for readers."""
        set_busy_timeout(self.connection, LOCK_WAIT)
        try:
            with begin_write_transaction(self.connection, LOCK_WAIT) as transaction:
                set_busy_timeout(self.connection, COMMIT_WAIT_SHARE * self.context.target.limits.write_lock)
                rows = write(transaction)
                before_commit = transaction.seconds_held()
        finally:
            set_busy_timeout(self.connection, READ_WAIT)
        self.pacing.record_transaction(transaction, rows, transaction.held - before_commit)
        return transaction

    def _lock_error(self, *, has_begun: bool) -> ActionError:
        holder = describe_lock_holder(self.context)
        if has_begun:
            return Blocked(
                f"readers keep every transaction from committing: {holder}",
                reason="reader",
                next_step="`queuekeeper readers` shows who reads; run it again when they are done",
            )
        return Locked(
            f"the write lock did not come free: {holder} has it",
            reason="write_lock",
            next_step="`queuekeeper readers` shows who holds it; run it again later",
        )
