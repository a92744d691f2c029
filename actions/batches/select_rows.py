"""Finds the rows that a queue profile lets an action take: outside the write lock, in slices, each row once.

Few rows are found by the best index, from the start again each time, since what was taken is no longer there. Where
there is none, or where a large share of the table is to be found, the table is walked once in the order of its rows: then
nothing is stepped over twice, and neighbours are taken together, which dirties the fewest pages.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import apsw

from collectors.queue_profiles.authorizer import allow_reading
from collectors.queue_profiles.row_selection import RowSelection
from collectors.queue_profiles.statement import BoundStatement

# Rows of one look by an index, and rows that are visited in one stride of a walk.
SEARCH_ROWS, STRIDE_ROWS = 4000, 8000
# A table is walked when at least one of so many of its rows is to be found.
DENSE_ONE_IN = 50
# The least and the largest rowid (https://sqlite.org/rowidtable.html).
FIRST_ROW, LAST_ROW = -(2**63), 2**63 - 1

# Rows lie close together where at least one of so many that a stride visits is to be found.
ADJACENT_ONE_IN = 8
# Key, lease as it is stored, holder, number of the step; of a walk also the row's number. Plain tuples: there may be millions.
SelectedRow = tuple[Any, ...]
STEP_INDEX, ROWID_INDEX = 3, 4


@dataclass(frozen=True, slots=True)
class RowSlice:
    """Rows that were found at once. `close`: in the order of their numbers, with few others in between."""

    rows: list[SelectedRow]
    is_adjacent: bool = False


def select_rows(
    connection: apsw.Connection,
    taking: RowSelection,
    now: Callable[[], float],
    older_than: float | None,
    left: set[Any],
) -> Iterator[RowSlice]:
    """The rows of one table; ask for the next when those of the last were tried. `left`: keys not taken then.

    Raises apsw.Error, ProfileError.
    """
    if not uses_search(connection, taking):
        yield from walk_rows(connection, taking, now, older_than)
        return
    known, last = 0, set[Any]()
    while True:
        limit = SEARCH_ROWS + len(left)
        rows = fetch_rows(connection, taking.search_statement(now(), older_than), limit=limit)
        # What is still there although it was taken would be found for ever: the profile's step does not move it.
        fresh = [row for row in rows if row[0] not in left and row[0] not in last]
        last = {row[0] for row in rows}
        yield RowSlice(fresh)
        if len(rows) < limit or not fresh:
            return
        known += len(fresh)
        if (
            has_rowids(connection, taking)
            and fetch_rows(connection, taking.rowid_span_statement())[0][0] <= DENSE_ONE_IN * known
        ):
            yield from walk_rows(connection, taking, now, older_than)
            return


def walk_rows(
    connection: apsw.Connection, taking: RowSelection, now: Callable[[], float], older_than: float | None
) -> Iterator[RowSlice]:
    """The rows in the order of their numbers; each slice is a short reading. Raises apsw.Error, ProfileError."""
    after = FIRST_ROW
    while True:
        last = fetch_rows(connection, taking.stride_statement(), after=after, rows=STRIDE_ROWS)
        upto = last[0][0] if last else LAST_ROW
        rows = fetch_rows(connection, taking.walk_statement(now(), older_than), after=after, upto=upto)
        yield RowSlice(rows, is_adjacent=len(rows) * ADJACENT_ONE_IN >= STRIDE_ROWS)
        if not last:
            return
        after = upto


def uses_search(connection: apsw.Connection, taking: RowSelection) -> bool:
    """Whether an index leads to the rows, or there is no other way. Raises apsw.Error, ProfileError."""
    bound = taking.search_statement(0.0)
    with allow_reading(connection, bound.access):
        plan = connection.execute("EXPLAIN QUERY PLAN " + bound.sql, {**bound.values, "limit": 1}).fetchall()
    visits_all = any(str(row[3]) == f"SCAN {taking.context.table.name}" for row in plan)
    return not visits_all or not has_rowids(connection, taking)


def fetch_rows(connection: apsw.Connection, bound: BoundStatement, **given: Any) -> list[tuple[Any, ...]]:
    """All rows of a statement, behind its fence. Raises apsw.Error, ProfileError."""
    with allow_reading(connection, bound.access):
        return connection.execute(bound.sql, {**bound.values, **given}).fetchall()


def has_rowids(connection: apsw.Connection, taking: RowSelection) -> bool:
    """Whether it is an ordinary table (https://sqlite.org/withoutrowid.html)."""
    sql = "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?"
    return not connection.execute(sql, (taking.context.table.name,)).get
