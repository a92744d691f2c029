"""Creates the new database with the schema that is readable: tables first, the rest when the rows are in.

The statements come from the damaged file: they run behind an authorizer, which lets them create and nothing else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from actions.salvaging.damaged_file import FileLayout
from actions.salvaging.schema_rows import SchemaEntry
from collectors.queue_profiles.quoting import quote_identifier

_FORBIDDEN = frozenset(
    {
        apsw.SQLITE_ATTACH,
        apsw.SQLITE_DETACH,
        apsw.SQLITE_PRAGMA,
        apsw.SQLITE_TRANSACTION,
        apsw.SQLITE_SAVEPOINT,
        apsw.SQLITE_DROP_TABLE,
        apsw.SQLITE_DROP_INDEX,
        apsw.SQLITE_DROP_VIEW,
        apsw.SQLITE_DROP_TRIGGER,
        apsw.SQLITE_DROP_VTABLE,
        apsw.SQLITE_CREATE_VTABLE,
        apsw.SQLITE_DELETE,
        apsw.SQLITE_ALTER_TABLE,
    }
)
_AUTO_VACUUM = ("NONE", "FULL", "INCREMENTAL")


@contextmanager
def create_database(path: Path, layout: FileLayout) -> Iterator[apsw.Connection]:
    """Open the empty private file `path` as a new database with the settings of the damaged one. Raises apsw.Error.

    It is not synced, and no file appears beside it: the caller syncs and publishes it.
    """
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
        for statement in (
            "PRAGMA locking_mode=EXCLUSIVE",
            "PRAGMA journal_mode=MEMORY",
            "PRAGMA synchronous=OFF",
            "PRAGMA foreign_keys=OFF",
            "PRAGMA trusted_schema=OFF",
            "PRAGMA ignore_check_constraints=OFF",
            f"PRAGMA page_size={layout.page_size}",
            f"PRAGMA encoding='{layout.encoding.upper().replace('-LE', 'le').replace('-BE', 'be')}'",
            f"PRAGMA auto_vacuum={_AUTO_VACUUM[layout.auto_vacuum]}",
            f"PRAGMA user_version={layout.user_version}",
            f"PRAGMA application_id={layout.application_id}",
        ):
            connection.execute(statement).fetchall()
        yield connection
    finally:
        connection.close()


def keep_journal_mode(connection: apsw.Connection, layout: FileLayout) -> None:
    """Leave the database in the journal mode of the damaged one; the last thing that is done to it. Raises apsw.Error."""
    if layout.wal:
        connection.execute("PRAGMA journal_mode=WAL").fetchall()


def create_object(connection: apsw.Connection, entry: SchemaEntry) -> str:
    """Create a table, index, view or trigger as its schema row says; returns why it is impossible, empty when it is there."""
    try:
        with connection:
            connection.authorizer = _authorize_creation
            try:
                connection.execute(entry.sql).fetchall()
            finally:
                connection.authorizer = None
            if not _has_object(connection, entry):
                raise apsw.SQLError("its statement creates something else")
    except apsw.Error as error:
        return " ".join(str(error).split())
    return ""


def _has_object(connection: apsw.Connection, entry: SchemaEntry) -> bool:
    query = "SELECT count(*) FROM sqlite_schema WHERE type = ? AND name = ? COLLATE NOCASE"
    return bool(connection.execute(query, (entry.kind, entry.name)).get)


def add_virtual_table(connection: apsw.Connection, entry: SchemaEntry) -> None:
    """Enter a virtual table in the schema; its module, which may be missing here, is not asked. Raises apsw.Error."""
    connection.execute("PRAGMA writable_schema=ON").fetchall()
    try:
        connection.execute(
            "INSERT INTO sqlite_schema VALUES ('table', ?, ?, 0, ?)", (entry.name, entry.name, entry.sql)
        )
        version = int(connection.pragma("schema_version"))
        connection.execute(f"PRAGMA schema_version={version + 1}").fetchall()
    finally:
        connection.execute("PRAGMA writable_schema=OFF").fetchall()


def has_table(connection: apsw.Connection, name: str) -> bool:
    """Whether the new database has a table of this name."""
    return bool(connection.execute("SELECT count(*) FROM pragma_table_list WHERE name = ?", (name,)).get)


def unused_name(connection: apsw.Connection, wanted: str) -> str:
    """The wanted name for a table, with a number where the database has one of that name."""
    name, number = wanted, 0
    query = "SELECT count(*) FROM sqlite_schema WHERE name = ? COLLATE NOCASE"
    while connection.execute(query, (name,)).get:
        name, number = f"{wanted}_{number}", number + 1
    return name


def count_rows(connection: apsw.Connection, name: str) -> int:
    """The rows of a table. Raises apsw.Error."""
    return int(connection.execute(f"SELECT count(*) FROM {quote_identifier(name)}").get)  # noqa: S608 quoted


def _authorize_creation(
    operation: int, _first: str | None, _second: str | None, _database: str | None, _trigger: str | None
) -> int:
    return apsw.SQLITE_DENY if operation in _FORBIDDEN else apsw.SQLITE_OK
