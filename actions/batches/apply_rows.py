"""Applies a profile's steps to the rows that a selection returns, batch by batch, while each row is still as it was seen."""

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import apsw

from actions.batches.batch_loop import BatchLoop
from actions.batches.select_rows import ROWID_INDEX, STEP_INDEX, SelectedRow, select_rows
from actions.model.context import ActionContext
from actions.model.plan import Figure
from actions.sqlite.connection import relax_commit_syncs
from actions.sqlite.pacing import WritePacing, nearest_rank_percentile
from actions.sqlite.wal_budget import WalHeadroom
from actions.sqlite.write_transaction import WriteTransaction
from collectors.queue_profiles.authorizer import SchemaEffects, allow_changes, join_access_rules, read_schema_effects
from collectors.queue_profiles.row_changes import BoundStep, RowDestination
from collectors.queue_profiles.row_selection import RowSelection
from collectors.queue_profiles.time_formats import SqlValue

# Whether one more row may be processed, after so many.
MayContinue = Callable[[int], bool]
# Rows of the first range of a batch; the next is twice as large while one takes less than so many seconds.
FIRST_RANGE, SHORT_RANGE = 8, 0.0005
# KiB of pages kept in memory: a scattered index is read once, not for every row.
CACHE_KIB = 32 * 1024


@dataclass(slots=True)
class AppliedRows:
    """What one transaction did with the rows that it tried. `skipped_keys`: of rows that had changed since they were seen."""

    destinations: Counter[RowDestination] = field(default_factory=Counter)
    skipped_keys: list[Any] = field(default_factory=list)
    tried: list[SelectedRow] = field(default_factory=list)

    @property
    def changed_rows(self) -> int:
        """How many rows were no longer as they had been seen."""
        return max(0, len(self.tried) - self.destinations.total())


@dataclass(slots=True)
class BatchProgress:
    """What the committed batches of a run did. `changed`: rows that had changed between their selection and their batch."""

    pacing: WritePacing
    headroom: WalHeadroom
    destinations: Counter[RowDestination] = field(default_factory=Counter)
    changed: int = 0

    @property
    def applied_rows(self) -> int:
        """How many rows were changed or deleted."""
        return self.destinations.total()

    def add_batch(self, applied: AppliedRows) -> None:
        """Count a committed batch."""
        self.destinations += applied.destinations
        self.changed += applied.changed_rows

    def batch_figures(self) -> Mapping[str, Figure]:
        """Figures of how the batches shared the database with the application; times in seconds."""
        holds = self.pacing.holds
        return {
            "changed_meanwhile": self.changed,
            "chunks": len(holds),
            "longest_hold_seconds": round(max(holds, default=0.0), 4),
            "p999_hold_seconds": round(nearest_rank_percentile(holds, 0.999), 4),
            "gave_way": self.pacing.yields,
            "wal_pauses": self.headroom.pauses,
            "wal_paused_seconds": round(self.headroom.paused, 2),
        }


def start_progress(context: ActionContext) -> BatchProgress:
    """The progress of a run that has done nothing yet, with pacing and WAL headroom by the database's limits."""
    return BatchProgress(WritePacing(context.target.limits.write_lock), WalHeadroom(context))


@dataclass(frozen=True, slots=True)
class _RowBatches:
    """What all batches of one run share."""

    loop: BatchLoop
    progress: BatchProgress
    limit: int | None
    older_than: float | None
    effects: SchemaEffects

    @property
    def now(self) -> Callable[[], float]:
        """The clock of the run."""
        return self.loop.context.now

    @property
    def remaining_rows(self) -> int:
        """How many rows may still be changed."""
        return sys.maxsize if self.limit is None else max(0, self.limit - self.progress.applied_rows)


ApplyRows = Callable[[_RowBatches, RowSelection, deque[SelectedRow], AppliedRows, WriteTransaction], None]


def apply_in_batches(
    context: ActionContext,
    connection: apsw.Connection,
    selections: Iterable[RowSelection],
    progress: BatchProgress,
    limit: int | None,
    older_than: float | None = None,
) -> Iterator[int]:
    """Apply the steps to at most `limit` rows, to all without one; yields after each batch how many rows are done.

    Raises WalBudgetExhausted, ActionError, ProfileError, apsw.Error: what was committed before stays, and is in `progress`.
    """
    relax_commit_syncs(connection)
    connection.pragma("cache_size", -CACHE_KIB)
    loop = BatchLoop(context, connection, progress.pacing, progress.headroom)
    batches = _RowBatches(loop, progress, limit, older_than, read_schema_effects(connection))
    for selection in selections:
        yield from _apply_to_table(batches, selection)


def _apply_to_table(batches: _RowBatches, selection: RowSelection) -> Iterator[int]:
    connection, skipped_keys = batches.loop.connection, set[Any]()
    for part in select_rows(connection, selection, batches.now, batches.older_than, skipped_keys):
        pending = deque(part.rows)
        # A row that appears in a range only now is changed too: then no limit could be kept.
        apply_rows = _apply_ranges if part.is_adjacent and batches.limit is None else _apply_each
        while pending:
            if batches.remaining_rows == 0:
                return
            applied = _run_batch(batches, selection, pending, apply_rows)
            skipped_keys.update(applied.skipped_keys)
            yield batches.progress.applied_rows
        batches.loop.context.stop.raise_if_requested()


def _run_batch(
    batches: _RowBatches, selection: RowSelection, pending: deque[SelectedRow], apply_rows: ApplyRows
) -> AppliedRows:
    """Commit one batch off the left of `pending`. Raises what `BatchLoop.run_batch` does, ProfileError, apsw.Error."""
    applied = AppliedRows()

    def write_rows(transaction: WriteTransaction) -> int:
        nonlocal applied
        pending.extendleft(reversed(applied.tried))  # of a try that was rolled back: these rows are as they were
        applied = AppliedRows()
        apply_rows(batches, selection, pending, applied, transaction)
        return len(applied.tried)

    batches.loop.run_batch(write_rows)
    batches.progress.add_batch(applied)
    return applied


def _apply_each(
    batches: _RowBatches,
    selection: RowSelection,
    pending: deque[SelectedRow],
    applied: AppliedRows,
    transaction: WriteTransaction,
) -> None:
    pacing, most = batches.progress.pacing, batches.remaining_rows
    steps = selection.bind_row_steps(batches.now(), batches.older_than)

    def may_continue(rows: int) -> bool:
        return rows < most and pacing.may_add_row(transaction, rows)

    apply_steps(batches.loop.connection, steps, pending, applied, batches.effects, may_continue)


def _apply_ranges(
    batches: _RowBatches,
    selection: RowSelection,
    pending: deque[SelectedRow],
    applied: AppliedRows,
    transaction: WriteTransaction,
) -> None:
    pacing = batches.progress.pacing
    steps = selection.bind_range_steps(batches.now(), batches.older_than)

    def may_continue(rows: int) -> bool:
        return pacing.may_add_row(transaction, rows)

    apply_range_steps(batches.loop.connection, steps, pending, applied, batches.effects, may_continue)


def apply_steps(
    connection: apsw.Connection,
    steps: tuple[BoundStep, ...],
    pending: deque[SelectedRow],
    applied: AppliedRows,
    effects: SchemaEffects | None = None,
    may_continue: MayContinue = lambda _rows: True,
) -> None:
    """Apply the steps to rows off the left of `pending`, one by one, in the caller's transaction.

    `effects`: read outside of the transaction. Raises apsw.Error; ProfileError when a step does what the profile did not
    declare.
    """
    while pending and may_continue(len(applied.tried)):
        number = pending[0][STEP_INDEX]
        if number is None:  # the profile has no step for it
            applied.tried.append(pending.popleft())
            applied.skipped_keys.append(applied.tried[-1][0])
            continue
        step = steps[number]
        with allow_changes(connection, step.access, effects):
            rows = _row_values(connection, step, number, pending, applied, may_continue)
            connection.executemany(";".join(step.statements), rows)


def apply_range_steps(
    connection: apsw.Connection,
    steps: tuple[BoundStep, ...],
    pending: deque[SelectedRow],
    applied: AppliedRows,
    effects: SchemaEffects,
    may_continue: MayContinue,
) -> None:
    """Apply the steps to rows that lie close together: range after range, each with one statement a step.

    The statement that changes a row also tests its predicate, so nothing can come between; a range is small enough for
    the clock to be read after it. Raises apsw.Error, ProfileError.
    """
    size = FIRST_RANGE
    with allow_changes(connection, join_access_rules(step.access for step in steps), effects):
        while pending and may_continue(len(applied.tried)):
            started = time.monotonic()
            rows = [pending.popleft() for _ in range(min(size, len(pending)))]
            applied.tried += rows
            numbers = {row[STEP_INDEX] for row in rows}
            _apply_range(connection, [steps[number] for number in sorted(numbers - {None})], rows, applied)
            size = max(1, size // 2) if time.monotonic() - started > 2 * SHORT_RANGE else size
            size = 2 * size if time.monotonic() - started < SHORT_RANGE else size


def _row_values(
    connection: apsw.Connection,
    step: BoundStep,
    number: int,
    pending: deque[SelectedRow],
    applied: AppliedRows,
    may_continue: MayContinue,
) -> Iterator[dict[str, SqlValue]]:
    """Yield the values of each row for this step; the result of a row is read when the next one is requested."""
    values = dict(step.values)
    while pending and pending[0][STEP_INDEX] == number and may_continue(len(applied.tried)):
        row = pending.popleft()
        applied.tried.append(row)
        values["key"], values["seen"], values["holder"] = row[:STEP_INDEX]
        yield values
        if connection.changes() > 0:  # of the last statement, which is the one that changes the row itself
            applied.destinations[step.destination] += 1
        else:
            applied.skipped_keys.append(row[0])


def _apply_range(
    connection: apsw.Connection, steps: list[BoundStep], rows: list[SelectedRow], applied: AppliedRows
) -> None:
    for step in steps:
        values = {**step.values, "first": rows[0][ROWID_INDEX], "last": rows[-1][ROWID_INDEX]}
        for statement in step.statements:
            connection.execute(statement, values)
        applied.destinations[step.destination] += connection.changes()
