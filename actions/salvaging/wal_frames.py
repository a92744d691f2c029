"""Reads which page versions of a WAL are committed, without SQLite.

Format: https://sqlite.org/fileformat2.html#the_write_ahead_log. It stops where SQLite stops, at the first frame that is
not whole. Later frames are committed too, but pages of an interrupted
sequence laid over older ones would mix two states of the database.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from actions.salvaging.disk_reads import read_or_zeros
from collectors.raw_reader.formats import FRAME_HEADER_BYTES, WAL_HEADER_BYTES

_MAGIC = 0x377F0682


@dataclass(frozen=True, slots=True)
class CommittedFrames:
    """The newest committed version of each page in a WAL. `offsets`: of the page's bytes in the file, by page number.

    `pages`: the size of the database at the last commit, 0 without one. `unused`: frames of this generation after it that
    are not whole. `page_size` in bytes, 0 where the WAL's header is not whole.
    """

    offsets: Mapping[int, int] = field(default_factory=dict)
    pages: int = 0
    page_size: int = 0
    unused: int = 0


def read_committed_frames(descriptor: int) -> CommittedFrames:
    """Read the WAL in an open file. Raises OSError."""
    header = read_or_zeros(descriptor, WAL_HEADER_BYTES, 0)
    if len(header) < WAL_HEADER_BYTES:
        return CommittedFrames()
    magic, _version, page_size = struct.unpack_from(">3I", header)
    order = ">" if magic & 1 else "<"
    state = _advance_checksum(header[:24], order, (0, 0))
    if magic & 0xFFFFFFFE != _MAGIC or state != struct.unpack_from(">2I", header, 24) or not is_page_size(page_size):
        return CommittedFrames()
    return _follow_frames(descriptor, header[16:24], page_size, order, state)


def _follow_frames(descriptor: int, salt: bytes, page_size: int, order: str, state: tuple[int, int]) -> CommittedFrames:
    committed: dict[int, int] = {}
    pending: dict[int, int] = {}
    pages, offset, step = 0, WAL_HEADER_BYTES, FRAME_HEADER_BYTES + page_size
    while len(frame := read_or_zeros(descriptor, step, offset)) == step and frame[8:16] == salt:
        state = _advance_checksum(frame[24:], order, _advance_checksum(frame[:8], order, state))
        number, commit_pages = struct.unpack_from(">2I", frame)
        if number == 0 or state != struct.unpack_from(">2I", frame, 16):
            break
        pending[number] = offset + FRAME_HEADER_BYTES
        offset += step
        if commit_pages:
            committed.update(pending)
            pending.clear()
            pages = commit_pages
    return CommittedFrames(committed, pages, page_size, _count_frames(descriptor, offset, step, salt))


def _count_frames(descriptor: int, offset: int, step: int, salt: bytes) -> int:
    """How many frames of this generation follow: they are there, and cannot be used."""
    count = 0
    while read_or_zeros(descriptor, 16, offset)[8:16] == salt:
        count, offset = count + 1, offset + step
    return count


def is_page_size(size: int) -> bool:
    """Whether it is a page size that SQLite knows: a power of two from 512 to 65536."""
    return 512 <= size <= 65536 and size & (size - 1) == 0


def _advance_checksum(data: bytes, order: str, state: tuple[int, int]) -> tuple[int, int]:
    """SQLite's running checksum of a WAL over 8-byte groups."""
    first, second = state
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for index in range(0, len(words) - 1, 2):
        first = (first + words[index] + second) & 0xFFFFFFFF
        second = (second + words[index + 1] + first) & 0xFFFFFFFF
    return first, second
