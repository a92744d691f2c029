"""Reads a damaged database page by page, as its newest commit is: WAL frames and a hot journal are laid over the file.

No SQLite takes part: it would refuse, recover or write. What a damaged header says is checked against the pages.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from actions.salvaging.disk_reads import read_or_zeros
from actions.salvaging.journal_pages import JournaledPages, read_journaled_pages
from actions.salvaging.pages import LEAF_TYPES, header_offset, page_type
from actions.salvaging.wal_frames import CommittedFrames, is_page_size, read_committed_frames
from collectors.raw_reader.formats import DATABASE_HEADER_BYTES, MAGIC

# How many pages are looked at to find out what a damaged header does not say.
_SAMPLE = 400
# What is left of a page at the end of a file that was cut: less than the headers of page 1 is nothing.
_SMALLEST_PART = 128
_ENCODINGS = {1: "utf-8", 2: "utf-16-le", 3: "utf-16-be"}


class NotDatabase(Exception):
    """Neither the header nor any page is SQLite's; the message says what it looks like."""


@dataclass(frozen=True, slots=True)
class FileLayout:
    """What the file says of itself. Sizes in bytes; `usable`: the part of a page that SQLite uses.

    `auto_vacuum`: 0 none, 1 full, 2 incremental. `header_whole`: the header could be used as it is.
    `pages`: at the newest commit.
    """

    page_size: int
    usable: int
    pages: int
    encoding: str
    auto_vacuum: int
    user_version: int
    application_id: int
    wal: bool
    header_whole: bool
    first_trunk: int
    free_pages: int


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """An open damaged database. `wal_unused`: frames of its WAL that are there and not whole; `rolled_back`: pages undone."""

    layout: FileLayout
    descriptor: int
    wal_descriptor: int
    journal_descriptor: int
    wal: CommittedFrames
    journal: JournaledPages

    def read_page(self, number: int) -> bytes | None:
        """The page of this number in the newest commit; None where there is none. The last one may be cut short."""
        if not 1 <= number <= self.layout.pages:
            return None
        if (offset := self.wal.offsets.get(number)) is not None:
            return read_or_zeros(self.wal_descriptor, self.layout.page_size, offset)
        if (offset := self.journal.offsets.get(number)) is not None:
            return read_or_zeros(self.journal_descriptor, self.layout.page_size, offset)
        page = read_or_zeros(self.descriptor, self.layout.page_size, (number - 1) * self.layout.page_size)
        return page if len(page) >= _SMALLEST_PART else None


@contextmanager
def open_damaged_file(path: Path) -> Iterator[DamagedFile]:
    """Open the files of a database for the block. Raises NotDatabase, OSError.

    Plain descriptors: this process must have no SQLite connection to them (docs/safety.md).
    """
    with ExitStack() as stack:
        descriptor = _open_file(path, stack)
        wal_descriptor = _open_sidecar(path, "-wal", stack)
        journal_descriptor = _open_sidecar(path, "-journal", stack)
        wal = CommittedFrames() if wal_descriptor < 0 else read_committed_frames(wal_descriptor)
        journal = JournaledPages() if journal_descriptor < 0 else read_journaled_pages(journal_descriptor)
        if wal.offsets:  # a database in WAL mode has no rollback journal
            journal = JournaledPages()
        layout = _read_layout(descriptor, wal_descriptor, wal, journal)
        yield DamagedFile(layout, descriptor, wal_descriptor, journal_descriptor, wal, journal)


def _open_file(path: Path, stack: ExitStack) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor


def _open_sidecar(path: Path, suffix: str, stack: ExitStack) -> int:
    sidecar = path.with_name(path.name + suffix)
    return _open_file(sidecar, stack) if sidecar.is_file() else -1


def _read_layout(descriptor: int, wal_descriptor: int, wal: CommittedFrames, journal: JournaledPages) -> FileLayout:
    header = read_or_zeros(descriptor, DATABASE_HEADER_BYTES, 0)
    if 1 in wal.offsets:
        header = read_or_zeros(wal_descriptor, DATABASE_HEADER_BYTES, wal.offsets[1])
    size = os.fstat(descriptor).st_size
    header_whole = _is_header_whole(header)
    page_size = wal.page_size or (_header_page_size(header) if header_whole else 0) or journal.page_size
    page_size = page_size or _guess_page_size(descriptor, size)
    if not page_size:
        raise NotDatabase("it has neither SQLite's header nor a page that SQLite could have written")
    header = header.ljust(DATABASE_HEADER_BYTES, b"\0") if header_whole else bytes(DATABASE_HEADER_BYTES)
    return FileLayout(
        page_size=page_size,
        usable=page_size - _reserved_bytes(descriptor, header[20], page_size, size),
        pages=_count_pages(size, page_size, wal, journal),
        encoding=_ENCODINGS.get(_number(header, 56), "utf-8"),
        auto_vacuum=(2 if _number(header, 64) else 1) if 0 < _number(header, 52) <= size // page_size else 0,
        user_version=int.from_bytes(header[60:64], "big", signed=True),
        application_id=int.from_bytes(header[68:72], "big", signed=True),
        wal=header[18:20] == b"\2\2" or bool(wal.offsets),
        header_whole=header_whole,
        first_trunk=_number(header, 32),
        free_pages=_number(header, 36),
    )


def _count_pages(size: int, page_size: int, wal: CommittedFrames, journal: JournaledPages) -> int:
    """All pages of the file, the last one perhaps cut; also where the header, which may be wrong, names fewer.

    A commit in the WAL, or the journal of an interrupted transaction, says how long the database is.
    """
    if journal.pages:
        return journal.pages
    return max(-(-size // page_size), wal.pages)


def _is_header_whole(header: bytes) -> bool:
    """Whether it can be used: a possible page size, and SQLite's first words or its three fixed bytes behind the size."""
    signed = header[:16] == MAGIC or header[21:24] == b"\x40\x20\x20"
    return len(header) == DATABASE_HEADER_BYTES and signed and bool(_header_page_size(header))


def _header_page_size(header: bytes) -> int:
    size = int.from_bytes(header[16:18], "big")
    size = 65536 if size == 1 else size
    return size if is_page_size(size) else 0


def _number(header: bytes, offset: int) -> int:
    return int.from_bytes(header[offset : offset + 4], "big")


def _guess_page_size(descriptor: int, size: int) -> int:
    """The page size at which most of the file is b-tree pages; 0 when hardly anything looks like one."""
    scores = {}
    for exponent in range(9, 17):
        page_size = 1 << exponent
        count = min(size // page_size, _SAMPLE)
        offsets = ((size // page_size) * index // max(count, 1) * page_size for index in range(count))
        likely = sum(_looks_like_leaf(read_or_zeros(descriptor, page_size, offset)) for offset in offsets)
        scores[page_size] = likely / count if count else 0.0
    best = max(scores, key=lambda page_size: scores[page_size])
    return best if scores[best] > 0 else 0


def _looks_like_leaf(page: bytes) -> bool:
    """Whether it has the header of a leaf with cells, whose content begins behind the pointers and has all pointers in it."""
    if page_type(page, 2) not in LEAF_TYPES or page[7] > 60:
        return False
    count, content = int.from_bytes(page[3:5], "big"), int.from_bytes(page[5:7], "big") or 65536
    if not 0 < count < len(page) // 3 or not 8 + 2 * count <= content < len(page):
        return False
    pointers = [int.from_bytes(page[at : at + 2], "big") for at in range(8, 8 + 2 * count, 2)]
    return all(content <= pointer < len(page) - 1 for pointer in pointers) and max(pointers) >= len(page) // 2


def _reserved_bytes(descriptor: int, declared: int, page_size: int, size: int) -> int:
    """The bytes at the end of each page that SQLite leaves to others: what the header says, unless cells lie in them."""
    if declared == 0 or page_size - declared < 480:
        return 0
    for number in range(1, min(size // page_size, _SAMPLE) + 1):
        page = read_or_zeros(descriptor, page_size, (number - 1) * page_size)
        if page_type(page, number) in LEAF_TYPES and _has_cell_behind(page, number, page_size - declared):
            return 0
    return declared


def _has_cell_behind(page: bytes, number: int, usable: int) -> bool:
    header = header_offset(number)
    count = min(int.from_bytes(page[header + 3 : header + 5], "big"), len(page) // 4)
    array = range(header + 8, min(header + 8 + 2 * count, len(page) - 1), 2)
    return any(usable <= int.from_bytes(page[at : at + 2], "big") < len(page) for at in array)
