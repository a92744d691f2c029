"""Reads the old page versions of a hot rollback journal, without SQLite: they undo the transaction that was interrupted.

Format: https://sqlite.org/fileformat2.html#the_rollback_journal.
"""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from actions.salvaging.disk_reads import read_or_zeros

_MAGIC = bytes((0xD9, 0xD5, 0x05, 0xF9, 0x20, 0xA1, 0x63, 0xD7))
_HEADER_BYTES = 28


@dataclass(frozen=True, slots=True)
class JournaledPages:
    """The pages as they were before the interrupted transaction. `offsets`: of the bytes in the file, by page number.

    `pages`: the size of the database then, 0 without a journal. `page_size` in bytes.
    """

    offsets: Mapping[int, int] = field(default_factory=dict)
    pages: int = 0
    page_size: int = 0


def read_journaled_pages(descriptor: int) -> JournaledPages:
    """Read the journal in an open file; what is behind the first record that is not whole is not used. Raises OSError."""
    offsets: dict[int, int] = {}
    size, position, pages, page_size = os.fstat(descriptor).st_size, 0, 0, 0
    while position + _HEADER_BYTES <= size:
        header = read_or_zeros(descriptor, _HEADER_BYTES, position)
        if header[:8] != _MAGIC:
            break
        count, nonce, before, sector, segment_page_size = struct.unpack_from(">5I", header, 8)
        if not 512 <= segment_page_size <= 65536 or not 32 <= sector <= 65536:
            break
        pages, page_size = pages or before, segment_page_size
        position += sector
        if count == 0xFFFFFFFF:
            count = (size - position) // (page_size + 8)
        if not _read_segment(descriptor, position, count, page_size, nonce, offsets):
            break
        position = -(-(position + count * (page_size + 8)) // sector) * sector
    return JournaledPages(offsets, pages, page_size) if offsets else JournaledPages()


def _read_segment(
    descriptor: int, position: int, count: int, page_size: int, nonce: int, offsets: dict[int, int]
) -> bool:
    """Add the records of one segment to `offsets`, the oldest version of each page; whether all of them are whole."""
    for _ in range(count):
        record = read_or_zeros(descriptor, page_size + 8, position)
        if len(record) < page_size + 8 or _page_checksum(record[4:-4], nonce) != record[-4:]:
            return False
        offsets.setdefault(int.from_bytes(record[:4], "big"), position + 4)
        position += page_size + 8
    return True


def _page_checksum(page: bytes, nonce: int) -> bytes:
    total = nonce
    for at in range(len(page) - 200, 0, -200):
        total += page[at]
    return (total & 0xFFFFFFFF).to_bytes(4, "big")
