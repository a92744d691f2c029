"""Requires an index for every search under the write lock: a scan of a large table there would stall the application.

We create no index in an application's database; the message names the one that is missing (docs/safety.md).
"""

from collections.abc import Iterable, Iterator

import apsw

from actions.model.errors import Refused
from collectors.queue_profiles.authorizer import allow_changes, read_schema_effects
from collectors.queue_profiles.quoting import quote_identifier
from collectors.queue_profiles.row_selection import RowSelection

# A scan of so many rows takes about as long as writing one page.
FEW_ROWS = 1000

# Tables with a foreign key to another one, and whether an index begins with the referring column.
_REFERRING_TABLES = """
SELECT s.name, f."from", f."table", EXISTS (
  SELECT 1 FROM pragma_index_list(s.name) AS l, pragma_index_info(l.name) AS i
  WHERE i.seqno = 0 AND i.name = f."from" COLLATE NOCASE)
FROM sqlite_schema AS s, pragma_foreign_key_list(s.name) AS f
WHERE s.type = 'table' AND f.seq = 0
"""


def require_indexes(connection: apsw.Connection, selections: Iterable[RowSelection], *, foreign_keys: bool) -> None:
    """Raises Refused with the name of the missing index; apsw.Error, ProfileError."""
    for selection in selections:
        references = _unindexed_references(connection, selection) if foreign_keys else ()
        for table, column in (*_scanned_tables(connection, selection), *references):
            if _has_many_rows(connection, table):
                raise Refused(
                    f"no index begins with {column} of {table}: every task would need a scan of the whole table while all "
                    "writers wait",
                    reason="no_index",
                    next_step="have the application create one: "
                    f"CREATE INDEX ... ON {quote_identifier(table)} ({quote_identifier(column)})",
                )


def _scanned_tables(connection: apsw.Connection, selection: RowSelection) -> Iterator[tuple[str, str]]:
    """Tables that a step's statements would scan, each with the column that an index should begin with."""
    effects = read_schema_effects(connection)
    columns = {selection.table_name: selection.key.strip('"'), **dict(selection.dependents)}
    for step in selection.bind_row_steps(0.0):
        values = {**step.values, "key": None, "seen": None, "holder": None}
        with allow_changes(connection, step.access, effects):
            plans = [connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall() for sql in step.statements]
        lines = {str(row[3]) for plan in plans for row in plan}
        yield from ((table, column) for table, column in columns.items() if f"SCAN {table}" in lines)


def _unindexed_references(connection: apsw.Connection, selection: RowSelection) -> Iterator[tuple[str, str]]:
    """Tables with a foreign key to the deleted rows that SQLite would scan for referring rows."""
    table = selection.table_name.lower()
    for name, column, parent, is_indexed in connection.execute(_REFERRING_TABLES).fetchall():
        if str(parent).lower() == table and not is_indexed:
            yield str(name), str(column)


def _has_many_rows(connection: apsw.Connection, table: str) -> bool:
    sql = f"SELECT count(*) FROM (SELECT 1 FROM {quote_identifier(table)} LIMIT {FEW_ROWS + 1})"  # noqa: S608 quoted
    return int(connection.execute(sql).get) > FEW_ROWS
