"""Gives free pages back from the end of the file, in batches of a few milliseconds beside the live application.

incremental_vacuum moves one page at each step, so a batch ends when its time is up, not when a guessed number of pages
is reached; the rest of its time is for the commit. Nothing is checkpointed: the file shrinks at the next checkpoint.
https://sqlite.org/pragma.html#pragma_incremental_vacuum, docs/safety.md
"""

from collections.abc import Iterator
from dataclasses import dataclass

import apsw

from actions.batches.batch_loop import BatchLoop
from actions.model.context import ActionContext
from actions.policy.vacuum_plan import MAX_BATCH_SECONDS
from actions.sqlite.connection import relax_commit_syncs
from actions.sqlite.pacing import WritePacing
from actions.sqlite.wal_budget import WalHeadroom
from actions.sqlite.write_transaction import WriteTransaction

# Fewer pages would hold the lock hardly less long: the commit, or in rollback-journal mode its syncs, takes most of it.
SMALLEST_BATCH = 64


@dataclass(frozen=True, slots=True)
class FreedPages:
    """Pages cut off, in how many batches, and the longest time the write lock was held in one, in seconds."""

    pages: int = 0
    batches: int = 0
    longest_hold: float = 0.0

    def __add__(self, other: "FreedPages") -> "FreedPages":
        return FreedPages(
            self.pages + other.pages, self.batches + other.batches, max(self.longest_hold, other.longest_hold)
        )


def free_pages_in_batches(context: ActionContext, connection: apsw.Connection, keep: int) -> Iterator[FreedPages]:
    """Free pages until `keep` free ones remain, yielding each batch. Raises ActionError, WalBudgetExhausted, apsw.Error."""
    relax_commit_syncs(connection)
    pacing = WritePacing(min(MAX_BATCH_SECONDS, context.target.limits.write_lock))
    loop = BatchLoop(context, connection, pacing, WalHeadroom(context))
    while (surplus := int(connection.pragma("freelist_count")) - keep) > 0:
        freed = _free_batch(loop, surplus)
        if freed.pages == 0:
            return
        yield freed


def _free_batch(loop: BatchLoop, most: int) -> FreedPages:
    """Free at most `most` pages in one transaction. Raises what `BatchLoop.run_batch` does."""
    pages = 0

    def cut_pages(transaction: WriteTransaction) -> int:
        nonlocal pages
        before = int(loop.connection.pragma("page_count"))
        steps = loop.connection.execute(f"PRAGMA incremental_vacuum({most})")
        for number, _ in enumerate(steps, 1):
            if number >= SMALLEST_BATCH and not loop.pacing.may_add_row(transaction, number):
                break
        steps.close()
        pages = before - int(loop.connection.pragma("page_count"))
        return pages

    transaction = loop.run_batch(cut_pages)
    return FreedPages(pages, 1, transaction.held)
