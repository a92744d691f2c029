"""Copies a database's file and writes the WAL's frames over the copy: `python -I -m actions.backups.copy_process`.

It reads one order from its input. It is a process of its own, with no SQLite in it: closing a descriptor of the database in a
process that has a connection to it would drop that connection's locks (docs/safety.md). The caller holds the snapshot pinned.

Why the result is the snapshot: while a reader's mark M is held, checkpoints write nothing but frames 1 to M into the
database file, and the WAL is not reset. So a page of the file may be copied in any state, even torn: its newest frame up to M,
written over it afterwards, makes it right; and a page without such a frame is not written by a checkpoint. At mark 0 the reader
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
    """The files are not what the order says: the caller must copy in another way."""


def main() -> int:
    """Execute the order on the input; write the bytes done, a line each, then `{"ok": ...}` or `{"error": ...}`."""
    order = CopyOrder(**json.loads(sys.stdin.buffer.readline()))
    try:
        for done in execute_copy_order(order):
            _send_line({"done": done})
    except (CopyOrderMismatch, OSError) as error:
        _send_line({"error": str(error), "errno": error.errno if isinstance(error, OSError) else None})
        return 1
    _send_line({"ok": True})
    return 0


def execute_copy_order(order: CopyOrder) -> Iterator[int]:
    """Copy, yielding how many bytes are done after each chunk. Raises CopyOrderMismatch, OSError."""
    destination = os.open(order.destination, os.O_WRONLY | os.O_CLOEXEC)
    try:
        yield from _copy_database_file(order, destination)
        if order.frames > 0:
            _send_line({"phase": "frames"})
            yield from _apply_wal_frames(order, destination)
        os.ftruncate(destination, order.pages * order.page_size)
    finally:
        os.close(destination)


def encode_order(order: CopyOrder) -> bytes:
    """The order as the line of input."""
    return json.dumps(asdict(order)).encode() + b"\n"


def _copy_database_file(order: CopyOrder, destination: int) -> Iterator[int]:
    source = os.open(order.source, os.O_RDONLY | os.O_CLOEXEC)
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
    """Copy inside the kernel where it can. The file may grow at the same time: pages beyond the snapshot are cut off later."""
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


def _apply_wal_frames(order: CopyOrder, destination: int) -> Iterator[int]:
    """Write the newest frame of each page up to the mark over the copy, checking that each is of the pinned generation."""
    wal = os.open(order.wal, os.O_RDONLY | os.O_CLOEXEC)
    try:
        salt = bytes.fromhex(order.salt)
        if os.pread(wal, WAL_HEADER_BYTES, 0)[WAL_HEADER_SALT] != salt:
            raise CopyOrderMismatch("the WAL is of another generation than the pinned one")
        size = FRAME_HEADER_BYTES + order.page_size
        newest = _index_newest_frames(wal, order, salt)
        for number, (page, index) in enumerate(newest.items(), 1):
            frame = os.pread(wal, size, WAL_HEADER_BYTES + index * size)
            if len(frame) < size:
                raise CopyOrderMismatch(f"frame {index + 1} of {order.frames} is not whole")
            _write_all(destination, frame[FRAME_HEADER_BYTES:], (page - 1) * order.page_size)
            if number % 1000 == 0:
                yield order.pages * order.page_size
    finally:
        os.close(wal)


def _index_newest_frames(wal: int, order: CopyOrder, salt: bytes) -> dict[int, int]:
    """Map page numbers to the index of the newest frame up to the mark, without pages beyond the snapshot's end."""
    newest: dict[int, int] = {}
    size = FRAME_HEADER_BYTES + order.page_size
    for index in range(order.frames):
        header = os.pread(wal, FRAME_HEADER_BYTES, WAL_HEADER_BYTES + index * size)
        if len(header) < FRAME_HEADER_BYTES or header[FRAME_HEADER_SALT] != salt:
            raise CopyOrderMismatch(f"frame {index + 1} of {order.frames} is not of the pinned generation")
        page = int.from_bytes(header[:4])
        if page <= order.pages:
            newest[page] = index
    return newest


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _send_line(line: dict[str, object]) -> None:
    """Send a line to the caller; when the caller is gone, the copy is no longer needed."""
    try:
        sys.stdout.buffer.write(json.dumps(line).encode() + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
