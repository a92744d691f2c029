"""The file formats: a database's header, its WAL and WAL-index, and the kernel's lock table. Constants and parsers, pure.

Formats: https://sqlite.org/fileformat2.html#the_database_header, https://sqlite.org/walformat.html (the WAL-index), and
proc(5) for /proc/locks. Nothing here may import SQLite: the raw reader is a process without it (docs/safety.md).
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple

DATABASE_HEADER_BYTES = 100
WAL_INDEX_BYTES = 136
MAGIC = b"SQLite format 3\0"
UNUSED_MARK = 0xFFFFFFFF

# The WAL file: its own header, and each frame's header before the page. Both hold the salt, which is the WAL's generation.
WAL_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
WAL_HEADER_SALT, FRAME_HEADER_SALT = slice(16, 24), slice(8, 16)

# Lock bytes of the WAL-index (walformat.html, "WAL locks") and of the main file (os.h: PENDING_BYTE and after).
WRITE_BYTE, CHECKPOINT_BYTE, RECOVER_BYTE = 120, 121, 122
FIRST_READ_BYTE, LAST_READ_BYTE, CONNECTED_BYTE = 123, 127, 128
PENDING_BYTE = 0x40000000
RESERVED_BYTE, SHARED_FIRST, SHARED_BYTES = PENDING_BYTE + 1, PENDING_BYTE + 2, 510

_END_OF_FILE = 2**63 - 1


@dataclass(frozen=True, slots=True)
class DatabaseHeader:
    """The header of a database file. In WAL mode it is only as new as the last checkpoint.

    `reserved`: bytes at the end of each page that belong to an extension of the application's SQLite, not to SQLite.
    `owner_version` is the library that last rewrote page 1, which may have been ours: it informs, it proves nothing.
    """

    valid: bool
    page_size: int
    wal: bool
    free_pages: int
    auto_vacuum: str
    user_version: int
    application_id: int
    owner_version: str
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class WalIndex:
    """The header of a WAL-index (the -shm file).

    `frames`: newest committed frame; `copied`: frames already in the database; `salt`: the WAL's generation;
    `marks`: the frame each read slot may need; a mark proves a reader only with a lock on its byte.
    """

    changes: int
    page_size: int
    frames: int
    pages: int
    salt: str
    copied: int
    marks: tuple[int, int, int, int, int]

    @property
    def pending_frames(self) -> int:
        """Frames that are not yet copied into the database."""
        return max(0, self.frames - self.copied)


class LockRow(NamedTuple):
    """One held lock of the kernel's table. `pid` is -1 for an open-file-description lock (the kernel names no process)."""

    kind: str
    mode: str
    pid: int
    major: int
    minor: int
    inode: int
    start: int
    end: int

    def covers_byte(self, byte: int) -> bool:
        """Whether this byte of the file is in the locked range."""
        return self.start <= byte <= self.end


def wal_file_bytes(frames: int, page_size: int) -> int:
    """The size of a WAL file that holds `frames` frames, in bytes."""
    return WAL_HEADER_BYTES + frames * (FRAME_HEADER_BYTES + page_size)


def parse_database_header(data: bytes) -> DatabaseHeader:
    """Parse the header in the first 100 bytes. Raises ValueError when there are fewer."""
    if len(data) < DATABASE_HEADER_BYTES:
        raise ValueError(f"a database header has {DATABASE_HEADER_BYTES} bytes, got {len(data)}")
    (page_size,) = struct.unpack_from(">H", data, 16)
    (free_pages,) = struct.unpack_from(">I", data, 36)
    root, _encoding, user_version, incremental, application_id = struct.unpack_from(">5I", data, 52)
    (owner,) = struct.unpack_from(">I", data, 96)
    return DatabaseHeader(
        valid=data[:16] == MAGIC,
        page_size=65536 if page_size == 1 else page_size,
        wal=data[18:20] == b"\2\2",
        free_pages=free_pages,
        auto_vacuum=_auto_vacuum_mode(root, incremental),
        user_version=user_version,
        application_id=application_id,
        owner_version=_version_text(owner),
        reserved=data[20],
    )


def parse_wal_index(data: bytes) -> WalIndex | None:
    """Parse the WAL-index in its first 136 bytes; None when it is torn, not initialised or its checksum is wrong.

    A writer publishes two copies one after the other; two different ones mean that it is publishing now: read again.
    Numbers are in the byte order of the machine, salts are raw bytes.
    """
    if len(data) < WAL_INDEX_BYTES or data[:48] != data[48:96] or not _checksum_matches(data):
        return None
    changes, initialised, _big, page_size, frames, pages = struct.unpack_from("=IBBHII", data, 8)
    if not initialised:
        return None
    copied, *marks = struct.unpack_from("=6I", data, 96)
    return WalIndex(
        changes=changes,
        page_size=65536 if page_size == 1 else page_size,
        frames=frames,
        pages=pages,
        salt=data[32:40].hex(),
        copied=copied,
        marks=(marks[0], marks[1], marks[2], marks[3], marks[4]),
    )


def parse_lock_rows(text: str) -> tuple[LockRow, ...]:
    """Parse the held locks of /proc/locks; waiting processes ("->") and what is no file lock (leases) are left out."""
    rows = (_parse_lock_row(line.split()) for line in text.splitlines())
    return tuple(row for row in rows if row is not None)


def _parse_lock_row(words: list[str]) -> LockRow | None:
    if len(words) != 8 or words[1] not in ("POSIX", "OFDLCK", "FLOCK"):
        return None
    major, minor, inode = words[5].split(":")
    end = _END_OF_FILE if words[7] == "EOF" else int(words[7])
    return LockRow(words[1], words[3], int(words[4]), int(major, 16), int(minor, 16), int(inode), int(words[6]), end)


def _checksum_matches(data: bytes) -> bool:
    first = second = 0
    words = struct.unpack_from("=10I", data, 0)
    for index in range(0, 10, 2):
        first = (first + words[index] + second) & 0xFFFFFFFF
        second = (second + words[index + 1] + first) & 0xFFFFFFFF
    return struct.unpack_from("=2I", data, 40) == (first, second)


def _auto_vacuum_mode(root: int, incremental: int) -> str:
    if root == 0:
        return "none"
    return "incremental" if incremental else "full"


def _version_text(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}" if number else ""
