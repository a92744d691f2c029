"""Reads what a database holds now, at the cost of at most _ROWS_OF_ALL rows of all tables, and what a backup of it held."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import apsw

from collectors.backup_catalog.catalog import Backup
from collectors.backup_catalog.manifest import Manifest
from collectors.content_loss.judge import COUNTED_ROWS, ContentFacts
from collectors.content_loss.memory import ContentMemory
from collectors.queue_profiles.compile import CompiledProfile
from collectors.queue_profiles.quoting import quote_identifier

# One statement reads so many tables: a read lock of a rollback journal is never held between two statements.
_TABLES_AT_ONCE = 100
# All tables together: each row may lie on a page of its own, and a poll of many wide tables has no more time than of a few.
_ROWS_OF_ALL = 2000
# What a manifest says where a person accepted a content that lacked nothing.
NOTHING_LOST = "nothing was lost"
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


def accept_backups(memory: ContentMemory, backups: Iterable[Backup]) -> ContentMemory:
    """The memory after the backups that a person took with the word that their content is right.

    What is older than they are counts no longer. The tables whose emptiness was accepted may be empty again: the queue of
    an application without a profile is every night, and a word that had to be repeated then would soon be given unread.
    Another database's backups in the same folder, unverified here, say nothing.
    """
    own = [backup.manifest for backup in backups if backup.manifest is not None and backup.state != "unverified"]
    accepted = [manifest for manifest in own if manifest.accepted_loss]
    empty = {
        table.lower()
        for manifest in accepted
        if manifest.accepted_loss != NOTHING_LOST
        for table, rows in manifest.row_counts.items()
        if rows == 0
    }
    return replace(
        memory,
        accepted_at=max((memory.accepted_at, *(manifest.snapshot_time for manifest in accepted))),
        may_drain=memory.may_drain | empty,
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
    """Each table with its rows, counted to COUNTED_ROWS. One with more than may be read here counts as full, as does one
    that cannot be read.
    """
    limit = max(1, min(COUNTED_ROWS, _ROWS_OF_ALL // max(1, len(tables))))
    for start in range(0, len(tables), _TABLES_AT_ONCE):
        part = tables[start : start + _TABLES_AT_ONCE]
        try:
            select = ", ".join(_bounded_count(table, limit) for table in part)
            counts = connection.execute(f"SELECT {select}").fetchall()[0]
            yield from zip(part, (_full_at(limit, int(str(count))) for count in counts), strict=True)
        except apsw.SQLError:  # a function or collation of the application, in one of them
            yield from ((table, _count_alone(connection, table, limit)) for table in part)


def _count_alone(connection: apsw.Connection, table: str, limit: int) -> int:
    try:
        return _full_at(limit, int(str(connection.execute(f"SELECT {_bounded_count(table, limit)}").get)))
    except apsw.SQLError:
        return COUNTED_ROWS


def _full_at(limit: int, count: int) -> int:
    return COUNTED_ROWS if count >= limit else count


def _bounded_count(table: str, limit: int) -> str:
    """A scalar subquery. NOT INDEXED: an index may need a collation that only the application has."""
    return f"(SELECT count(*) FROM (SELECT 1 FROM {quote_identifier(table)} NOT INDEXED LIMIT {limit}))"  # noqa: S608


def _is_virtual(sql: object) -> bool:
    return isinstance(sql, str) and sql.lstrip().upper().startswith("CREATE VIRTUAL")


def _is_internal(table: str) -> bool:
    return table.lower().startswith("sqlite_")
