"""The two halves of a requeue or purge, apart, so that a test can do something in between."""

from collections import Counter, deque
from collections.abc import Iterable

import apsw

from actions.batches.apply_rows import Taken
from actions.batches.apply_rows import take as take_rows
from actions.batches.select_rows import Found, rows_of
from collectors.queue_profiles.row_changes import To
from collectors.queue_profiles.row_selection import Taking

Looked = list[tuple[Taking, list[Found]]]


def look(
    connection: apsw.Connection,
    takings: Iterable[Taking],
    now: float,
    older_than: float | None = None,
    limit: int = 100,
) -> Looked:
    """What would be taken, table after table."""
    return [(taking, rows_of(connection, taking.search(now, older_than), limit=limit)) for taking in takings]


def take(connection: apsw.Connection, looked: Looked, now: float, older_than: float | None = None) -> Counter[To]:
    """Take it, in the caller's transaction; how many rows went where."""
    taken = Taken()
    for taking, found in looked:
        take_rows(connection, taking.steps(now, older_than), deque(found), taken)
    return taken.to
