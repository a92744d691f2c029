"""Previews the rows that a run would change: counts them and reads the first, within bounds of number and time."""

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import apsw

from actions.batches.select_rows import SelectedRow, fetch_rows, has_rowids, uses_search, walk_rows
from actions.model.context import ActionContext
from collectors.access.timeouts import TimeLimitExceeded, time_limit
from collectors.queue_profiles.row_selection import RowSelection
from collectors.queue_profiles.statement import BoundStatement
from collectors.queue_profiles.time_formats import moment_of

# At most so many rows are counted, and for so many seconds; so many are shown.
MOST_COUNTED, LONGEST_COUNT = 100_000, 2.0
MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """One row that would be changed. `since`: seconds since the epoch; `holder`: its worker, empty when that is unknown."""

    key: Any
    queue: str
    since: float | None
    holder: str

    def __str__(self) -> str:
        holder = f"held by {self.holder}, " if self.holder else ""
        since = "" if self.since is None else f" ({holder}since {_format_utc(self.since)})"
        return f"{self.key} of {self.queue or 'the queue'}{since}"


@dataclass(frozen=True, slots=True)
class RowsPreview:
    """The number of rows, `at_least` so many where counting was stopped; and the first of them."""

    number: int = 0
    at_least: bool = False
    first: tuple[CandidateRow, ...] = ()

    @property
    def tasks_text(self) -> str:
        """The number with its noun."""
        return f"{'at least ' * self.at_least}{self.number} tasks"

    @property
    def rows_text(self) -> str:
        """The first rows, and how many more there are."""
        more = self.number - len(self.first)
        return ", ".join(map(str, self.first)) + (f" and {more} more" if more > 0 else "")


def preview_rows(
    context: ActionContext,
    connection: apsw.Connection,
    selections: Iterable[RowSelection],
    limit: int | None,
    older_than: float | None = None,
) -> RowsPreview:
    """Count the rows, up to `limit` and at most MOST_COUNTED, and read the first.

    Raises apsw.Error, ProfileError, TimeLimitExceeded.
    """
    most, deadline = min(limit or MOST_COUNTED + 1, MOST_COUNTED + 1), time.monotonic() + LONGEST_COUNT
    number, is_late = 0, False
    first: tuple[CandidateRow, ...] = ()
    for selection in selections:
        for rows in _read_slices(context, connection, selection, most - number, older_than):
            first += _read_candidates(context, connection, selection, rows[: MOST_SHOWN - len(first)], older_than)
            number += len(rows)
            is_late = time.monotonic() > deadline
            if number >= most or is_late:
                break
    return RowsPreview(min(number, most, MOST_COUNTED), number > MOST_COUNTED or (is_late and number < most), first)


def count_up_to(
    context: ActionContext, connection: apsw.Connection, bounds: Iterable[BoundStatement], limit: int
) -> int:
    """The sum of several counts, at most `limit`; counting ends at the read limit. Raises apsw.Error, ProfileError."""
    total = 0
    with suppress(TimeLimitExceeded), time_limit(connection, _longest_read(context, connection)):
        for bound in bounds:
            total += fetch_rows(connection, bound, limit=limit - total)[0][0]
    return total


def _read_slices(
    context: ActionContext, connection: apsw.Connection, selection: RowSelection, limit: int, older_than: float | None
) -> Iterator[list[SelectedRow]]:
    """Read rows by the index at once; without an index, or when that takes too long, in the short reads of a walk."""
    rows = (
        _search_rows(context, connection, selection, limit, older_than) if uses_search(connection, selection) else None
    )
    if rows is None:
        yield from (part.rows for part in walk_rows(connection, selection, context.now, older_than))
    else:
        yield rows


def _search_rows(
    context: ActionContext, connection: apsw.Connection, selection: RowSelection, limit: int, older_than: float | None
) -> list[SelectedRow] | None:
    try:
        with time_limit(connection, _longest_read(context, connection)):
            return fetch_rows(connection, selection.search_statement(context.now(), older_than), limit=limit)
    except TimeLimitExceeded:
        if has_rowids(connection, selection):
            return None
        raise


def _read_candidates(
    context: ActionContext,
    connection: apsw.Connection,
    selection: RowSelection,
    rows: list[SelectedRow],
    older_than: float | None,
) -> tuple[CandidateRow, ...]:
    bound = selection.candidate_statement(context.now(), older_than)
    candidates = (row for key, *_ in rows for row in fetch_rows(connection, bound, key=key))
    return tuple(_candidate_row(row, bound) for row in candidates)


def _candidate_row(row: tuple[Any, ...], bound: BoundStatement) -> CandidateRow:
    key, queue, _attempts, since, holder = row
    moment = None if since is None else moment_of(float(since), bound.time_format, bound.zone)
    return CandidateRow(key, str(queue), moment, "" if holder is None else str(holder))


def _longest_read(context: ActionContext, connection: apsw.Connection) -> float:
    limits = context.target.limits
    return limits.read_wal if connection.pragma("journal_mode") == "wal" else limits.read_rollback


def _format_utc(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(moment))
