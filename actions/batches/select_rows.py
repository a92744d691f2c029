"""Finds the rows that a queue profile lets an action take: outside the write lock, in slices, each row once.

Few rows are found by the best index, from the start again each time, since what was taken is no longer there. Where
there is none, or where a large share of the table is to be found, the table is walked once in the order of its rows: then
nothing is stepped over twice, and neighbours are taken together, which dirties the fewest pages.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import apsw

from collectors.queue_profiles.authorizer import reading
from collectors.queue_profiles.row_selection import Taking
from collectors.queue_profiles.statement import Bound

# Rows of one look by an index, and rows that are visited in one stride of a walk.
LOOK, STRIDE = 4000, 8000
# A table is walked when at least one of so many of its rows is to be found.
DENSE = 50
# The least and the largest rowid (https://sqlite.org/rowidtable.html).
FIRST_ROW, LAST_ROW = -(2**63), 2**63 - 1

# Rows lie close together where at least one of so many that a stride visits is to be found.
CLOSE = 8
# Key, lease as it is stored, holder, number of the step; of a walk also the row's number. Plain tuples: there may be millions.
Found = tuple[Any, ...]
STEP, NUMBER = 3, 4


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows that were found at once. `close`: in the order of their numbers, with few others in between."""

    rows: list[Found]
    close: bool = False


def found_rows(
    connection: apsw.Connection, taking: Taking, now: Callable[[], float], older_than: float | None, left: set[Any]
) -> Iterator[Slice]:
    """The rows of one table; ask for the next when those of the last were tried. `left`: keys not taken then.

    Raises apsw.Error, ProfileError.
    """
    if not is_searched(connection, taking):
        yield from walked_rows(connection, taking, now, older_than)
        return
    known, last = 0, set[Any]()
    while True:
        limit = LOOK + len(left)
        rows = rows_of(connection, taking.search(now(), older_than), limit=limit)
        # What is still there although it was taken would be found for ever: the profile's step does not move it.
        fresh = [row for row in rows if row[0] not in left and row[0] not in last]
        last = {row[0] for row in rows}
        yield Slice(fresh)
        if len(rows) < limit or not fresh:
            return
        known += len(fresh)
        if has_row_numbers(connection, taking) and rows_of(connection, taking.width())[0][0] <= DENSE * known:
            yield from walked_rows(connection, taking, now, older_than)
            return


def walked_rows(
    connection: apsw.Connection, taking: Taking, now: Callable[[], float], older_than: float | None
) -> Iterator[Slice]:
    """The rows in the order of their numbers; each slice is a short reading. Raises apsw.Error, ProfileError."""
    after = FIRST_ROW
    while True:
        last = rows_of(connection, taking.stride(), after=after, rows=STRIDE)
        upto = last[0][0] if last else LAST_ROW
        rows = rows_of(connection, taking.walk(now(), older_than), after=after, upto=upto)
        yield Slice(rows, close=len(rows) * CLOSE >= STRIDE)
        if not last:
            return
        after = upto


def is_searched(connection: apsw.Connection, taking: Taking) -> bool:
    """Whether an index leads to the rows, or there is no other way. Raises apsw.Error, ProfileError."""
    bound = taking.search(0.0)
    with reading(connection, bound.fence):
        plan = connection.execute("EXPLAIN QUERY PLAN " + bound.sql, {**bound.values, "limit": 1}).fetchall()
    visits_all = any(str(row[3]) == f"SCAN {taking.spot.place.table}" for row in plan)
    return not visits_all or not has_row_numbers(connection, taking)


def rows_of(connection: apsw.Connection, bound: Bound, **given: Any) -> list[tuple[Any, ...]]:
    """All rows of a statement, behind its fence. Raises apsw.Error, ProfileError."""
    with reading(connection, bound.fence):
        return connection.execute(bound.sql, {**bound.values, **given}).fetchall()


def has_row_numbers(connection: apsw.Connection, taking: Taking) -> bool:
    """Whether it is an ordinary table (https://sqlite.org/withoutrowid.html)."""
    sql = "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?"
    return not connection.execute(sql, (taking.spot.place.table,)).get
