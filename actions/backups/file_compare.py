"""Compares every page of a copy with the files that the pinned connection reads: the database and the WAL's frames.

The files are read through SQLite's own descriptors (SQLITE_FCNTL_FILE_POINTER and _JOURNAL_POINTER), so they are the very ones
that the pinned transaction reads whatever lies under their names by now, and no lock is dropped by closing one.
"""

import os
from itertools import count
from pathlib import Path

import apsw

from actions.backups.content_proof import not_proved_error
from actions.backups.snapshot_pin import SnapshotMark, SnapshotPin
from actions.model.context import ActionContext
from actions.sqlite.wal_budget import check_wal_growth
from collectors.raw_reader.formats import FRAME_HEADER_BYTES, FRAME_HEADER_SALT, WAL_HEADER_BYTES, WAL_HEADER_SALT

# The size of the largest page. Of larger blocks the C library gives the memory back each time, and takes it anew page by page:
# that costs four times the comparison.
_CHUNK_BYTES = 64 * 1024
_CHUNKS_PER_CHECK = 128
_DATABASE, _JOURNAL = 0, 1
# What the copy's header may differ in (fileformat2.html, "The Database Header"): read and write version, since it says no WAL
# any more; the change counter, the number that it was valid for and the writing library, which follow from that; and the schema
# cookie, which the backup API counts anew (sqlite3_backup_step): it only tells connections to read the schema again.
_HEADER_DIFFERENCES = (slice(18, 20), slice(24, 28), slice(40, 44), slice(92, 100))


def plain_page(number: int, page: bytes) -> bytes:
    """The page without what differs between a database and its copy though both hold the same."""
    if number != 1:
        return page
    plain = bytearray(page)
    for part in (
        *_HEADER_DIFFERENCES,
        slice(len(page) - page[20], len(page)),
    ):  # an extension's checksum follows from them
        plain[part] = bytes(part.stop - part.start)
    return bytes(plain)


def same_page(number: int, page: bytes, other: bytes) -> bool:
    """Whether two pages hold the same."""
    return page == other or plain_page(number, page) == plain_page(number, other)


def read_held_frames(pin: SnapshotPin, mark: SnapshotMark, destination: Path) -> dict[int, int]:
    """The newest frame of each page up to the mark, counted from 0, by page number.

    Raises Unverified when the WAL is not of the pinned generation, or the mark does not end the pinned commit.
    """
    newest: dict[int, int] = {}
    if mark.frame == 0:
        return newest
    salt = bytes.fromhex(mark.salt)
    if _read_part(pin, _JOURNAL, 0, WAL_HEADER_BYTES)[WAL_HEADER_SALT] != salt:
        raise not_proved_error(destination, "the WAL is of another generation than the pinned one")
    for index in range(mark.frame):
        header = _read_part(pin, _JOURNAL, _frame_offset(pin, index), FRAME_HEADER_BYTES)
        if header[FRAME_HEADER_SALT] != salt:
            raise not_proved_error(destination, f"frame {index + 1} of {mark.frame} is not of the pinned generation")
        newest[int.from_bytes(header[:4])] = index
    last = _read_part(pin, _JOURNAL, _frame_offset(pin, mark.frame - 1), FRAME_HEADER_BYTES)
    pages = int.from_bytes(last[4:8])  # not 0 in the last frame of a commit alone
    if pages != pin.pages:
        raise not_proved_error(destination, f"frame {mark.frame} ends a commit of {pages} pages, not {pin.pages}")
    return {page: index for page, index in newest.items() if page <= pin.pages}


def read_wal_pages(pin: SnapshotPin) -> set[int]:
    """The pages in the WAL as it is now, up to the first frame of an older generation; copied ones and later ones as well."""
    try:
        salt = _read_part(pin, _JOURNAL, 0, WAL_HEADER_BYTES)[WAL_HEADER_SALT]
    except apsw.SQLError:
        return set()  # no WAL is open: a database at rest
    pages: set[int] = set()
    for index in count():
        whole, header = pin.source.read("main", _JOURNAL, _frame_offset(pin, index), FRAME_HEADER_BYTES)
        if not whole or header[FRAME_HEADER_SALT] != salt:
            return {page for page in pages if 1 <= page <= pin.pages}
        pages.add(int.from_bytes(header[:4]))
    raise AssertionError("a WAL has an end")


def compare_with_files(context: ActionContext, pin: SnapshotPin, frames: dict[int, int], destination: Path) -> None:
    """Raises Unverified when a page differs, ActionError, apsw.Error, OSError."""
    size = pin.pages * pin.page_size
    descriptor = os.open(destination, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for number, offset in enumerate(range(0, size, _CHUNK_BYTES)):
            amount = min(_CHUNK_BYTES, size - offset)
            _compare_chunk(pin, frames, os.pread(descriptor, amount, offset), offset, destination)
            if number % _CHUNKS_PER_CHECK == 0:
                context.emit_progress("compared bytes", offset + amount, size)
                context.stop.raise_if_requested()
                check_wal_growth(context, pin.wal_before)
    finally:
        os.close(descriptor)


def _compare_chunk(pin: SnapshotPin, frames: dict[int, int], copied: bytes, offset: int, destination: Path) -> None:
    """Raises Unverified when a page is not what its newest frame says, or the file where there is none."""
    size = pin.page_size
    right = _read_part(pin, _DATABASE, offset, len(copied))
    first = offset // size + 1
    numbers = range(first, first + len(copied) // size)
    held = [number for number in numbers if number in frames] if frames else []
    if not held and right == copied:
        return
    if len(copied) % size:
        raise not_proved_error(destination, f"its last page is not whole: {len(copied)} bytes from byte {offset}")
    for number in numbers:
        part = slice((number - first) * size, (number - first + 1) * size)
        page = _read_frame(pin, frames[number]) if number in frames else right[part]
        if not same_page(number, page, copied[part]):
            raise not_proved_error(destination, f"page {number} differs from the source's")


def _read_frame(pin: SnapshotPin, index: int) -> bytes:
    return _read_part(pin, _JOURNAL, _frame_offset(pin, index) + FRAME_HEADER_BYTES, pin.page_size)


def _frame_offset(pin: SnapshotPin, index: int) -> int:
    return WAL_HEADER_BYTES + index * (FRAME_HEADER_BYTES + pin.page_size)


def _read_part(pin: SnapshotPin, which: int, offset: int, amount: int) -> bytes:
    """Bytes of a file of the pinned connection; zeros beyond its end, as SQLite reads them."""
    return pin.source.read("main", which, offset, amount)[1]
