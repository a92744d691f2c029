"""Pins the newest commit of a database: a read transaction, and which frames of the WAL belong to its snapshot.

`BEGIN` alone does not pin: a row must be read. While the pin is held the WAL cannot be reset.

A slot's mark need not be the reader's own snapshot: when all four slots are taken, a reader shares one whose mark is older,
perhaps hours older, than what it sees (walTryBeginRead in https://sqlite.org/src/file/src/wal.c). So the mark is compared
with the newest commit *before* the pin, whose time is the time of the snapshot: a mark below that is not used.

Slot 0 means "the file alone is the snapshot" only to a reader of the shared WAL-index. Where the `-shm` cannot be written and
no process has initialised it, SQLite holds slot 0 as well, and reads the WAL through an index of its own in memory
(walBeginShmUnreliable in wal.c). It does so with a read-only descriptor of the `-shm` and never with a writable one. With a
read-only one it cannot set a mark either, and shares an older one. So marks count only where the `-shm` is open for writing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import apsw

from actions.model.context import ActionContext
from actions.model.errors import Refused, Unverified
from actions.sqlite.disk_space import size_or_zero
from collectors.access.at_rest import needs_reading_at_rest, open_at_rest
from collectors.access.connection import open_read_only
from collectors.access.errors import NotAtRest
from collectors.raw_reader.client import LockTableUnseen, RawReaderUnavailable
from collectors.raw_reader.formats import FIRST_READ_BYTE, LAST_READ_BYTE, WalIndex

_UNSEEN = "the kernel does not show which frames belong to the snapshot"
_SHARED_SLOT = "all read slots are taken, and the shared one is older than the snapshot"
_UNWRITABLE_INDEX = "the -shm cannot be written here, so it does not show which frames SQLite reads"
_NOT_COPIED = "the WAL-index does not prove that the file alone is the snapshot"


@dataclass(frozen=True, slots=True)
class SnapshotMark:
    """The frames of the snapshot: 1 to `frame` of the generation `salt` (hex); 0: the database file alone is the snapshot."""

    frame: int
    salt: str


@dataclass(frozen=True, slots=True)
class SnapshotPin:
    """A read transaction on `source`. `taken_at`: seconds since the epoch; `wal_before`: bytes of the WAL file before it.

    `held` is false for a rollback-journal database, which is not pinned. `mark` is None where it is not proved which frames
    the snapshot has; `mark_note` says why.
    """

    source: apsw.Connection
    taken_at: float
    held: bool
    mark: SnapshotMark | None
    mark_note: str
    page_size: int
    pages: int
    wal_before: int


@contextmanager
def pin_snapshot(context: ActionContext) -> Iterator[SnapshotPin]:
    """Pin the newest commit of the target for the block. Raises Refused, apsw.Error, OSError.

    In rollback-journal mode a read transaction would stop every commit, so there none is held. A WAL database that no process
    has open, where SQLite cannot make its files (a read-only mount), is kept at rest instead.
    """
    if _must_rest(context):
        with _pin_at_rest(context) as pin:
            yield pin
        return
    wal_before = size_or_zero(context.target.wal)
    with open_read_only(context.target.path) as source:
        held = _uses_wal(context, source)
        taken_at = context.now()
        before = _read_wal_index(context) if held else None
        if held:
            source.execute("BEGIN")
        source.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
        mark = _own_read_mark(context, before) if held else ""
        yield SnapshotPin(
            source=source,
            taken_at=taken_at,
            held=held,
            mark=mark if isinstance(mark, SnapshotMark) else None,
            mark_note=mark if isinstance(mark, str) else "",
            page_size=int(source.pragma("page_size")),
            pages=int(source.pragma("page_count")),
            wal_before=wal_before,
        )


def _uses_wal(context: ActionContext, source: apsw.Connection) -> bool:
    """Whether the source is in WAL mode; SQLite opens its files to know. Raises Refused where it cannot read the WAL."""
    try:
        return bool(source.pragma("journal_mode") == "wal")
    except (apsw.CantOpenError, apsw.ReadOnlyError) as error:
        target, has_log = context.target, context.target.wal.exists()
        if has_log == target.shm.exists():
            raise
        without_index = "its -wal may hold commits, and SQLite cannot make the -shm here that it reads them by"
        without_log = "a -shm lies beside it, and SQLite cannot make the -wal here that belongs to it"
        raise Refused(
            f"{target.path}: {without_index if has_log else without_log}",
            reason="wal_unreadable",
            next_step="mount the folder writable, or copy the database "
            f"{'and its -wal' if has_log else 'alone'} to another folder and back that up",
        ) from error


def _must_rest(context: ActionContext) -> bool:
    with suppress(RawReaderUnavailable):
        return needs_reading_at_rest(context.target, context.raw)
    return False


@contextmanager
def _pin_at_rest(context: ActionContext) -> Iterator[SnapshotPin]:
    """The file alone is the snapshot, if it was at rest until the end of the block. Raises Unverified when it was not."""
    try:
        with open_at_rest(context.target, context.raw) as resting:
            source, taken_at = resting.connection, context.now()
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
            page_size, pages = int(source.pragma("page_size")), int(source.pragma("page_count"))
            yield SnapshotPin(source, taken_at, True, SnapshotMark(0, ""), "", page_size, pages, wal_before=0)
            resting.require_unchanged()
    except (NotAtRest, RawReaderUnavailable) as error:
        raise Unverified(str(error), reason="not_at_rest", next_step="run it again") from error


def _read_wal_index(context: ActionContext) -> WalIndex | None:
    with suppress(RawReaderUnavailable):
        return context.raw.read_wal_index(context.target.path)
    return None


def _own_read_mark(context: ActionContext, before: WalIndex | None) -> SnapshotMark | str:
    """The mark of the read lock that this process holds on the WAL-index, or why there is none that proves the snapshot.

    This is the only connection of the process that reads.
    """
    try:
        index = context.raw.read_wal_index(context.target.path)
        holders = context.raw.find_held_locks(context.target.path)
    except (LockTableUnseen, RawReaderUnavailable):
        return _UNSEEN
    own = [holder.row for holder in holders if holder.file == "shm" and holder.pid == os.getpid()]
    slots = [byte for byte in range(FIRST_READ_BYTE, LAST_READ_BYTE + 1) if any(row.covers_byte(byte) for row in own)]
    if index is None or len(slots) != 1:
        return _UNSEEN
    if not _writes_wal_index(context.target.shm):
        return _UNWRITABLE_INDEX
    slot = slots[0] - FIRST_READ_BYTE
    if slot == 0:
        return _whole_file_mark(before, index)
    mark = SnapshotMark(index.marks[slot], index.salt)
    return mark if _covers_earlier_commits(mark, before, index) else _SHARED_SLOT


def _whole_file_mark(before: WalIndex | None, index: WalIndex) -> SnapshotMark | str:
    """The mark 0, where the WAL-index says that every frame was copied at the pin.

    While slot 0 is held no frame is copied, so "all copied" at either side of the pin was so at the pin too.
    """
    if index.pending_frames == 0 or (before is not None and before.pending_frames == 0):
        return SnapshotMark(0, index.salt)
    return _NOT_COPIED


def _writes_wal_index(shm: Path) -> bool:
    """Whether this process has the WAL-index open for writing, by the kernel's list of its descriptors."""
    try:
        status = shm.stat()
        descriptors = [entry.name for entry in os.scandir("/proc/self/fd") if _is_same_file(entry.path, status)]
        infos = [Path("/proc/self/fdinfo", name).read_text() for name in descriptors]
    except OSError:
        return False
    flags = [int(line.split()[1], 8) for info in infos for line in info.splitlines() if line.startswith("flags:")]
    return bool(flags) and all(flag & os.O_ACCMODE == os.O_RDWR for flag in flags)


def _is_same_file(path: str, status: os.stat_result) -> bool:
    with suppress(OSError):  # the descriptor of this very listing is gone
        return os.path.samestat(os.stat(path), status)  # noqa: PTH116 one call for each descriptor
    return False


def _covers_earlier_commits(mark: SnapshotMark, before: WalIndex | None, index: WalIndex) -> bool:
    """Whether frames 1 to the mark hold every commit from before the pin.

    In a newer generation of the WAL everything of the older one is in the database file already.
    """
    if before is None:
        return mark.frame == index.frames
    return mark.salt != before.salt or mark.frame >= before.frames
