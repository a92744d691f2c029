"""Detects by stat whether a database's files changed: when they did not, nothing was committed in between.

Measured (tests/collectors/test_poll_if_changed.py): a commit that reuses the WAL changes nothing but the WAL's modification
time, a checkpoint alone changes the database file's, so both are compared. Kernels before 6.13 give files the time of
their last clock tick, up to 10 ms old: a file that was written just now may be written again without a trace.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from collectors.target import Target

# Longer than a clock tick of any kernel, in nanoseconds.
SETTLED_AFTER = 100_000_000

# Size, modification time in ns, inode, device; None for a file that is not there.
FileStamp = tuple[int, int, int, int] | None


@dataclass(frozen=True, slots=True)
class FileSignature:
    """The stat of the three files. `settled`: their last change is long enough ago for a later one to show."""

    database: FileStamp
    wal: FileStamp
    journal: FileStamp
    settled: bool

    def is_same_as(self, other: "FileSignature") -> bool:
        """Whether nothing was written between the two signatures; the earlier one must have been settled."""
        return (self.database, self.wal, self.journal) == (other.database, other.wal, other.journal)


def read_signature(target: Target, now: float) -> FileSignature:
    """Stat the three files; `now` in seconds since the epoch. Opens nothing. Raises OSError without permission."""
    database, wal, journal = _read_stamp(target.path), _read_stamp(target.wal), _read_stamp(target.journal)
    return FileSignature(database, wal, journal, is_settled((database, wal, journal), now))


def is_settled(stamps: tuple[FileStamp, ...], now: float) -> bool:
    """Whether every change is older than SETTLED_AFTER; a time in the future proves nothing."""
    return all(stamp is None or now * 1e9 - stamp[1] > SETTLED_AFTER for stamp in stamps)


def _read_stamp(path: Path) -> FileStamp:
    try:
        status = os.stat(path)  # noqa: PTH116 - half the cost of Path.stat, and this is done for every database
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev
