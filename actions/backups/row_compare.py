"""Compares the rows on chosen pages of a copy with the same rows as SQLite reads them in the pinned transaction.

The files' bytes alone cannot tell which commit SQLite reads: its own reading can, and here it costs as much as the WAL holds.
An index says nothing of its own: integrity_check holds it against the rows. What has no rowid, or lies on an overflow page
whose row's own page is not among the chosen, is not compared here: the caller is told its pages.
"""

import marshal
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import apsw

from actions.backups.btree_pages import (
    CopiedPages,
    KeyRange,
    MalformedTree,
    find_index_pages,
    find_table_pages,
    find_unused_pages,
    is_table_root,
)
from actions.backups.content_proof import not_proved_error
from actions.backups.snapshot_pin import SnapshotPin
from actions.model.context import ActionContext
from actions.sqlite.wal_budget import check_wal_growth
from collectors.access.connection import open_immutable
from collectors.queue_profiles.quoting import quote_identifier

_ROWS_PER_CHECK = 200
_ROWID_NAMES = ("_rowid_", "rowid", "oid")
_HIDDEN_VIRTUAL, _GENERATED_VIRTUAL = 1, 2


@dataclass(frozen=True, slots=True)
class _Tree:
    """A b-tree of the schema: `table` is empty for an index."""

    table: str
    root: int


@dataclass(frozen=True, slots=True)
class _Comparison:
    context: ActionContext
    pin: SnapshotPin
    copy: apsw.Connection
    destination: Path


class _RowidHidden(Exception):
    """Columns of the application have all the names that the rowid could be read by."""


def compare_rows(context: ActionContext, pin: SnapshotPin, destination: Path, wanted: set[int]) -> set[int]:
    """Compare what the wanted pages hold; returns those of them that were not compared.

    Raises Unverified when a row differs or the copy's pages are no trees, ActionError, apsw.Error, OSError.
    """
    descriptor = os.open(destination, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pages = CopiedPages(descriptor, pin.page_size, pin.pages)
        with open_immutable(destination) as copy:
            return _compare_trees(_Comparison(context, pin, copy, destination), pages, wanted)
    except MalformedTree as error:
        raise not_proved_error(destination, str(error)) from error
    finally:
        os.close(descriptor)


def _compare_trees(comparison: _Comparison, pages: CopiedPages, wanted: set[int]) -> set[int]:
    remaining = wanted - find_unused_pages(pages, wanted)
    trees = list(_list_trees(comparison.copy))
    for tree in trees:
        if remaining and tree.table and is_table_root(pages, tree.root):
            ranges, belonging = find_table_pages(pages, tree.root, remaining)
            if _compare_table(comparison, tree.table, ranges):
                remaining -= belonging
    for tree in trees:
        if remaining and not tree.table:
            remaining -= find_index_pages(pages, tree.root, remaining)
    return remaining


def _list_trees(copy: apsw.Connection) -> Iterator[_Tree]:
    yield _Tree("sqlite_schema", 1)
    for kind, name, root in copy.execute("SELECT type, name, rootpage FROM sqlite_schema WHERE rootpage > 0"):
        yield _Tree(name if kind == "table" else "", root)


def _compare_table(comparison: _Comparison, table: str, ranges: list[KeyRange]) -> bool:
    """Whether the rows could be compared. Raises Unverified when one differs."""
    try:
        selected = _selected_columns(comparison.copy, table)
        for keys in ranges:
            _compare_range(comparison, table, selected, keys)
    except (apsw.SQLError, UnicodeDecodeError, _RowidHidden):
        return False  # no name for the rowid, a function of the application, or text that is none
    return True


def _compare_range(comparison: _Comparison, table: str, selected: list[str], keys: KeyRange) -> None:
    """One row at a time: a row may be large. Raises Unverified when one differs."""
    statement, bounds = _row_statement(table, selected, keys)
    right = comparison.pin.source.execute(statement, bounds)
    copied = comparison.copy.execute(statement, bounds)
    for number, (row, other) in enumerate(zip_longest(right, copied)):
        # Not by `==`, to which 1 and 1.0 are the same. Version 2 writes equal values as equal bytes.
        if marshal.dumps(row, 2) != marshal.dumps(other, 2):
            raise not_proved_error(comparison.destination, f"rows of table {table} differ from the source's")
        if number % _ROWS_PER_CHECK == 0:
            comparison.context.stop.raise_if_requested()
            check_wal_growth(comparison.context, comparison.pin.wal_before)


def _selected_columns(copy: apsw.Connection, table: str) -> list[str]:
    """A name of the rowid, and the columns that are stored. Raises _RowidHidden."""
    described = copy.execute(f"PRAGMA table_xinfo({quote_identifier(table)})").fetchall()
    names = {str(row[1]).lower() for row in described}
    rowid = next((name for name in _ROWID_NAMES if name not in names), None)
    if rowid is None:
        raise _RowidHidden
    stored = [quote_identifier(str(row[1])) for row in described if row[6] not in (_HIDDEN_VIRTUAL, _GENERATED_VIRTUAL)]
    return [rowid, *stored]


def _row_statement(table: str, selected: list[str], keys: KeyRange) -> tuple[str, list[int]]:
    """The statement for the rows of a range, in order, and its parameters."""
    rowid = selected[0]
    bounds = [(f"{rowid} {sign} ?", key) for sign, key in ((">", keys.after), ("<=", keys.to)) if key is not None]
    where = " AND ".join(condition for condition, _ in bounds)
    statement = f"SELECT {', '.join(selected)} FROM {quote_identifier(table)}" + (f" WHERE {where}" if where else "")  # noqa: S608
    return f"{statement} ORDER BY {rowid}", [key for _, key in bounds]
