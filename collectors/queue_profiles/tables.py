"""The tables of a database with their columns: what detection looks at."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import apsw


@dataclass(frozen=True, slots=True)
class DatabaseTable:
    """One ordinary table; `columns` in lower case. `counts_inserts`: AUTOINCREMENT, so its sequence never goes back."""

    name: str
    columns: frozenset[str]
    counts_inserts: bool


DatabaseTables = Mapping[str, DatabaseTable]  # by name in lower case, as SQLite compares names


def read_tables(database: apsw.Connection) -> DatabaseTables:
    """Every ordinary table. Raises apsw.Error.

    One statement. Views are no queues; a virtual table (root page 0) may need a module that only the application has.
    """
    rows = database.execute(
        "SELECT s.name, s.sql, c.name FROM sqlite_schema AS s JOIN pragma_table_xinfo(s.name) AS c "
        "WHERE s.type = 'table' AND s.rootpage > 0 AND s.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ).fetchall()
    columns: dict[str, set[str]] = {}
    counting: dict[str, bool] = {}
    for table, sql, column in rows:
        columns.setdefault(str(table), set()).add(str(column).lower())
        counting[str(table)] = re.search(r"\bAUTOINCREMENT\b", str(sql), re.IGNORECASE) is not None
    return {name.lower(): DatabaseTable(name, frozenset(have), counting[name]) for name, have in columns.items()}
