"""The table for rows that cannot be given back to a table of their own; named as in SQLite's own recovery.

`rootpgno`: the first page of the tree they were in, `pgno`: their page, `free`: 1 where that page was on the free list
(rows that were deleted), `nfield`: how many values, `id`: the rowid, `c0` and so on: the values.
"""

from dataclasses import dataclass, field

import apsw

from actions.salvaging.new_database import unused_name
from actions.salvaging.read_rows import SalvagedRow
from actions.salvaging.records import RawText
from collectors.queue_profiles.quoting import quote_identifier

# A record with more values than a table may have columns is no row; the first five columns are ours.
MAX_VALUES = 1990
_FIRST_COLUMNS = ("rootpgno", "pgno", "free", "nfield", "id")


@dataclass(slots=True)
class LostAndFound:
    """Keeps rows apart in the new database; the table is created with the first one and widened when a row needs it."""

    connection: apsw.Connection
    name: str = ""
    width: int = 0
    rows: int = 0
    free_rows: int = 0
    by_root: dict[int, int] = field(default_factory=dict)

    def keep_apart(self, row: SalvagedRow, *, root: int, page: int, free: bool = False) -> None:
        """Keep one row apart. Raises apsw.Error."""
        if len(row.values) > MAX_VALUES:
            return
        self._make_room(len(row.values))
        places = ", ".join("CAST(? AS TEXT)" if isinstance(value, RawText) else "?" for value in row.values)
        columns = ", ".join((*_FIRST_COLUMNS, *(f"c{index}" for index in range(len(row.values)))))
        self.connection.execute(
            f"INSERT INTO {quote_identifier(self.name)} ({columns}) VALUES (?, ?, ?, ?, ?, {places})",  # noqa: S608 ours
            (root, page, int(free), len(row.values), row.rowid, *row.values),
        )
        self.rows += 1
        self.free_rows += free
        self.by_root[root] = self.by_root.get(root, 0) + 1

    def _make_room(self, width: int) -> None:
        if not self.name:
            self.name = unused_name(self.connection, "lost_and_found")
            self.connection.execute(
                f"CREATE TABLE {quote_identifier(self.name)}"
                "(rootpgno INTEGER, pgno INTEGER, free INTEGER, nfield INTEGER, id INTEGER)"
            )
        while self.width < width:
            self.connection.execute(f"ALTER TABLE {quote_identifier(self.name)} ADD COLUMN c{self.width}")
            self.width += 1
