"""Reads the schema of a damaged database from its own b-tree, page 1, without SQLite."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from actions.salvaging.damaged_file import DamagedFile, FileLayout
from actions.salvaging.pages import INDEX_INTERIOR, INDEX_LEAF, TABLE_INTERIOR, TABLE_LEAF, declared_cells
from actions.salvaging.read_rows import read_any_page, read_page_rows
from actions.salvaging.records import RawText
from actions.salvaging.trees import walk_tree

SchemaKind = Literal["table", "index", "view", "trigger"]

SCHEMA_ROOT = 1


@dataclass(frozen=True, slots=True)
class SchemaEntry:
    """One row of the schema. `root`: the first page of its b-tree, 0 without one; `sql`: empty for an automatic index."""

    kind: SchemaKind
    name: str
    table: str
    root: int
    sql: str

    @property
    def is_virtual(self) -> bool:
        """Whether it is a virtual table, whose rows lie in other tables."""
        return self.kind == "table" and self.sql.lstrip().upper().startswith("CREATE VIRTUAL")


@dataclass(frozen=True, slots=True)
class DamagedSchema:
    """What is readable of the schema, in its order. `broken`: rows and branches of it that are not."""

    entries: tuple[SchemaEntry, ...]
    broken: int

    def tables(self) -> Iterator[SchemaEntry]:
        """The tables that have pages of their own."""
        return (entry for entry in self.entries if entry.kind == "table" and entry.root > 0)

    def indexes(self) -> Iterator[SchemaEntry]:
        """The indexes that have pages of their own."""
        return (entry for entry in self.entries if entry.kind == "index" and entry.root > 0)


def detect_encoding(file: DamagedFile) -> DamagedFile:
    """The same file with the text encoding that its schema is written in, which a damaged header may deny."""
    for encoding in dict.fromkeys((file.layout.encoding, "utf-8", "utf-16-le", "utf-16-be")):
        candidate = replace(file, layout=replace(file.layout, encoding=encoding))
        if next(_iterate_entries(candidate), None) is not None:
            return candidate
    return file


def read_schema(file: DamagedFile) -> DamagedSchema:
    """Read all of it that can be read. Raises OSError."""
    tree = walk_tree(file, SCHEMA_ROOT, table=True)
    entries: dict[str, SchemaEntry] = {}
    cells = 0
    for entry in _iterate_entries(file):
        entries.setdefault(entry.name.lower(), entry)
    for number in tree.slots:
        read = read_any_page(file, number) if number else None
        cells += 0 if read is None else declared_cells(read[0], number)
    return DamagedSchema(tuple(entries.values()), tree.missing + max(0, cells - len(entries)))


def _iterate_entries(file: DamagedFile) -> Iterator[SchemaEntry]:
    unclaimed = bytearray(file.layout.pages + 1)
    for number in walk_tree(file, SCHEMA_ROOT, table=True).slots:
        read = read_any_page(file, number) if number else None
        if read is None:
            continue
        for row in read_page_rows(file, number, read[0], unclaimed).rows:
            # Also a row whose record is not quite right: its statement is tried, and what is impossible is told.
            entry = _parse_entry(row.values, file.layout)
            if entry is not None:
                yield _with_real_root(file, entry)


def _parse_entry(values: tuple[object, ...], layout: FileLayout) -> SchemaEntry | None:
    if len(values) != 5:
        return None
    # A changed byte rarely matters to the statement: a type's name, a comment.
    readable = (v.decode(layout.encoding, "replace") if isinstance(v, RawText) else v for v in values)
    kind, name, table, root, sql = readable
    if kind not in ("table", "index", "view", "trigger") or not isinstance(name, str) or not isinstance(table, str):
        return None
    if (not isinstance(root, int) and root is not None) or not (sql is None or isinstance(sql, str)):
        return None
    page = root if isinstance(root, int) and 1 < root <= layout.pages else 0
    return SchemaEntry(kind, name, table, page, sql or "")


def _with_real_root(file: DamagedFile, entry: SchemaEntry) -> SchemaEntry:
    """Without its root where that page cannot be the root of such an object."""
    if entry.root == 0 or entry.kind not in ("table", "index"):
        return replace(entry, root=0)
    read = read_any_page(file, entry.root)
    if read is not None and entry.kind == "index" and read[1] not in (INDEX_LEAF, INDEX_INTERIOR):
        return replace(entry, root=0)
    return entry


def is_table_tree(file: DamagedFile, entry: SchemaEntry) -> bool:
    """Whether the tree of a table has rowids; one WITHOUT ROWID is built like an index."""
    read = read_any_page(file, entry.root)
    return read is None or read[1] in (TABLE_LEAF, TABLE_INTERIOR)
