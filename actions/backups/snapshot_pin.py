"""Pins the newest commit of a database: a read transaction, and which frames of the WAL belong to its snapshot.

`BEGIN` alone does not pin: a row must be read. While the pin is held the WAL cannot be reset.

A slot's mark need not be the reader's own snapshot: when all four slots are taken, a reader shares one whose mark is older,
perhaps hours older, than what it sees (walTryBeginRead in https://sqlite.org/src/file/src/wal.c). So the mark is compared
with the newest commit *before* the pin, whose time is the time of the snapshot: a mark below that is not used.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import apsw

from actions.model.context import ActionContext
from actions.sqlite.disk_space import size_or_zero
from collectors.access.connection import open_read_only
from collectors.raw_reader.client import LockTableUnseen, RawReaderUnavailable
from collectors.raw_reader.formats import FIRST_READ_BYTE, LAST_READ_BYTE, WalIndex


@dataclass(frozen=True, slots=True)
class SnapshotMark:
    """The frames of the snapshot: 1 to `frame` of the generation `salt` (hex); 0: the database file alone is the snapshot."""

    frame: int
    salt: str


@dataclass(frozen=True, slots=True)
class SnapshotPin:
    """A read transaction on `source`. `taken_at`: seconds since the epoch; `wal_before`: bytes of the WAL file before it.

    `held` is false for a rollback-journal database, which is not pinned. `mark` is None where the kernel's lock table does
    not show it, or where it is older than `taken_at`.
    """

    source: apsw.Connection
    taken_at: float
    held: bool
    mark: SnapshotMark | None
    page_size: int
    pages: int
    wal_before: int


@contextmanager
def pin_snapshot(context: ActionContext) -> Iterator[SnapshotPin]:
    """Pin the newest commit of the target for the block. Raises apsw.Error, OSError.

    In rollback-journal mode a read transaction would stop every commit, so there none is held.
    """
    wal_before = size_or_zero(context.target.wal)
    with open_read_only(context.target.path) as source:
        held = source.pragma("journal_mode") == "wal"
        taken_at = context.now()
        before = _read_wal_index(context) if held else None
        if held:
            source.execute("BEGIN")
        source.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
        yield SnapshotPin(
            source=source,
            taken_at=taken_at,
            held=held,
            mark=_own_read_mark(context, before) if held else None,
            page_size=int(source.pragma("page_size")),
            pages=int(source.pragma("page_count")),
            wal_before=wal_before,
        )


def _read_wal_index(context: ActionContext) -> WalIndex | None:
    with suppress(RawReaderUnavailable):
        return context.raw.read_wal_index(context.target.path)
    return None


def _own_read_mark(context: ActionContext, before: WalIndex | None) -> SnapshotMark | None:
    """The mark of the read lock that this process holds on the WAL-index: this is its only connection that reads."""
    try:
        index = context.raw.read_wal_index(context.target.path)
        holders = context.raw.find_held_locks(context.target.path)
    except (LockTableUnseen, RawReaderUnavailable):
        return None
    own = [holder.row for holder in holders if holder.file == "shm" and holder.pid == os.getpid()]
    slots = [byte for byte in range(FIRST_READ_BYTE, LAST_READ_BYTE + 1) if any(row.covers_byte(byte) for row in own)]
    if index is None or len(slots) != 1:
        return None
    slot = slots[0] - FIRST_READ_BYTE
    mark = SnapshotMark(0 if slot == 0 else index.marks[slot], index.salt)
    return mark if slot == 0 or _covers_earlier_commits(mark, before, index) else None


def _covers_earlier_commits(mark: SnapshotMark, before: WalIndex | None, index: WalIndex) -> bool:
    """Whether frames 1 to the mark hold every commit from before the pin.

    In a newer generation of the WAL everything of the older one is in the database file already.
    """
    if before is None:
        return mark.frame == index.frames
    return mark.salt != before.salt or mark.frame >= before.frames
