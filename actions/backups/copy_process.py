"""Copies a database's file and lays the WAL's frames over it: `python -I -m actions.backups.copy_process`, orders on its input.

A process of its own, with no SQLite in it: closing a descriptor of the database in a process that has a connection to it
would drop that connection's locks (docs/safety.md). Whoever started it holds the snapshot pinned meanwhile.

Why the result is the snapshot: while a reader's mark M is held, checkpoints write nothing but frames 1 to M into the
database file, and the WAL is not reset. So whatever state a page of the file is copied in, even torn, its newest frame up
to M, laid over it afterwards, makes it right; and a page without such a frame is not written at all. At mark 0 the reader
uses no frame, and no checkpoint may write the file while it reads (https://sqlite.org/walformat.html, "WAL locks").
"""

import errno
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from collectors.raw_reader.formats import (
    FRAME_HEADER_BYTES,
    FRAME_HEADER_SALT,
    WAL_HEADER_BYTES,
    WAL_HEADER_SALT,
)

CHUNK_BYTES = 16 * 1024 * 1024
_FICLONE = 0x40049409  # linux/fs.h: share the extents, on file systems that can


@dataclass(frozen=True, slots=True)
class CopyOrder:
    """What to copy. `frames`: the pinned mark; `salt`: the WAL's generation, 8 bytes in hex; `pages` of the snapshot."""

    source: str
    wal: str
    destination: str
    frames: int
    salt: str
    page_size: int
    pages: int


class CopyOrderMismatch(Exception):
    """The files are not what the orders say: the caller must copy otherwise."""


def main() -> int:
    """Do what the one line of input orders; tell the bytes done, a line each, then `{"ok": ...}` or `{"error": ...}`."""
    orders = CopyOrder(**json.loads(sys.stdin.buffer.readline()))
    try:
        for done in execute_copy_order(orders):
            _send_line({"done": done})
    except (CopyOrderMismatch, OSError) as error:
        _send_line({"error": str(error), "errno": error.errno if isinstance(error, OSError) else None})
        return 1
    _send_line({"ok": True})
    return 0


def execute_copy_order(orders: CopyOrder) -> Iterator[int]:
    """Copy, yielding how many bytes are done after each chunk. Raises CannotCopy, OSError."""
    destination = os.open(orders.destination, os.O_WRONLY | os.O_CLOEXEC)
    try:
        yield from _copy_database_file(orders, destination)
        if orders.frames > 0:
            _send_line({"phase": "frames"})
            yield from _apply_wal_frames(orders, destination)
        os.ftruncate(destination, orders.pages * orders.page_size)
    finally:
        os.close(destination)


def encode_order(orders: CopyOrder) -> bytes:
    """The line that orders this."""
    return json.dumps(asdict(orders)).encode() + b"\n"


def _copy_database_file(orders: CopyOrder, destination: int) -> Iterator[int]:
    source = os.open(orders.source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _try_clone(source, destination):
            yield os.fstat(source).st_size
        else:
            yield from _copy_chunks(source, destination)
    finally:
        os.close(source)


def _try_clone(source: int, destination: int) -> bool:
    try:
        import fcntl  # only POSIX has it

        fcntl.ioctl(destination, _FICLONE, source)
    except (ImportError, OSError):
        return False
    return True


def _copy_chunks(source: int, destination: int) -> Iterator[int]:
    """Inside the kernel where it can. The file may grow meanwhile: what lies beyond the snapshot is cut off later."""
    done, total = 0, os.fstat(source).st_size
    while done < total:
        copied = _copy_chunk(source, destination, done, min(CHUNK_BYTES, total - done))
        if copied == 0:
            return  # it became shorter: the snapshot's pages are in the WAL
        done += copied
        yield done


def _copy_chunk(source: int, destination: int, offset: int, size: int) -> int:
    try:
        return os.copy_file_range(source, destination, size, offset, offset)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (
            errno.EXDEV,
            errno.EINVAL,
            errno.ENOSYS,
            errno.EOPNOTSUPP,
        ):
            raise
    block = os.pread(source, size, offset)
    _write_all(destination, block, offset)
    return len(block)


def _apply_wal_frames(orders: CopyOrder, destination: int) -> Iterator[int]:
    """Write the newest frame of each page up to the mark over the copy, checking that each is of the pinned generation."""
    wal = os.open(orders.wal, os.O_RDONLY | os.O_CLOEXEC)
    try:
        salt = bytes.fromhex(orders.salt)
        if os.pread(wal, WAL_HEADER_BYTES, 0)[WAL_HEADER_SALT] != salt:
            raise CopyOrderMismatch("the WAL is of another generation than the pinned one")
        size = FRAME_HEADER_BYTES + orders.page_size
        newest = _index_newest_frames(wal, orders, salt)
        for number, (page, index) in enumerate(newest.items(), 1):
            frame = os.pread(wal, size, WAL_HEADER_BYTES + index * size)
            if len(frame) < size:
                raise CopyOrderMismatch(f"frame {index + 1} of {orders.frames} is not whole")
            _write_all(destination, frame[FRAME_HEADER_BYTES:], (page - 1) * orders.page_size)
            if number % 1000 == 0:
                yield orders.pages * orders.page_size
    finally:
        os.close(wal)


def _index_newest_frames(wal: int, orders: CopyOrder, salt: bytes) -> dict[int, int]:
    """Page number to the index of its newest frame up to the mark; pages beyond the snapshot's end are left out."""
    newest: dict[int, int] = {}
    size = FRAME_HEADER_BYTES + orders.page_size
    for index in range(orders.frames):
        header = os.pread(wal, FRAME_HEADER_BYTES, WAL_HEADER_BYTES + index * size)
        if len(header) < FRAME_HEADER_BYTES or header[FRAME_HEADER_SALT] != salt:
            raise CopyOrderMismatch(f"frame {index + 1} of {orders.frames} is not of the pinned generation")
        page = int.from_bytes(header[:4])
        if page <= orders.pages:
            newest[page] = index
    return newest


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _send_line(line: dict[str, object]) -> None:
    """Tell the caller; when it is gone, nobody needs the copy."""
    try:
        sys.stdout.buffer.write(json.dumps(line).encode() + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
