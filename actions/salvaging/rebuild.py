"""Builds the new database from a damaged one: tables, rows, what belongs to no table, then indexes, triggers and views."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import apsw

from actions.salvaging.bring_over import TableCount, TableSource, bring_rows_over
from actions.salvaging.contested_pages import refuse_false_claims
from actions.salvaging.damaged_file import DamagedFile
from actions.salvaging.free_list import read_free_pages
from actions.salvaging.index_evidence import find_doubtful_keys, is_foreign_tree
from actions.salvaging.lost_and_found import LostAndFound
from actions.salvaging.new_database import (
    add_virtual_table,
    create_database,
    create_object,
    has_table,
    keep_journal_mode,
)
from actions.salvaging.orphan_pages import keep_orphans_apart
from actions.salvaging.schema_rows import SCHEMA_ROOT, DamagedSchema, SchemaEntry, is_table_tree, read_schema
from actions.salvaging.sequences import restore_sequences
from actions.salvaging.table_report import TableReport, describe_damage, report_table, whole_indexes
from actions.salvaging.table_shape import read_table_shape
from actions.salvaging.trees import Forest, WalkedTree, walk_trees

# Pages between two commits into the new file.
_PAGES_A_COMMIT = 500

Pause = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was built. `problems`: what of the schema is not there, and why; `schema_broken`: its unreadable rows.

    `apart`: rows in the table `apart_table`, of which `free_rows` lay on free pages.
    """

    tables: tuple[TableReport, ...]
    problems: tuple[str, ...]
    damage: tuple[str, ...]
    schema_broken: int
    apart: int
    free_rows: int
    apart_table: str


def rebuild_database(file: DamagedFile, path: Path, pause: Pause) -> Rebuilt:
    """Build it in the empty private file `path`. `pause` is called with the number of pages done so far; it may raise.

    Raises apsw.Error, OSError.
    """
    schema = read_schema(file)
    forest = walk_trees(file, _tree_roots(file, schema))
    with create_database(path, file.layout) as connection:
        problems = dict(_create_tables(connection, schema))
        sources = _table_sources(connection, file, schema, forest)
        apart = LostAndFound(connection)
        pages = _Progress(connection, pause)
        reports = list(_bring_tables_over(connection, schema, sources, forest, apart, pages))
        unused = _unused_trees(schema, sources)
        complete = not schema.broken and not unused and all(table.is_complete for table in reports)
        for _ in keep_orphans_apart(file, forest, unused, apart, complete=complete):
            pages.advance()
        pages.commit()
        reports.extend(_report_missing_tables(schema, apart, problems))
        problems.update(_create_the_rest(connection, schema))
        keep_journal_mode(connection, file.layout)
    damage = tuple(describe_damage(file, schema.broken))
    words = tuple(f"{name}: {why}" for name, why in problems.items())
    return Rebuilt(tuple(reports), words, damage, schema.broken, apart.rows, apart.free_rows, apart.name)


@dataclass(slots=True)
class _Progress:
    """Counts pages, commits now and then, and lets the caller stop the work there."""

    connection: apsw.Connection
    pause: Pause
    pages: int = 0

    def begin(self) -> None:
        if not self.connection.in_transaction:
            self.connection.execute("BEGIN")

    def commit(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("COMMIT")

    def advance(self) -> None:
        self.pages += 1
        if self.pages % _PAGES_A_COMMIT == 0:
            self.commit()
            self.pause(self.pages)
        self.begin()


def _tree_roots(file: DamagedFile, schema: DamagedSchema) -> Mapping[int, bool]:
    roots = {SCHEMA_ROOT: True}
    for entry in schema.tables():
        roots.setdefault(entry.root, is_table_tree(file, entry))
    for entry in schema.indexes():
        roots.setdefault(entry.root, False)
    return roots


def _create_tables(connection: apsw.Connection, schema: DamagedSchema) -> Iterator[tuple[str, str]]:
    """Create the tables, and the unique indexes that their rows must fit; yields what is impossible, and why."""
    for entry in schema.entries:
        if entry.kind == "table" and entry.sql and not entry.is_virtual and not _is_internal(entry.name):
            why = create_object(connection, entry)
            if why:
                yield f"table {entry.name}", why
    if any(entry.name.lower().startswith("sqlite_stat") for entry in schema.tables()):
        connection.execute("ANALYZE sqlite_schema").fetchall()
    for entry in schema.entries:
        if _is_unique_index(entry) and has_table(connection, entry.table):
            why = create_object(connection, entry)
            if why:
                yield f"index {entry.name}", why


def _is_unique_index(entry: SchemaEntry) -> bool:
    return entry.kind == "index" and entry.sql.upper().split()[:2] == ["CREATE", "UNIQUE"]


def _is_sequence(name: str) -> bool:
    return name.lower() == "sqlite_sequence"


def _is_internal(name: str) -> bool:
    """Whether SQLite makes this table itself: sqlite_sequence, sqlite_stat1."""
    return name.lower().startswith("sqlite_")


def _table_sources(
    connection: apsw.Connection, file: DamagedFile, schema: DamagedSchema, forest: Forest
) -> Mapping[str, TableSource]:
    """The tables of the new database with the trees of their rows. Raises apsw.Error, OSError."""
    sources = {}
    for entry in schema.tables():
        if has_table(connection, entry.name):
            shape = read_table_shape(connection, entry.name)
            if shape.with_rowid == is_table_tree(file, entry):
                sources[entry.name] = TableSource(file, forest.trees[entry.root], shape, forest.claimed, frozenset())
    refused = _refused_pages(file, sources, forest)
    placed = {name: replace(source, refused=refused[name]) for name, source in sources.items()}
    return {name: _ask_indexes(source, whole_indexes(schema, forest, name)) for name, source in placed.items()}


def _ask_indexes(source: TableSource, indexes: Mapping[str, WalkedTree]) -> TableSource:
    """The same source without the rows that the table's whole indexes show to be none of it. Raises OSError."""
    if not source.shape.with_rowid or not indexes:
        return source
    trees = tuple(indexes.values())
    if is_foreign_tree(source, trees):
        return replace(source, refused=frozenset(source.tree.slots))
    return replace(source, doubtful=find_doubtful_keys(source, trees))


def _refused_pages(
    file: DamagedFile, sources: Mapping[str, TableSource], forest: Forest
) -> Mapping[str, frozenset[int]]:
    """The pages that a table does not get: those of another table, and those on a free list that is whole."""
    free, list_whole = read_free_pages(file)
    by_root: dict[int, TableSource] = {}
    shared: set[int] = set()
    for source in sources.values():
        if source.tree.root in by_root:
            shared.add(source.tree.root)
        by_root[source.tree.root] = source
    false_claims = refuse_false_claims(by_root, forest)
    refused = {}
    for name, source in sources.items():
        pages = false_claims[source.tree.root] | (free if list_whole else frozenset())
        refused[name] = pages | frozenset(source.tree.slots) if source.tree.root in shared else pages
    return refused


def _bring_tables_over(
    connection: apsw.Connection,
    schema: DamagedSchema,
    sources: Mapping[str, TableSource],
    forest: Forest,
    apart: LostAndFound,
    pages: _Progress,
) -> Iterator[TableReport]:
    for name in sorted(sources, key=_is_sequence):
        source = sources[name]
        pages.begin()
        count = TableCount()
        if _is_sequence(name):
            restore_sequences(connection, source)
            continue
        for _ in bring_rows_over(connection, source, apart, count):
            pages.advance()
        pages.commit()
        if not _is_internal(name):
            yield report_table(source.file, schema, forest, name, source.tree, count)


def _report_missing_tables(
    schema: DamagedSchema, apart: LostAndFound, problems: Mapping[str, str]
) -> Iterator[TableReport]:
    """The tables that could not be created again: their rows are apart."""
    for entry in schema.tables():
        if (why := problems.get(f"table {entry.name}")) is not None:
            yield TableReport(entry.name, 0, 0, False, "", apart.by_root.get(entry.root, 0), problem=why)


def _unused_trees(schema: DamagedSchema, sources: Mapping[str, TableSource]) -> frozenset[int]:
    """The roots of tables that are not in the new database, so that their rows are kept apart."""
    used = {source.tree.root for source in sources.values()}
    return frozenset(entry.root for entry in schema.tables() if entry.root not in used)


def _create_the_rest(connection: apsw.Connection, schema: DamagedSchema) -> Iterator[tuple[str, str]]:
    """Virtual tables, indexes, then views and triggers; yields what is impossible, and why."""
    for entry in schema.entries:
        if entry.is_virtual:
            add_virtual_table(connection, entry)
    for kind in ("index", "view", "trigger"):
        for entry in schema.entries:
            if entry.kind == kind and entry.sql and not _is_unique_index(entry):
                why = create_object(connection, entry)
                if why:
                    yield f"{kind} {entry.name}", why
