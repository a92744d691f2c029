"""Reads the rows of one b-tree page, overflow pages included, and says of each how far it can be trusted."""

from typing import NamedTuple

from actions.salvaging.damaged_file import DamagedFile
from actions.salvaging.pages import INTERIOR_TYPES, LEAF_TYPES, Cell, page_type, payload_cells
from actions.salvaging.records import Value, decode_record


class SalvagedRow(NamedTuple):
    """One row. `rowid` is None in an index. `trusted`: its record is whole and as long as its cell says."""

    rowid: int | None
    values: tuple[Value, ...]
    trusted: bool


class PageRows(NamedTuple):
    """The rows of a page in key order; `broken`: cells of which nothing can be read."""

    rows: list[SalvagedRow]
    broken: int


def read_page_rows(file: DamagedFile, number: int, page: bytes, claimed: bytearray) -> PageRows:
    """The rows in the payloads of a page. `claimed`: pages that belong to trees, which no overflow chain may enter."""
    usable, encoding = file.layout.usable, file.layout.encoding
    cells = list(payload_cells(page, number, usable))
    starts = _next_starts(cells, usable)
    rows, broken = [], 0
    for cell in cells:
        row = None if cell is None else _read_row(file, page, cell, starts[cell.start], claimed, encoding)
        if row is None:
            broken += 1
        else:
            rows.append(row)
    return PageRows(rows, broken)


def read_any_page(file: DamagedFile, number: int) -> tuple[bytes, int] | None:
    """A page with its type, when it is a b-tree page at all."""
    page = file.read_page(number)
    if page is None:
        return None
    kind = page_type(page, number)
    return (page, kind) if kind in LEAF_TYPES or kind in INTERIOR_TYPES else None


def _next_starts(cells: list[Cell | None], usable: int) -> dict[int, int]:
    """For the start of each cell, where the next one behind it in the page begins."""
    starts = sorted({cell.start for cell in cells if cell is not None})
    return dict(zip(starts, [*starts[1:], usable], strict=False))


def _read_row(
    file: DamagedFile, page: bytes, cell: Cell, next_start: int, claimed: bytearray, encoding: str
) -> SalvagedRow | None:
    payload = page[cell.local_start : cell.local_start + cell.local_size]
    chain_whole = True
    if cell.local_size < cell.payload_size:
        payload, chain_whole = _read_overflow(file, payload, cell, claimed)
    record = decode_record(payload, encoding)
    if record is not None and record.values and chain_whole and record.whole and record.size == cell.payload_size:
        return SalvagedRow(cell.rowid, record.values, trusted=True)
    # Where only the size in the cell is wrong, the record is as long as there is room before the next cell.
    fitting = decode_record(page[cell.local_start : next_start], encoding)
    if fitting is not None and fitting.values and fitting.whole and fitting.size == next_start - cell.local_start:
        return SalvagedRow(cell.rowid, fitting.values, trusted=True)
    return SalvagedRow(cell.rowid, record.values, trusted=False) if record is not None and record.values else None


def _read_overflow(file: DamagedFile, local: bytes, cell: Cell, claimed: bytearray) -> tuple[bytes, bool]:
    """The payload with its overflow pages, as far as the chain goes, and whether it is long enough."""
    parts, missing, number = [local], cell.payload_size - cell.local_size, cell.overflow
    capacity = file.layout.usable - 4
    visited: set[int] = set()
    while missing > 0:
        page = file.read_page(number)
        if page is None or len(page) < file.layout.page_size or number in visited or claimed[number]:
            return b"".join(parts), False
        visited.add(number)
        parts.append(page[4 : 4 + min(missing, capacity)])
        missing -= capacity
        number = int.from_bytes(page[:4], "big")
    return b"".join(parts), True
