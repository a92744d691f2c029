"""The two halves of a requeue or purge as separate functions, so that a test can do something in between."""

from collections import Counter, deque
from collections.abc import Iterable

import apsw

from actions.batches.apply_rows import AppliedRows, apply_steps
from actions.batches.select_rows import SelectedRow, fetch_rows
from collectors.queue_profiles.row_changes import RowDestination
from collectors.queue_profiles.row_selection import RowSelection

SelectedRows = list[tuple[RowSelection, list[SelectedRow]]]


def select_all(
    connection: apsw.Connection,
    selections: Iterable[RowSelection],
    now: float,
    older_than: float | None = None,
    limit: int = 100,
) -> SelectedRows:
    """Select the rows that would be changed, table after table."""
    return [
        (selection, fetch_rows(connection, selection.search_statement(now, older_than), limit=limit))
        for selection in selections
    ]


def apply_all(
    connection: apsw.Connection, selected: SelectedRows, now: float, older_than: float | None = None
) -> Counter[RowDestination]:
    """Apply the steps in the caller's transaction; returns how many rows went where."""
    applied = AppliedRows()
    for selection, rows in selected:
        apply_steps(connection, selection.bind_row_steps(now, older_than), deque(rows), applied)
    return applied.destinations
