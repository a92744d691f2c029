"""What a run would take, counted and shown before it is done: bounded, however many there are."""

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

# At most so many are counted, and for so long, in seconds; so many are shown.
MOST_COUNTED, LONGEST_COUNT = 100_000, 2.0
MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """One row for a person. `since`: seconds since the epoch; `holder`: who has it, empty when that is not told."""

    key: Any
    queue: str
    since: float | None
    holder: str

    def __str__(self) -> str:
        held = f"held by {self.holder}, " if self.holder else ""
        since = "" if self.since is None else f" ({held}since {_format_utc(self.since)})"
        return f"{self.key} of {self.queue or 'the queue'}{since}"


@dataclass(frozen=True, slots=True)
class RowsPreview:
    """How many rows, `at_least` so many where counting was stopped; the first of them."""

    number: int = 0
    at_least: bool = False
    first: tuple[CandidateRow, ...] = ()

    @property
    def tasks_text(self) -> str:
        """The number in words."""
        return f"{'at least ' * self.at_least}{self.number} tasks"

    @property
    def rows_text(self) -> str:
        """The first, and how many more."""
        more = self.number - len(self.first)
        return ", ".join(map(str, self.first)) + (f" and {more} more" if more > 0 else "")


def preview_rows(
    work: ActionContext,
    connection: apsw.Connection,
    takings: Iterable[RowSelection],
    limit: int | None,
    older_than: float | None = None,
) -> RowsPreview:
    """Count them, up to `limit` and no further than COUNTED, and look at the first.

    Raises apsw.Error, ProfileError, TimeLimitExceeded.
    """
    most, ends = min(limit or MOST_COUNTED + 1, MOST_COUNTED + 1), time.monotonic() + LONGEST_COUNT
    number, late = 0, False
    first: tuple[CandidateRow, ...] = ()
    for taking in takings:
        for found in _read_slices(work, connection, taking, most - number, older_than):
            first += _read_candidates(work, connection, taking, found[: MOST_SHOWN - len(first)], older_than)
            number += len(found)
            late = time.monotonic() > ends
            if number >= most or late:
                break
    return RowsPreview(min(number, most, MOST_COUNTED), number > MOST_COUNTED or (late and number < most), first)


def count_up_to(work: ActionContext, connection: apsw.Connection, bounds: Iterable[BoundStatement], limit: int) -> int:
    """The sum of several counts, at most `limit`; what takes too long is not counted. Raises apsw.Error, ProfileError."""
    total = 0
    with suppress(TimeLimitExceeded), time_limit(connection, _longest_read(work, connection)):
        for bound in bounds:
            total += fetch_rows(connection, bound, limit=limit - total)[0][0]
    return total


def _read_slices(
    work: ActionContext, connection: apsw.Connection, taking: RowSelection, limit: int, older_than: float | None
) -> Iterator[list[SelectedRow]]:
    """By the index in one look; without one, or when that takes too long, in the short readings of a walk."""
    found = _search_rows(work, connection, taking, limit, older_than) if uses_search(connection, taking) else None
    if found is None:
        yield from (part.rows for part in walk_rows(connection, taking, work.now, older_than))
    else:
        yield found


def _search_rows(
    work: ActionContext, connection: apsw.Connection, taking: RowSelection, limit: int, older_than: float | None
) -> list[SelectedRow] | None:
    try:
        with time_limit(connection, _longest_read(work, connection)):
            return fetch_rows(connection, taking.search_statement(work.now(), older_than), limit=limit)
    except TimeLimitExceeded:
        if has_rowids(connection, taking):
            return None
        raise


def _read_candidates(
    work: ActionContext,
    connection: apsw.Connection,
    taking: RowSelection,
    found: list[SelectedRow],
    older_than: float | None,
) -> tuple[CandidateRow, ...]:
    bound = taking.candidate_statement(work.now(), older_than)
    rows = (row for key, *_ in found for row in fetch_rows(connection, bound, key=key))
    return tuple(_candidate_row(row, bound) for row in rows)


def _candidate_row(row: tuple[Any, ...], bound: BoundStatement) -> CandidateRow:
    key, queue, _attempts, since, holder = row
    moment = None if since is None else moment_of(float(since), bound.time_format, bound.zone)
    return CandidateRow(key, str(queue), moment, "" if holder is None else str(holder))


def _longest_read(work: ActionContext, connection: apsw.Connection) -> float:
    limits = work.target.limits
    return limits.read_wal if connection.pragma("journal_mode") == "wal" else limits.read_rollback


def _format_utc(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(moment))
