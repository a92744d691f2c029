"""Compares every page of a copy with what SQLite reads in the pinned transaction.

SQLite shows no page to SQL here (`sqlite_dbpage` is not compiled in). Its backup API reads every page of the source through the
pager, and writes it to a file of ours that is none: a VFS that compares what it is given with the copy, and keeps nothing.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from actions.backups.content_proof import not_proved_error
from actions.backups.file_compare import same_page
from actions.backups.snapshot_pin import SnapshotPin
from actions.model.context import ActionContext
from actions.sqlite.wal_budget import check_wal_growth
from collectors.raw_reader.formats import PENDING_BYTE

_PAGES_PER_STEP = 2000


@dataclass
class _SinkState:
    """The copy that is compared; `compared` has a byte for each page from 0, and `differing` page numbers."""

    descriptor: int
    page_size: int
    compared: bytearray
    size: int = 0
    differing: set[int] = field(default_factory=set)


class _ComparingFile:
    """What SQLite takes for the file of the backup's destination. It never sees its pages again, but for the first."""

    def __init__(self, state: _SinkState) -> None:
        self._state = state

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 SQLite's name
        state = self._state
        return os.pread(state.descriptor, amount, offset) if offset < state.size else b""

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 SQLite's name
        state = self._state
        size = len(data)
        page = offset // state.page_size + 1
        state.size = max(state.size, offset + size)
        state.compared[page] = 1
        if data == os.pread(state.descriptor, size, offset):
            state.differing.discard(page)
        elif not same_page(page, bytes(data), os.pread(state.descriptor, size, offset)):
            state.differing.add(page)

    def xFileSize(self) -> int:  # noqa: N802 SQLite's name
        return self._state.size

    def xTruncate(self, size: int) -> None:  # noqa: N802 SQLite's name
        self._state.size = size

    def xCheckReservedLock(self) -> bool:  # noqa: N802 SQLite's name
        return False

    def xFileControl(self, _op: int, _pointer: int) -> bool:  # noqa: N802 SQLite's name
        return False

    def xSectorSize(self) -> int:  # noqa: N802 SQLite's name
        return self._state.page_size

    def xDeviceCharacteristics(self) -> int:  # noqa: N802 SQLite's name
        return 0

    def _nothing(self, *_arguments: object) -> None:
        """No file is behind it: there is nothing to lock, to sync or to close."""

    xClose = xSync = xLock = xUnlock = _nothing  # noqa: N815 SQLite's names


class _ComparingVfs(apsw.VFS):
    def __init__(self, name: str, state: _SinkState) -> None:
        self._state = state
        super().__init__(name, "")

    def xOpen(self, _name: object, _flags: list[int]) -> _ComparingFile:  # type: ignore[override]  # noqa: N802 SQLite's name
        return _ComparingFile(self._state)

    def xAccess(self, _path: str, _flags: int) -> bool:  # noqa: N802 SQLite's name
        return False

    def xDelete(self, _path: str, _sync: bool) -> None:  # noqa: N802 SQLite's name
        """Nothing is there to delete."""


def compare_all_pages(context: ActionContext, pin: SnapshotPin, destination: Path) -> int:
    """How many pages were compared. Raises Unverified when one differs, ActionError, apsw.Error, OSError."""
    descriptor = os.open(destination, os.O_RDONLY | os.O_CLOEXEC)
    try:
        state = _SinkState(descriptor, pin.page_size, bytearray(pin.pages + 1))
        _feed_pages(context, pin, state)
    finally:
        os.close(descriptor)
    _require_all_pages(pin, destination, state)
    return state.compared.count(1)


def _feed_pages(context: ActionContext, pin: SnapshotPin, state: _SinkState) -> None:
    name = f"queuekeeper-compare-{id(state)}"
    vfs = _ComparingVfs(name, state)
    sink = apsw.Connection("compared", vfs=name)
    try:
        # A cache of few pages: each page is compared soon after it was read, and memory does not grow with the database.
        sink.execute("PRAGMA cache_size=20; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF").fetchall()
        backup = sink.backup("main", pin.source, "main")
        try:
            while not backup.done:
                backup.step(_PAGES_PER_STEP)
                context.emit_progress("compared pages", backup.page_count - backup.remaining, backup.page_count)
                context.stop.raise_if_requested()
                check_wal_growth(context, pin.wal_before)
        finally:
            backup.close(True)  # the step raised the error already
    finally:
        sink.close()
        vfs.unregister()


def _require_all_pages(pin: SnapshotPin, destination: Path, state: _SinkState) -> None:
    lock_page = PENDING_BYTE // pin.page_size + 1  # SQLite never uses it
    missing = pin.pages - state.compared.count(1) - (lock_page <= pin.pages)
    if state.differing:
        raise not_proved_error(
            destination,
            f"page {min(state.differing)} and {len(state.differing) - 1} others differ from what SQLite reads in the source",
        )
    if missing:
        raise not_proved_error(destination, f"{missing} of {pin.pages} pages could not be compared with the source")
