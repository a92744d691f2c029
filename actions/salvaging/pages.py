"""Decodes b-tree pages: which cells a page has, and what each refers to. Pure; any bytes may come in.

Format: https://sqlite.org/fileformat2.html#b_tree_pages.
"""

from collections.abc import Iterator
from typing import NamedTuple

from actions.salvaging.records import read_signed_varint, read_varint

INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF = 2, 5, 10, 13
LEAF_TYPES = (INDEX_LEAF, TABLE_LEAF)
INTERIOR_TYPES = (INDEX_INTERIOR, TABLE_INTERIOR)

_FILE_HEADER_BYTES = 100


class Cell(NamedTuple):
    """One cell that holds a payload. `rowid` is None in an index; `overflow`: the first overflow page, 0 without one.

    `start` to `end`: its bytes in the page, as its own payload size says.
    """

    rowid: int | None
    payload_size: int
    local_start: int
    local_size: int
    overflow: int
    start: int
    end: int


def header_offset(number: int) -> int:
    """Where the b-tree header begins: page 1 has the header of the file before it."""
    return _FILE_HEADER_BYTES if number == 1 else 0


def page_type(page: bytes, number: int) -> int:
    """The byte that says what kind of b-tree page it is."""
    return page[header_offset(number)]


def cell_pointers(page: bytes, number: int) -> list[int]:
    """The offsets of its cells in key order, without impossible and repeated ones.

    The content area begins with a cell, so an offset before it is that of a deleted cell, unless the header is wrong.
    """
    header = header_offset(number)
    array = header + (8 if page[header] in LEAF_TYPES else 12)
    count = int.from_bytes(page[header + 3 : header + 5], "big")
    last = min(array + 2 * count, len(page) - 1)
    pointers = [page[at] << 8 | page[at + 1] for at in range(array, last, 2)]
    size = len(page)
    low = header + 8
    content = int.from_bytes(page[header + 5 : header + 7], "big") or 65536
    if content in pointers:
        low = content
    if len(set(pointers)) == len(pointers) and all(low <= pointer < size for pointer in pointers):
        return pointers
    return [pointer for pointer in dict.fromkeys(pointers) if low <= pointer < size]


def declared_cells(page: bytes, number: int) -> int:
    """How many cells the header says the page has; at most as many as fit."""
    header = header_offset(number)
    return min(int.from_bytes(page[header + 3 : header + 5], "big"), len(page) // 4)


def child_pages(page: bytes, number: int) -> list[int]:
    """The children of an interior page in key order; 0 for one whose cell is impossible. They may be out of the file."""
    header = header_offset(number)
    count = declared_cells(page, number)
    children = []
    for at in range(header + 12, min(header + 12 + 2 * count, len(page) - 1), 2):
        pointer = page[at] << 8 | page[at + 1]
        in_page = header + 12 <= pointer <= len(page) - 4
        children.append(int.from_bytes(page[pointer : pointer + 4], "big") if in_page else 0)
    children.append(int.from_bytes(page[header + 8 : header + 12], "big"))
    return children


def payload_cells(page: bytes, number: int, usable: int) -> Iterator[Cell | None]:
    """The cells that hold payloads, in key order; None for one that cannot be decoded. A table's interior page has none."""
    kind = page_type(page, number)
    for pointer in cell_pointers(page, number):
        try:
            yield _decode_cell(page, pointer, kind, usable)
        except IndexError:
            yield None


def _decode_cell(page: bytes, start: int, kind: int, usable: int) -> Cell | None:
    position = start + 4 if kind == INDEX_INTERIOR else start
    payload_size, position = read_varint(page, position)
    rowid = None
    if kind == TABLE_LEAF:
        rowid, position = read_signed_varint(page, position)
    local = local_payload_size(payload_size, usable, table=kind == TABLE_LEAF)
    end = position + local
    overflow = 0
    if local != payload_size:
        overflow = int.from_bytes(page[end : end + 4], "big")
        end += 4
    if end > usable or payload_size > 1 << 31:
        return None
    return Cell(rowid, payload_size, position, local, overflow, start, end)


def local_payload_size(payload: int, usable: int, *, table: bool) -> int:
    """How many bytes of a payload lie in the page itself, the others in overflow pages."""
    most = usable - 35 if table else (usable - 12) * 64 // 255 - 23
    if payload <= most:
        return payload
    least = (usable - 12) * 32 // 255 - 23
    fitting = least + (payload - least) % (usable - 4)
    return fitting if fitting <= most else least
