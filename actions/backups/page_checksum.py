"""Makes the checksums of pages anew in a copy of a database whose application uses SQLite's checksum VFS.

That extension ends each page with 8 bytes of checksum, and its application gets "disk I/O error" for a page where they are
wrong (https://sqlite.org/cksumvfs.html). It writes them into the database file alone: pages in the WAL lack theirs until a
checkpoint, and the first page of a copy has another header. Only such pages get theirs here; a wrong one elsewhere is damage.
"""

import struct
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import BinaryIO

CHECKSUM_BYTES = 8
_RESERVED_AT = 20
_WORD = 0xFFFFFFFF
# So many other pages show whether these are checksums of this kind.
_SAMPLED_PAGES = 8


def renew_checksums(path: Path, pages: Collection[int]) -> bool:
    """Make the checksums of these pages anew, where the file has such checksums; whether it has. Raises OSError.

    It has them where no page but these says otherwise. For a private file that no process has open.
    """
    with path.open("r+b") as file:
        page_size = _page_size(file.read(100))
        if page_size is None:
            return False
        count = path.stat().st_size // page_size
        others = (number for number in range(1, count + 1) if number not in pages)
        if not all(_is_right(_read_page(file, number, page_size)) for number in islice(others, _SAMPLED_PAGES)):
            return False
        for number in pages:
            page = _read_page(file, number, page_size)
            file.seek(number * page_size - CHECKSUM_BYTES)
            file.write(page_checksum(page))
    return True


def _read_page(file: BinaryIO, number: int, page_size: int) -> bytes:
    file.seek((number - 1) * page_size)
    return file.read(page_size)


def _is_right(page: bytes) -> bool:
    return page[-CHECKSUM_BYTES:] == page_checksum(page)


def page_checksum(page: bytes) -> bytes:
    """The 8 bytes at the end of this page: two sums over its 32-bit words (cksmCompute in ext/misc/cksumvfs.c)."""
    first = second = 0
    words = struct.unpack(f"<{(len(page) - CHECKSUM_BYTES) // 4}I", page[:-CHECKSUM_BYTES])
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & _WORD
        second = (second + odd + first) & _WORD
    return struct.pack("<2I", first, second)


def _page_size(first: bytes) -> int | None:
    """The size of a page, where each ends with as many bytes as such a checksum has."""
    if len(first) < 100 or first[_RESERVED_AT] != CHECKSUM_BYTES:
        return None
    (size,) = struct.unpack_from(">H", first, 16)
    return 65536 if size == 1 else int(size)
