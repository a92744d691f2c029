"""Reads what a database holds now, at the cost of at most COUNTED_ROWS rows of each table, and what a backup of it held."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apsw

from collectors.backup_catalog.manifest import Manifest
from collectors.content_loss.judge import COUNTED_ROWS, ContentFacts
from collectors.queue_profiles.compile import CompiledProfile
from collectors.queue_profiles.quoting import quote_identifier

# One statement reads so many tables: a read lock of a rollback journal is never held between two statements.
_TABLES_AT_ONCE = 100
_SEQUENCES = "SELECT name, seq FROM sqlite_sequence WHERE typeof(seq) = 'integer'"
# Shadow tables belong to a virtual one, which merges and splits their rows as it likes.
_SHADOWS = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'shadow'"


def read_content_facts(
    connection: apsw.Connection, schema: Iterable[tuple[Any, ...]], profile: CompiledProfile | None, now: float
) -> ContentFacts:
    """What the database holds. `schema`: its rows of sqlite_schema; `now`: seconds since the epoch. Raises apsw.Error."""
    entries = [row for row in schema if len(row) == 4]
    virtual = any(_is_virtual(row[3]) for row in entries)
    shadows = {str(name) for (name,) in connection.execute(_SHADOWS)} if virtual else set()
    tables = [name for name in plain_tables(entries) if name not in shadows]
    return ContentFacts(
        time=now,
        rows=dict(_count_rows(connection, tables)),
        numbers=read_last_sequences(connection, entries),
        draining=frozenset() if profile is None else profile.tables & {name.lower() for name in tables},
        pages=int(connection.pragma("page_count")),
        schema_version=int(connection.pragma("schema_version")),
        shrinks_itself=bool(connection.pragma("auto_vacuum")),
    )


def facts_of_manifest(manifest: Manifest) -> ContentFacts:
    """What the backup held when it was taken; its manifest has exact numbers."""
    return ContentFacts(
        time=manifest.snapshot_time,
        rows={table: rows for table, rows in manifest.row_counts.items() if not _is_internal(table)},
        numbers=manifest.last_numbers or {},
        pages=manifest.pages,
        schema_version=manifest.schema_version,
        shrinks_itself=bool(manifest.auto_vacuum),
        exact=True,
    )


def plain_tables(entries: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    """The tables of these rows of the schema that are neither virtual nor SQLite's own."""
    for kind, name, _table, sql in entries:
        if kind == "table" and not _is_virtual(sql) and not _is_internal(str(name)):
            yield str(name)


def read_last_sequences(connection: apsw.Connection, entries: Iterable[tuple[Any, ...]]) -> Mapping[str, int]:
    """The last number of each AUTOINCREMENT table. Raises apsw.Error."""
    if not any(row[1] == "sqlite_sequence" for row in entries):
        return {}
    return {str(table): int(last) for table, last in connection.execute(_SEQUENCES)}


def _count_rows(connection: apsw.Connection, tables: list[str]) -> Iterator[tuple[str, int]]:
    """Each table with its rows, counted to COUNTED_ROWS. A table that cannot be read here counts as full."""
    for start in range(0, len(tables), _TABLES_AT_ONCE):
        part = tables[start : start + _TABLES_AT_ONCE]
        try:
            counts = connection.execute(f"SELECT {', '.join(map(_bounded_count, part))}").fetchall()[0]
            yield from zip(part, (int(str(count)) for count in counts), strict=True)
        except apsw.SQLError:  # a function or collation of the application, in one of them
            yield from ((table, _count_alone(connection, table)) for table in part)


def _count_alone(connection: apsw.Connection, table: str) -> int:
    try:
        return int(str(connection.execute(f"SELECT {_bounded_count(table)}").get))
    except apsw.SQLError:
        return COUNTED_ROWS


def _bounded_count(table: str) -> str:
    """A scalar subquery. NOT INDEXED: an index may need a collation that only the application has."""
    return f"(SELECT count(*) FROM (SELECT 1 FROM {quote_identifier(table)} NOT INDEXED LIMIT {COUNTED_ROWS}))"  # noqa: S608


def _is_virtual(sql: object) -> bool:
    return isinstance(sql, str) and sql.lstrip().upper().startswith("CREATE VIRTUAL")


def _is_internal(table: str) -> bool:
    return table.lower().startswith("sqlite_")
