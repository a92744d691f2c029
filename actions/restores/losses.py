"""Names the rows that a restore over a live database would lose, before it runs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import apsw

from actions.backups.content_proof import is_virtual_table
from actions.backups.provable_check import stand_in_for_extensions
from collectors.queue_profiles.quoting import quote_identifier

SHOWN_ROWS = 5


@dataclass(frozen=True, slots=True)
class TableLoss:
    """The difference in one table. `newer`: rows beyond the backup's last one; `shown`: the first of their rowids."""

    table: str
    rows_now: int
    rows_in_backup: int
    newer: int
    shown: tuple[int, ...]

    def as_sentence(self) -> str:
        """The loss in one line for people."""
        which = (
            f", of them {self.newer} newer than the backup (rows {', '.join(map(str, self.shown))}"
            if self.newer
            else ""
        )
        more = ", ..." if self.newer > len(self.shown) else ""
        end = f"{more})" if self.newer else ""
        return f"{self.table}: {self.rows_now} rows now, {self.rows_in_backup} in the backup{which}{end}"


def find_table_losses(live: apsw.Connection, backup: apsw.Connection, counts: Mapping[str, int]) -> Iterator[TableLoss]:
    """Compare each table: those that differ in number of rows or have rows beyond the backup's last. Raises apsw.Error.

    A row that only *changed* since the snapshot is not counted here: its change is lost too, and the plan says so.
    """
    for connection in (live, backup):
        stand_in_for_extensions(connection)  # rows are counted here, and only rowids are compared
    tables = live.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").fetchall()
    names = [str(name) for name, sql in tables if not is_virtual_table(sql)]
    for name in names:
        if name.startswith("sqlite_"):
            continue
        now = _query_integer(live, f"SELECT count(*) FROM {quote_identifier(name)}")  # noqa: S608 quoted
        last = _largest_rowid(backup, name) if name in counts else 0
        newer, shown = (0, ()) if last is None else _rows_beyond(live, name, last)
        if newer or now != counts.get(name, 0):
            yield TableLoss(name, now, counts.get(name, 0), newer, shown)


def _largest_rowid(backup: apsw.Connection, table: str) -> int | None:
    """The largest rowid, 0 of an empty table; None for a table without rowids."""
    try:
        rowid = rowid_name(backup, table)
        return _query_integer(backup, f"SELECT coalesce(max({rowid}), 0) FROM {quote_identifier(table)}")  # noqa: S608 quoted
    except apsw.SQLError:
        return None


def _rows_beyond(live: apsw.Connection, table: str, last: int) -> tuple[int, tuple[int, ...]]:
    try:
        rowid, quoted = rowid_name(live, table), quote_identifier(table)
        newer = _query_integer(live, f"SELECT count(*) FROM {quoted} WHERE {rowid} > {last}")  # noqa: S608 quoted, a number
        sql = f"SELECT {rowid} FROM {quoted} WHERE {rowid} > ? ORDER BY {rowid} LIMIT ?"  # noqa: S608 quoted
        first = live.execute(sql, (last, SHOWN_ROWS))
        return newer, tuple(int(str(row[0])) for row in first.fetchall())
    except apsw.SQLError:
        return 0, ()


def rowid_name(connection: apsw.Connection, table: str) -> str:
    """The name by which the rowid of this table is meant: a column of the user's may be called rowid, oid or _rowid_.

    Where all three are columns, one that is no name at all, so that a statement with it fails (https://sqlite.org/lang_createtable.html#rowid).
    """
    columns = {str(name).lower() for (name,) in connection.execute("SELECT name FROM pragma_table_xinfo(?)", (table,))}
    return next((name for name in ("rowid", "_rowid_", "oid") if name not in columns), '"no rowid"."of it"')


def _query_integer(connection: apsw.Connection, sql: str) -> int:
    return int(str(connection.execute(sql).get))
