"""Brings the rows of one table over: those that fit go into the table, the others apart."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apsw

from actions.salvaging.choose_rows import ANY_KEY, KeyBounds, ascending_positions, bound_pages
from actions.salvaging.damaged_file import DamagedFile
from actions.salvaging.lost_and_found import LostAndFound
from actions.salvaging.pages import TABLE_LEAF, cell_pointers
from actions.salvaging.read_rows import PageRows, SalvagedRow, read_any_page, read_page_rows
from actions.salvaging.records import RawText, Value, read_signed_varint, read_varint
from actions.salvaging.table_shape import TableShape
from actions.salvaging.trees import WalkedTree


@dataclass(slots=True)
class TableCount:
    """What became of one table's rows. `broken`: cells of which nothing is left; `pages`: pages of rows that were read."""

    inserted: int = 0
    apart: int = 0
    broken: int = 0
    pages: int = 0


@dataclass(frozen=True, slots=True)
class TableSource:
    """Where the rows of a table come from. `refused`: pages of its tree that belong to another one.

    `doubtful`: rowids that the table's indexes do not know, and that stand alone.
    """

    file: DamagedFile
    tree: WalkedTree
    shape: TableShape
    claimed: bytearray
    refused: frozenset[int]
    doubtful: frozenset[int] = frozenset()


def bring_rows_over(
    connection: apsw.Connection, source: TableSource, apart: LostAndFound, count: TableCount
) -> Iterator[int]:
    """Bring the rows of one table over; yields after each page, with its number, so that the caller can pause there.

    Raises apsw.Error, OSError.
    """
    bounds = bound_table_pages(source) if source.shape.with_rowid else None
    for position, number in enumerate(source.tree.slots):
        read = read_any_page(source.file, number) if number else None
        if read is None:
            continue
        rows = read_page_rows(source.file, number, read[0], source.claimed)
        count.broken += rows.broken
        count.pages += 1
        limits = None if bounds is None else bounds[position]
        belongs = number not in source.refused and (bounds is None or limits is not None)
        fitting, others = _split_rows(source, rows, limits) if belongs else ([], rows.rows)
        rejected = _insert_rows(connection, source.shape, fitting)
        count.inserted += len(fitting) - len(rejected)
        for row in (*others, *rejected):
            apart.keep_apart(row, root=source.tree.root, page=number)
            count.apart += 1
        yield number


def bound_table_pages(source: TableSource) -> list[KeyBounds | None]:
    """Which rowids each page of a table may have, in tree order. Raises OSError.

    Where the rowids do not simply ascend, only rows count that could be rows of the table.
    """
    if _ascends_throughout(source):
        return [ANY_KEY] * len(source.tree.slots)
    return bound_pages([read_fitting_rowids(source, number) for number in source.tree.slots])


def _ascends_throughout(source: TableSource) -> bool:
    last = None
    for rowid in iterate_rowids(source):
        if last is not None and rowid <= last:
            return False
        last = rowid
    return True


def iterate_rowids(source: TableSource) -> Iterator[int]:
    """The rowids of all cells of a table in tree order, whatever else is in the cells. Raises OSError."""
    for number in source.tree.slots:
        page = _table_leaf(source, number)
        if page is not None:
            yield from _read_rowids(page, number)


def _read_rowids(page: bytes, number: int) -> Iterator[int]:
    for pointer in cell_pointers(page, number):
        try:
            yield read_signed_varint(page, read_varint(page, pointer)[1])[0]
        except IndexError:
            continue


def read_fitting_rowids(source: TableSource, number: int) -> Sequence[int]:
    """The rowids of the rows of one page that could be rows of the table. Raises OSError."""
    page = _table_leaf(source, number)
    rows = [] if page is None else read_page_rows(source.file, number, page, source.claimed).rows
    return array("q", (row.rowid or 0 for row in rows if row.trusted and source.shape.can_hold(row.values)))


def _table_leaf(source: TableSource, number: int) -> bytes | None:
    read = read_any_page(source.file, number) if number and number not in source.refused else None
    return read[0] if read is not None and read[1] == TABLE_LEAF else None


def _split_rows(
    source: TableSource, rows: PageRows, limits: KeyBounds | None
) -> tuple[list[SalvagedRow], list[SalvagedRow]]:
    """The rows that can be rows of the table at this place, and the others."""
    fitting: list[SalvagedRow] = []
    others: list[SalvagedRow] = []
    for row in rows.rows:
        admitted = limits is None or (row.rowid is not None and limits.admits(row.rowid))
        admitted = admitted and row.rowid not in source.doubtful
        is_row = row.trusted and admitted and source.shape.can_hold(row.values)
        (fitting if is_row else others).append(row)
    if limits is None:
        return fitting, others
    chosen = set(ascending_positions([row.rowid or 0 for row in fitting]))
    others.extend(row for position, row in enumerate(fitting) if position not in chosen)
    return [row for position, row in enumerate(fitting) if position in chosen], others


def _insert_rows(connection: apsw.Connection, shape: TableShape, rows: Sequence[SalvagedRow]) -> list[SalvagedRow]:
    """Insert them; returns those that a constraint of the table rejects."""
    rejected: list[SalvagedRow] = []
    start = 0
    while start < len(rows):
        end = start
        form = _row_form(rows[start])
        while end < len(rows) and _row_form(rows[end]) == form:
            end += 1
        rejected.extend(_insert_alike(connection, shape, rows[start:end], form))
        start = end
    return rejected


RowForm = tuple[int, frozenset[int]]


def _row_form(row: SalvagedRow) -> RowForm:
    """What decides which statement inserts it: how many values it has, and which are bytes of a text."""
    raw = frozenset(at for at, value in enumerate(row.values) if isinstance(value, RawText))
    return len(row.values), raw


def _insert_alike(
    connection: apsw.Connection, shape: TableShape, rows: Sequence[SalvagedRow], form: RowForm
) -> list[SalvagedRow]:
    statement = shape.insert_statement(*form)
    positions = shape.inserted_positions(form[0])
    rejected: list[SalvagedRow] = []
    pending = iter(rows)
    handed: list[SalvagedRow] = []

    def bindings() -> Iterator[tuple[Value, ...]]:
        for row in pending:
            handed[:] = [row]
            yield _bound_values(row, shape, positions)

    while True:
        try:
            connection.executemany(statement, bindings())
        except apsw.ConstraintError:
            rejected.extend(handed)
        else:
            return rejected


def _bound_values(row: SalvagedRow, shape: TableShape, positions: Sequence[int]) -> tuple[Value, ...]:
    values = tuple(row.values[position] for position in positions)
    return (row.rowid, *values) if shape.rowid_name else values
