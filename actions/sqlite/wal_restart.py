"""Starts the WAL over and leaves a large file as it is: a TRUNCATE checkpoint without its cut.

Cutting a large file keeps the application waiting, since SQLite cuts it under the write lock. So this connection's VFS does not
cut a file that is larger than what can be cut within the budget: it makes the header of the WAL invalid instead. To every
SQLite both mean the same: the WAL has no frames (walIndexRecover in https://sqlite.org/src/file/src/wal.c: a header
without the magic number ends the recovery at once). The file is then cut in slices (actions/maintenance/wal_slices.py).

SQLite calls it where it would cut: every frame is copied and synced, the WAL-index has a new salt, and the write lock and
the locks of all readers of the WAL are held.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import apsw

from actions.sqlite.connection import open_writable
from collectors.raw_reader.formats import WAL_HEADER_BYTES

# SQLite finds a VFS by its name: threads that shrink different databases need different ones.
_VFS_NUMBERS = count(1)
DEAD_HEADER = bytes(WAL_HEADER_BYTES)


@dataclass(slots=True)
class _VfsFiles:
    """What the VFS knows: how many bytes may be cut at once, whether the WAL file was cut, and the open files."""

    at_most: int
    has_cut: bool = False
    database: apsw.VFSFile | None = None
    wal: apsw.VFSFile | None = None


@dataclass(frozen=True, slots=True)
class RestartConnection:
    """A connection for TRUNCATE checkpoints."""

    connection: apsw.Connection
    _files: _VfsFiles

    @property
    def has_cut_file(self) -> bool:
        """Whether a checkpoint made the WAL file empty; otherwise one that succeeded has made its frames invalid."""
        return self._files.has_cut

    def sync_files(self) -> float:
        """Write the WAL and the database file to the disk, without any lock; returns the seconds that it took.

        A checkpoint syncs the database only where it has copied every frame: beside a writer that is the one under the write
        lock, which would then wait for the disk with all that earlier checkpoints copied. Through SQLite's own
        descriptors: closing another one of the database would drop the locks of this process. Raises apsw.Error.
        """
        self.connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()  # opens the WAL
        begun = time.monotonic()
        for file in (self._files.wal, self._files.database):
            if file is not None:
                file.xSync(apsw.SQLITE_SYNC_NORMAL)
        return time.monotonic() - begun


class _UncutWalFile(apsw.VFSFile):
    """A WAL file that is cut only where that is decided to be short."""

    def __init__(self, name: apsw.URIFilename | str | None, flags: list[int], files: _VfsFiles) -> None:
        super().__init__("", name, flags)
        self._files = files

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - apsw's name
        """Cut the file, or make its frames invalid."""
        if newsize == 0 and self.xFileSize() > self._files.at_most:
            self.xWrite(DEAD_HEADER, 0)
        else:
            super().xTruncate(newsize)
            self._files.has_cut = True


class _UncutWalVfs(apsw.VFS):
    """The default VFS, with an `_UncutWalFile` for the WAL. https://rogerbinns.github.io/apsw/vfs.html"""

    def __init__(self, name: str, files: _VfsFiles) -> None:
        super().__init__(name, "")
        self._files = files

    def xOpen(self, name: apsw.URIFilename | str | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name
        """Open a file of the connection."""
        if flags[0] & apsw.SQLITE_OPEN_WAL:
            self._files.wal = _UncutWalFile(name, flags, self._files)
            return self._files.wal
        opened = super().xOpen(name, flags)
        if flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            self._files.database = opened
        return opened


@contextmanager
def open_for_restart(path: Path, busy_wait: float, cut_at_most: int) -> Iterator[RestartConnection]:
    """Open a database for TRUNCATE checkpoints that cut a WAL of at most `cut_at_most` bytes. Raises apsw.Error."""
    files = _VfsFiles(cut_at_most)
    name = f"queuekeeper-wal-{next(_VFS_NUMBERS)}"
    vfs = _UncutWalVfs(name, files)
    try:
        with open_writable(path, busy_wait, name) as connection:
            yield RestartConnection(connection, files)
    finally:
        vfs.unregister()
