"""A snapshot held still: a read transaction, and which frames of the WAL belong to it.

`BEGIN` alone does not pin: a row must be read. While it is held the WAL cannot be reset.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import apsw

from actions.run.work import Work
from actions.writing.free_space import size_or_zero
from collectors.raw_reader.ask import LockTableUnseen, RawReaderUnavailable
from collectors.raw_reader.layout import FIRST_READ_BYTE, LAST_READ_BYTE
from collectors.reading.connection import read_only


@dataclass(frozen=True, slots=True)
class Mark:
    """The frames of the snapshot: 1 to `frame` of the generation `salt` (hex). 0: the database file alone is the snapshot."""

    frame: int
    salt: str


@dataclass(frozen=True, slots=True)
class Pin:
    """`taken_at`: seconds since the epoch. `held`: false for a rollback-journal database, which is not pinned.

    `mark` is None where the kernel's lock table does not show it.
    """

    source: apsw.Connection
    taken_at: float
    held: bool
    mark: Mark | None
    page_size: int
    pages: int
    wal_before: int


@contextmanager
def pinned(work: Work) -> Iterator[Pin]:
    """Hold the newest commit of the target still. Raises apsw.Error, OSError.

    In rollback-journal mode a held read would stop every commit, so there nothing is held.
    """
    wal_before = size_or_zero(work.target.wal)
    with read_only(work.target.path) as source:
        held = source.pragma("journal_mode") == "wal"
        if held:
            source.execute("BEGIN")
        source.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
        taken_at = work.now()
        yield Pin(
            source=source,
            taken_at=taken_at,
            held=held,
            mark=_own_mark(work) if held else None,
            page_size=int(source.pragma("page_size")),
            pages=int(source.pragma("page_count")),
            wal_before=wal_before,
        )


def _own_mark(work: Work) -> Mark | None:
    """By the read lock that this process holds on the WAL-index: this is its only connection that reads."""
    try:
        index = work.raw.wal_index(work.target.path)
        holders = work.raw.holders(work.target.path)
    except (LockTableUnseen, RawReaderUnavailable):
        return None
    own = [holder.row for holder in holders if holder.file == "shm" and holder.pid == os.getpid()]
    slots = [byte for byte in range(FIRST_READ_BYTE, LAST_READ_BYTE + 1) if any(row.covers(byte) for row in own)]
    if index is None or len(slots) != 1:
        return None
    slot = slots[0] - FIRST_READ_BYTE
    return Mark(0 if slot == 0 else index.marks[slot], index.salt)
