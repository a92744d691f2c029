"""Under the write lock rows are found by searches only: a scan of a large table would be the application's stall.

We create no index in an application's database; where one is missing we say which (docs/safety.md).
"""

from collections.abc import Iterable, Iterator

import apsw

from actions.backups.content_proof import quoted
from actions.model.errors import Refused
from collectors.queue_profiles.authorizer import changing, own_rules
from collectors.queue_profiles.row_selection import Taking

# A scan of so many rows takes about as long as writing one page.
FEW_ROWS = 1000

# Tables with a foreign key to another one, and whether an index begins with the column that refers.
_REFERRING = """
SELECT s.name, f."from", f."table", EXISTS (
  SELECT 1 FROM pragma_index_list(s.name) AS l, pragma_index_info(l.name) AS i
  WHERE i.seqno = 0 AND i.name = f."from" COLLATE NOCASE)
FROM sqlite_schema AS s, pragma_foreign_key_list(s.name) AS f
WHERE s.type = 'table' AND f.seq = 0
"""


def check_searches(connection: apsw.Connection, takings: Iterable[Taking], *, foreign_keys: bool) -> None:
    """Raises Refused, naming the index that is missing; apsw.Error, ProfileError."""
    for taking in takings:
        unsearched = _unsearched(connection, taking) if foreign_keys else ()
        for table, column in (*_scanned(connection, taking), *unsearched):
            if _has_many(connection, table):
                raise Refused(
                    f"no index begins with {column} of {table}: every task would need a scan of the whole table while all "
                    "writers wait",
                    reason="no_index",
                    next_step=f"have the application create one: CREATE INDEX ... ON {quoted(table)} ({quoted(column)})",
                )


def _scanned(connection: apsw.Connection, taking: Taking) -> Iterator[tuple[str, str]]:
    """Tables that a step's statements would scan, each with the column that an index should begin with."""
    own = own_rules(connection)
    columns = {taking.spot.place.table: taking.key.strip('"'), **dict(taking.along)}
    for step in taking.steps(0.0):
        values = {**step.values, "key": None, "seen": None, "holder": None}
        with changing(connection, step.fence, own):
            plans = [connection.execute(f"EXPLAIN QUERY PLAN {one}", values).fetchall() for one in step.statements]
        lines = {str(row[3]) for plan in plans for row in plan}
        yield from ((table, column) for table, column in columns.items() if f"SCAN {table}" in lines)


def _unsearched(connection: apsw.Connection, taking: Taking) -> Iterator[tuple[str, str]]:
    """Tables that refer to the taken rows, and would be scanned to see whether they do."""
    table = taking.spot.place.table.lower()
    for name, column, referred, searched in connection.execute(_REFERRING).fetchall():
        if str(referred).lower() == table and not searched:
            yield str(name), str(column)


def _has_many(connection: apsw.Connection, table: str) -> bool:
    sql = f"SELECT count(*) FROM (SELECT 1 FROM {quoted(table)} LIMIT {FEW_ROWS + 1})"  # noqa: S608 quoted
    return int(connection.execute(sql).get) > FEW_ROWS
