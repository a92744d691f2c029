"""Finds which rows lie on which pages of a copy: the b-trees of a database file, read without SQLite.

Format: https://sqlite.org/fileformat2.html#b_tree_pages. Of a tree only the inner pages are read, and the leaves asked for:
the keys in an inner page bound what its children hold.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from collectors.raw_reader.formats import DATABASE_HEADER_BYTES, PENDING_BYTE

_INNER_INDEX, _INNER_TABLE, _LEAF_INDEX, _LEAF_TABLE = 2, 5, 10, 13
_RESERVED, _FIRST_TRUNK, _LARGEST_ROOT = 20, 32, 52


class MalformedTree(Exception):
    """The pages are no tree; the message says where."""


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The rowids above `after` up to and with `to`; None: without a bound."""

    after: int | None
    to: int | None


@dataclass(frozen=True, slots=True)
class CopiedPages:
    """The pages of a database file that no process writes, by number from 1; `descriptor` is open for reading."""

    descriptor: int
    page_size: int
    count: int

    @property
    def usable(self) -> int:
        """The bytes of a page that SQLite uses."""
        return self.page_size - os.pread(self.descriptor, 1, _RESERVED)[0]

    def read_page(self, number: int) -> bytes:
        """The bytes of a page. Raises MalformedTree when there is none of this number."""
        return self._read_bytes(number, 0, self.page_size)

    def read_number(self, page: int, offset: int) -> int:
        """Four bytes of a page as a number. Raises MalformedTree."""
        return int.from_bytes(self._read_bytes(page, offset, 4))

    def _read_bytes(self, number: int, offset: int, amount: int) -> bytes:
        if not 1 <= number <= self.count:
            raise MalformedTree(f"page {number} of {self.count} is pointed at")
        return os.pread(self.descriptor, amount, (number - 1) * self.page_size + offset)


def is_table_root(pages: CopiedPages, root: int) -> bool:
    """Whether the tree at this root is one of rowids; a table WITHOUT ROWID is not."""
    return _kind(pages.read_page(root), root) in (_INNER_TABLE, _LEAF_TABLE)


def find_table_pages(pages: CopiedPages, root: int, wanted: set[int]) -> tuple[list[KeyRange], set[int]]:
    """The rowids on those wanted pages that are leaves of this table, and all wanted pages that belong to the table.

    An overflow page belongs to its leaf, and only those of wanted leaves are seen. Raises MalformedTree.
    """
    ranges: list[KeyRange] = []
    belonging: set[int] = set()
    for number, page, keys in _walk_tree(pages, root, wanted):
        if number in wanted:
            belonging.add(number)
        if _kind(page, number) == _LEAF_TABLE:
            ranges.append(keys)
            belonging.update(wanted.intersection(_overflow_pages(pages, page, number)))
    return _joined_ranges(ranges), belonging


def find_index_pages(pages: CopiedPages, root: int, wanted: set[int]) -> set[int]:
    """The wanted pages that belong to this index, without its overflow pages. Raises MalformedTree."""
    return {number for number, _page, _keys in _walk_tree(pages, root, wanted) if number in wanted}


def find_unused_pages(pages: CopiedPages, wanted: set[int]) -> set[int]:
    """The wanted pages that hold no content: those of the freelist, and the pointer maps. Raises MalformedTree."""
    unused: set[int] = set()
    trunk, trunks = pages.read_number(1, _FIRST_TRUNK), 0
    while trunk and trunks <= pages.count:
        page = pages.read_page(trunk)
        count = min(int.from_bytes(page[4:8]), pages.page_size // 4 - 2)
        unused.update((trunk, *struct.unpack_from(f">{count}I", page, 8)))
        trunk, trunks = int.from_bytes(page[:4]), trunks + 1
    if pages.read_number(1, _LARGEST_ROOT):
        unused.update(number for number in wanted if _is_pointer_map(pages, number))
    return unused & wanted


def _is_pointer_map(pages: CopiedPages, number: int) -> bool:
    """ptrmapPageno in btree.c: each maps as many pages as entries of five bytes fit, and is the page before them."""
    span = pages.usable // 5 + 1
    lock_page = PENDING_BYTE // pages.page_size + 1
    first = (number - 2) // span * span + 2 if number >= 2 else 0
    return number == first + (first == lock_page)


def _walk_tree(pages: CopiedPages, root: int, wanted: set[int]) -> Iterator[tuple[int, bytes, KeyRange]]:
    """The inner pages, and of the leaves the wanted ones, with the keys that each may hold."""
    stack = [(root, KeyRange(None, None))]
    walked = 0
    while stack:
        number, keys = stack.pop()
        page = pages.read_page(number)
        walked += 1
        if walked > pages.count:
            raise MalformedTree(f"the tree at page {root} has no end")
        kind = _kind(page, number)
        if kind in (_INNER_TABLE, _INNER_INDEX):
            yield number, page, keys
            stack.extend(_children(pages, page, number, keys, wanted))
        elif number in wanted:
            yield number, page, keys


def _children(
    pages: CopiedPages, page: bytes, number: int, keys: KeyRange, wanted: set[int]
) -> Iterator[tuple[int, KeyRange]]:
    """The children of an inner page; where they are leaves, only the wanted ones."""
    start = _tree_start(number)
    cells = _cell_offsets(page, number, 12)
    children = [int.from_bytes(page[cell : cell + 4]) for cell in cells]
    children.append(int.from_bytes(page[start + 8 : start + 12]))
    only = wanted if _kind(pages.read_page(children[0]), children[0]) in (_LEAF_TABLE, _LEAF_INDEX) else None
    by_rowid = page[start] == _INNER_TABLE
    for index, child in enumerate(children):
        if only is None or child in only:
            yield child, _child_keys(page, cells, index, keys) if by_rowid else keys


def _child_keys(page: bytes, cells: tuple[int, ...], index: int, keys: KeyRange) -> KeyRange:
    after = _read_varint(page, cells[index - 1] + 4)[0] if index else keys.after
    to = _read_varint(page, cells[index] + 4)[0] if index < len(cells) else keys.to
    return KeyRange(after, to)


def _joined_ranges(ranges: list[KeyRange]) -> list[KeyRange]:
    """Neighbours as one range, in the order of the rowids."""
    joined: list[KeyRange] = []
    for keys in sorted(ranges, key=lambda keys: (keys.after is not None, keys.after or 0)):
        if joined and joined[-1].to is not None and joined[-1].to == keys.after:
            joined[-1] = KeyRange(joined[-1].after, keys.to)
        else:
            joined.append(keys)
    return joined


def _overflow_pages(pages: CopiedPages, page: bytes, number: int) -> Iterator[int]:
    """The overflow pages of a leaf's rows (fileformat2.html, "Cell payload")."""
    usable = pages.usable
    least = (usable - 12) * 32 // 255 - 23
    for cell in _cell_offsets(page, number, 8):
        payload, offset = _read_varint(page, cell)
        if payload <= usable - 35:
            continue
        _rowid, offset = _read_varint(page, offset)
        local = least + (payload - least) % (usable - 4)
        local = local if local <= usable - 35 else least
        chained = int.from_bytes(page[offset + local : offset + local + 4])
        for _ in range(-(-(payload - local) // (usable - 4))):
            yield chained
            chained = pages.read_number(chained, 0)


def _cell_offsets(page: bytes, number: int, header_bytes: int) -> tuple[int, ...]:
    """Where the cells of a page of a tree begin. Raises MalformedTree."""
    start = _tree_start(number)
    (count,) = struct.unpack_from(">H", page, start + 3)
    if start + header_bytes + 2 * count > len(page):
        raise MalformedTree(f"page {number} has {count} cells")
    return struct.unpack_from(f">{count}H", page, start + header_bytes)


def _tree_start(number: int) -> int:
    return DATABASE_HEADER_BYTES if number == 1 else 0


def _kind(page: bytes, number: int) -> int:
    kind = page[_tree_start(number)]
    if kind not in (_INNER_INDEX, _INNER_TABLE, _LEAF_INDEX, _LEAF_TABLE):
        raise MalformedTree(f"page {number} belongs to no tree")
    return kind


def _read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """A number of one to nine bytes, and the offset after it; signed, as a rowid is."""
    value = 0
    for position in range(offset, min(offset + 8, len(data))):
        value = value << 7 | data[position] & 0x7F
        if data[position] < 0x80:
            return value, position + 1
    if offset + 9 > len(data):
        raise MalformedTree("a cell leaves its page")
    value = value << 8 | data[offset + 8]
    return value - (value >> 63 << 64), offset + 9
