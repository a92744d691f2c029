"""Reads what a database file holds, and proves that a backup holds what its source held.

integrity_check alone proves nothing about content: a half copy with its journal opens as a valid *empty* database
(docs/safety.md). So pages, schema and row counts are compared with what was read from the source's snapshot.
A backup is opened immutable: that leaves nothing beside the file and runs no recovery.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import apsw

from actions.backups.provable_check import check_provable, count_rows
from actions.backups.publish import final_name
from actions.model.errors import Unverified
from actions.sqlite.interrupt import interrupt_when
from collectors.access.connection import open_immutable

_NOT_PROVED_STEP = "take a new backup; keep this file for inspection"


@dataclass(frozen=True, slots=True)
class DatabaseShape:
    """What is read at once of a snapshot: its pages, the hash of its schema, how often that was changed (None: not read)."""

    page_size: int
    pages: int
    schema_sha256: str
    schema_version: int | None = None


@dataclass(frozen=True, slots=True)
class DatabaseContents:
    """What one snapshot holds: its pages, the hash of its schema, and `row_counts` by table name.

    `unchecked`: what only the application can judge, in words.
    """

    page_size: int
    pages: int
    schema_sha256: str
    row_counts: Mapping[str, int]
    unchecked: tuple[str, ...] = ()


def read_shape(connection: apsw.Connection) -> DatabaseShape:
    """Read the shape of the connection's snapshot. Raises apsw.Error."""
    schema = _read_schema(connection)
    # An empty file is a database without a page; its copy has one, with the header alone.
    pages, version = int(connection.pragma("page_count")) or 1, int(connection.pragma("schema_version"))
    return DatabaseShape(connection.pragma("page_size"), pages, _schema_hash(schema), version)


def read_contents(connection: apsw.Connection) -> DatabaseContents:
    """Read what the connection's snapshot holds. Raises apsw.Error."""
    schema = _read_schema(connection)
    tables = [str(row[1]) for row in schema if row[0] == "table" and not is_virtual_table(row[3])]
    return DatabaseContents(
        page_size=connection.pragma("page_size"),
        pages=connection.pragma("page_count"),
        schema_sha256=_schema_hash(schema),
        row_counts=dict(count_rows(connection, tables)),
    )


def prove_contents(path: Path, expected: DatabaseContents) -> None:
    """Raises Unverified unless the file is whole and holds what was expected."""
    shape = DatabaseShape(expected.page_size, expected.pages, expected.schema_sha256)
    actual = prove_whole_file(path, shape)
    for table, rows in expected.row_counts.items():
        if actual.row_counts.get(table) != rows:
            raise not_proved_error(path, f"table {table} has {actual.row_counts.get(table)} rows instead of {rows}")


def prove_whole_file(
    path: Path, expected: DatabaseShape, is_abandoned: Callable[[], bool] | None = None
) -> DatabaseContents:
    """Check a file that no process writes, and read what it holds. Raises Unverified unless it is whole, of this shape.

    It ends with apsw.InterruptError soon after `is_abandoned()`, which is asked in another thread. Its rows are counted beside
    the check: each reads the whole file.
    """
    try:
        with ThreadPoolExecutor(1) as beside:
            counted = beside.submit(_read_abandonable, path, is_abandoned)
            checked = check_provable(lambda: _open_abandonable(path, is_abandoned))
            actual = replace(counted.result(), unchecked=checked.unchecked)
    except apsw.InterruptError:
        raise
    except apsw.Error as error:
        raise DamagedContents(path, f"SQLite cannot read it: {error}") from error
    if checked.problems:
        raise DamagedContents(path, f"integrity_check says: {checked.problems[0]}")
    difference = _shape_difference(expected, actual) or _size_difference(path, expected)
    if difference:
        raise not_proved_error(path, difference)
    return actual


def _read_abandonable(path: Path, is_abandoned: Callable[[], bool] | None) -> DatabaseContents:
    with _open_abandonable(path, is_abandoned) as connection:
        return read_contents(connection)


@contextmanager
def _open_abandonable(path: Path, is_abandoned: Callable[[], bool] | None) -> Iterator[apsw.Connection]:
    with open_immutable(path) as connection, interrupt_when(connection, is_abandoned or bool):
        yield connection


def has_same_rows(path: Path, expected: DatabaseContents) -> bool:
    """Whether a file holds the expected schema and numbers of rows; its pages may differ."""
    with open_immutable(path) as connection:
        actual = read_contents(connection)
    return (actual.schema_sha256, actual.row_counts) == (expected.schema_sha256, expected.row_counts)


def file_sha256(path: Path) -> str:
    """The hash of a file that is not a live database: reading a live one would drop its locks in this process."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:  # of a read, which names no file
        raise OSError(error.errno, error.strerror, str(path)) from error


def _read_schema(connection: apsw.Connection) -> list[tuple[Any, ...]]:
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").fetchall()


def _schema_hash(schema: list[tuple[Any, ...]]) -> str:
    return hashlib.sha256(repr(schema).encode()).hexdigest()


def _shape_difference(expected: DatabaseShape, actual: DatabaseContents) -> str:
    if (expected.page_size, expected.pages) != (actual.page_size, actual.pages):
        return f"{actual.pages} pages of {actual.page_size} bytes instead of {expected.pages} of {expected.page_size}"
    return "its schema differs from the source's" if expected.schema_sha256 != actual.schema_sha256 else ""


def _size_difference(path: Path, expected: DatabaseShape) -> str:
    """SQLite ignores bytes beyond the last page; a file with such bytes was not written by us."""
    size, right_size = path.stat().st_size, expected.page_size * expected.pages
    return f"{size} bytes instead of {right_size}" if size != right_size else ""


class DamagedContents(Unverified):
    """A copy or a backup that SQLite finds damaged. `why`: in its words."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(_not_proved_words(path, why), reason="content", next_step=_NOT_PROVED_STEP)
        self.why = why


def not_proved_error(path: Path, why: str) -> Unverified:
    """The error of a copy or a backup that does not hold what it should."""
    return Unverified(_not_proved_words(path, why), reason="content", next_step=_NOT_PROVED_STEP)


def _not_proved_words(path: Path, why: str) -> str:
    """A partial file is gone when a person reads this: it is named as what it was to become."""
    return f"{final_name(path)} is not proved: {why}"


def is_virtual_table(sql: object) -> bool:
    """Whether the statement creates a virtual table: it may need an extension, and its rows are in shadow tables."""
    return isinstance(sql, str) and sql.lstrip().upper().startswith("CREATE VIRTUAL")
