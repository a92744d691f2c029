"""Selects the rows that an action may change by the queue's profile: outside the write lock, in slices, each row once.

Few rows are searched by the best index, each time from its start, since changed rows no longer match. Where there is no
index, or where a large share of the table matches, the table is walked once in the order of its rows: then no row is
visited twice, and neighbours are changed together, which dirties the fewest pages.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import apsw

from collectors.queue_profiles.authorizer import allow_reading
from collectors.queue_profiles.row_selection import RowSelection
from collectors.queue_profiles.statement import BoundStatement

# Rows of one search by an index, and rows that are visited in one stride of a walk.
SEARCH_ROWS, STRIDE_ROWS = 4000, 8000
# A table is walked when at least one of so many of its rows matches.
DENSE_ONE_IN = 50
# The least and the largest rowid (https://sqlite.org/rowidtable.html).
FIRST_ROW, LAST_ROW = -(2**63), 2**63 - 1

# Rows lie close together where at least one of so many that a stride visits matches.
ADJACENT_ONE_IN = 8
# Key, lease as it is stored, holder, number of the step; of a walk also the row's number. Plain tuples: there may be millions.
SelectedRow = tuple[Any, ...]
STEP_INDEX, ROWID_INDEX = 3, 4


@dataclass(frozen=True, slots=True)
class RowSlice:
    """Rows of one read. `is_adjacent`: in the order of their rowids, with few other rows in between."""

    rows: list[SelectedRow]
    is_adjacent: bool = False


def select_rows(
    connection: apsw.Connection,
    selection: RowSelection,
    now: Callable[[], float],
    older_than: float | None,
    skipped_keys: set[Any],
) -> Iterator[RowSlice]:
    """Yield the rows of one table; the next slice is read when the rows of the last were tried.

    `skipped_keys`: the caller adds the keys of rows that it did not change. Raises apsw.Error, ProfileError.
    """
    if not uses_search(connection, selection):
        yield from walk_rows(connection, selection, now, older_than)
        return
    count, last_keys = 0, set[Any]()
    while True:
        limit = SEARCH_ROWS + len(skipped_keys)
        rows = fetch_rows(connection, selection.search_statement(now(), older_than), limit=limit)
        # A row that still matches after its step would match for ever: the profile's step does not move it.
        fresh = [row for row in rows if row[0] not in skipped_keys and row[0] not in last_keys]
        last_keys = {row[0] for row in rows}
        yield RowSlice(fresh)
        if len(rows) < limit or not fresh:
            return
        count += len(fresh)
        if has_rowids(connection, selection) and _rowid_span(connection, selection) <= DENSE_ONE_IN * count:
            yield from walk_rows(connection, selection, now, older_than)
            return


def walk_rows(
    connection: apsw.Connection, selection: RowSelection, now: Callable[[], float], older_than: float | None
) -> Iterator[RowSlice]:
    """Yield the rows in the order of their rowids; each slice is a short read. Raises apsw.Error, ProfileError."""
    after = FIRST_ROW
    while True:
        last = fetch_rows(connection, selection.stride_statement(), after=after, rows=STRIDE_ROWS)
        upto = last[0][0] if last else LAST_ROW
        rows = fetch_rows(connection, selection.walk_statement(now(), older_than), after=after, upto=upto)
        yield RowSlice(rows, is_adjacent=len(rows) * ADJACENT_ONE_IN >= STRIDE_ROWS)
        if not last:
            return
        after = upto


def uses_search(connection: apsw.Connection, selection: RowSelection) -> bool:
    """Whether the rows are searched by an index, or the table cannot be walked. Raises apsw.Error, ProfileError."""
    bound = selection.search_statement(0.0)
    with allow_reading(connection, bound.access):
        plan = connection.execute("EXPLAIN QUERY PLAN " + bound.sql, {**bound.values, "limit": 1}).fetchall()
    visits_all = any(str(row[3]) == f"SCAN {selection.table_name}" for row in plan)
    return not visits_all or not has_rowids(connection, selection)


def fetch_rows(connection: apsw.Connection, bound: BoundStatement, **given: Any) -> list[tuple[Any, ...]]:
    """Fetch all rows of a statement, within its access rules. Raises apsw.Error, ProfileError."""
    with allow_reading(connection, bound.access):
        return connection.execute(bound.sql, {**bound.values, **given}).fetchall()


def has_rowids(connection: apsw.Connection, selection: RowSelection) -> bool:
    """Whether the table has rowids, so that it can be walked (https://sqlite.org/withoutrowid.html)."""
    sql = "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?"
    return not connection.execute(sql, (selection.table_name,)).get


def _rowid_span(connection: apsw.Connection, selection: RowSelection) -> int:
    """An upper bound on the number of rows of the table."""
    return int(fetch_rows(connection, selection.rowid_span_statement())[0][0])
