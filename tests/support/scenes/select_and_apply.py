"""The two halves of a requeue or purge, apart, so that a test can do something in between."""

from collections import Counter, deque
from collections.abc import Iterable

import apsw

from actions.batches.apply_rows import AppliedRows
from actions.batches.apply_rows import apply_steps as take_rows
from actions.batches.select_rows import SelectedRow, fetch_rows
from collectors.queue_profiles.row_changes import RowDestination
from collectors.queue_profiles.row_selection import RowSelection

Looked = list[tuple[RowSelection, list[SelectedRow]]]


def look(
    connection: apsw.Connection,
    takings: Iterable[RowSelection],
    now: float,
    older_than: float | None = None,
    limit: int = 100,
) -> Looked:
    """What would be taken, table after table."""
    return [
        (taking, fetch_rows(connection, taking.search_statement(now, older_than), limit=limit)) for taking in takings
    ]


def take(
    connection: apsw.Connection, looked: Looked, now: float, older_than: float | None = None
) -> Counter[RowDestination]:
    """Take it, in the caller's transaction; how many rows went where."""
    taken = AppliedRows()
    for taking, found in looked:
        take_rows(connection, taking.bind_row_steps(now, older_than), deque(found), taken)
    return taken.destinations
