"""Copies a damaged database with its WAL and journal into a private place, so that nothing else touches the source.

Plain reads: the process that does it must have no SQLite connection to the source (docs/safety.md). Blocks that the disk
does not give any more are left out as zeros and counted.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from actions.salvaging.disk_reads import read_counting_lost

SIDECARS = ("-wal", "-journal")

_BLOCK = 1024 * 1024
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class CopyFacts:
    """How the copy went. `size` of all files in bytes; `unreadable` bytes that the disk did not give.

    `changed`: a process wrote to the source while it was copied, each of several times.
    """

    size: int
    unreadable: int
    changed: bool


def copy_damaged_files(source: Path, copy: Path, pause: Callable[[int], None]) -> CopyFacts:
    """Copy the database to `copy` and its sidecars beside that, 0600; once more when they changed meanwhile.

    `pause` is called with the bytes copied so far, and may raise. Raises OSError.
    """
    size = unreadable = 0
    for _ in range(_ATTEMPTS):
        before = _read_state(source)
        size = unreadable = 0
        for suffix in ("", *SIDECARS):
            part = source.with_name(source.name + suffix)
            target = copy.with_name(copy.name + suffix)
            target.unlink(missing_ok=True)
            if suffix == "" or part.is_file():
                copied, lost = _copy_file(part, target, lambda count, done=size: pause(done + count))  # type: ignore[misc]
                size, unreadable = size + copied, unreadable + lost
        if _read_state(source) == before:
            return CopyFacts(size, unreadable, changed=False)
    return CopyFacts(size, unreadable, changed=True)


def source_bytes(source: Path) -> int:
    """The bytes of the files that are copied. Raises OSError."""
    parts = (source.with_name(source.name + suffix) for suffix in SIDECARS)
    return source.stat().st_size + sum(part.stat().st_size for part in parts if part.is_file())


def _read_state(source: Path) -> tuple[tuple[int, int, int], ...]:
    """Size, time of change and inode of each file; zeros for one that is not there."""
    states = []
    for suffix in ("", *SIDECARS):
        try:
            status = source.with_name(source.name + suffix).stat()
        except FileNotFoundError:
            states.append((0, 0, 0))
        else:
            states.append((status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(states)


def _copy_file(source: Path, target: Path, pause: Callable[[int], None]) -> tuple[int, int]:
    """Copy one file; returns (bytes, of which unreadable)."""
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0))
    try:
        writing = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            return _copy_blocks(reading, writing, pause)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_blocks(reading: int, writing: int, pause: Callable[[int], None]) -> tuple[int, int]:
    size, offset, unreadable = os.fstat(reading).st_size, 0, 0
    while offset < size:
        block, lost = read_counting_lost(reading, min(_BLOCK, size - offset), offset)
        if not block:
            break
        _write_block(writing, block)
        offset, unreadable = offset + len(block), unreadable + lost
        pause(offset)
    return offset, unreadable


def _write_block(writing: int, block: bytes) -> None:
    written = 0
    while written < len(block):
        written += os.write(writing, block[written:])
