"""Under the write lock rows are found by searches only: a scan of a large table would be the application's stall.

We create no index in an application's database; where one is missing we say which (docs/safety.md).
"""

from collections.abc import Iterable, Iterator

import apsw

from actions.model.errors import Refused
from collectors.queue_profiles.authorizer import allow_changes, read_schema_effects
from collectors.queue_profiles.quoting import quote_identifier
from collectors.queue_profiles.row_selection import RowSelection

# A scan of so many rows takes about as long as writing one page.
FEW_ROWS = 1000

# Tables with a foreign key to another one, and whether an index begins with the column that refers.
_REFERRING_TABLES = """
SELECT s.name, f."from", f."table", EXISTS (
  SELECT 1 FROM pragma_index_list(s.name) AS l, pragma_index_info(l.name) AS i
  WHERE i.seqno = 0 AND i.name = f."from" COLLATE NOCASE)
FROM sqlite_schema AS s, pragma_foreign_key_list(s.name) AS f
WHERE s.type = 'table' AND f.seq = 0
"""


def require_indexes(connection: apsw.Connection, takings: Iterable[RowSelection], *, foreign_keys: bool) -> None:
    """Raises Refused, naming the index that is missing; apsw.Error, ProfileError."""
    for taking in takings:
        unsearched = _unindexed_references(connection, taking) if foreign_keys else ()
        for table, column in (*_scanned_tables(connection, taking), *unsearched):
            if _has_many_rows(connection, table):
                raise Refused(
                    f"no index begins with {column} of {table}: every task would need a scan of the whole table while all "
                    "writers wait",
                    reason="no_index",
                    next_step=f"have the application create one: CREATE INDEX ... ON {quote_identifier(table)} ({quote_identifier(column)})",
                )


def _scanned_tables(connection: apsw.Connection, taking: RowSelection) -> Iterator[tuple[str, str]]:
    """Tables that a step's statements would scan, each with the column that an index should begin with."""
    own = read_schema_effects(connection)
    columns = {taking.context.table.name: taking.key.strip('"'), **dict(taking.dependents)}
    for step in taking.bind_row_steps(0.0):
        values = {**step.values, "key": None, "seen": None, "holder": None}
        with allow_changes(connection, step.access, own):
            plans = [connection.execute(f"EXPLAIN QUERY PLAN {one}", values).fetchall() for one in step.statements]
        lines = {str(row[3]) for plan in plans for row in plan}
        yield from ((table, column) for table, column in columns.items() if f"SCAN {table}" in lines)


def _unindexed_references(connection: apsw.Connection, taking: RowSelection) -> Iterator[tuple[str, str]]:
    """Tables that refer to the taken rows, and would be scanned to see whether they do."""
    table = taking.context.table.name.lower()
    for name, column, referred, searched in connection.execute(_REFERRING_TABLES).fetchall():
        if str(referred).lower() == table and not searched:
            yield str(name), str(column)


def _has_many_rows(connection: apsw.Connection, table: str) -> bool:
    sql = f"SELECT count(*) FROM (SELECT 1 FROM {quote_identifier(table)} LIMIT {FEW_ROWS + 1})"  # noqa: S608 quoted
    return int(connection.execute(sql).get) > FEW_ROWS
