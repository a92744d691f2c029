"""The file of a database that shows its write lock: the -shm of a WAL, the database itself with a rollback journal.

Runs in the raw reader, which has no SQLite in it and no POSIX locks to lose. A -shm stays open while another process is
connected to it, so that a sample costs one question to the kernel; it is closed as soon as none is. A file without such a
connection is opened for each sample.
"""

import errno
import os
import stat
from contextlib import suppress

from collectors.raw_reader.file_headers import READ_FLAGS, is_wal_header, read_database_header_hex
from collectors.raw_reader.file_hold import (
    AT_DATABASE,
    CONNECTED,
    NOT_NAMED,
    READS_SLOT,
    READS_WAL,
    WRITES_JOURNAL,
    WRITES_WAL,
    find_blocking_process,
)
from collectors.raw_reader.file_names import shared_lock_holder
from collectors.raw_reader.formats import FIRST_READ_BYTE, WAL_INDEX_BYTES, LockRow, parse_wal_index
from collectors.raw_reader.wal_readers import HeldLock, Pin, pinning_readers


class SampledFile:
    """One database by its path. `others_seen`: a process other than `parent`, ours, was ever seen there.

    Methods raise OSError where permission is missing, or the file system cannot answer such a question.
    """

    __slots__ = ("_descriptor", "_identity", "_is_wal", "_parent", "_path", "_written", "others_seen")

    def __init__(self, path: str, parent: int) -> None:
        self._path, self._parent = path, parent
        self._is_wal = False
        self._identity: tuple[int, int] | None = None
        self._descriptor = -1
        self._written: tuple[int, int] | None = None
        self.others_seen = False

    def find_writer(self) -> int | None:
        """The process that holds the write lock (or `file_hold.NOT_VISIBLE`, `NOT_NAMED`), None when none does."""
        if self._descriptor >= 0:
            return find_blocking_process(self._descriptor, WRITES_WAL)
        if self._identity is None:
            return None
        return self._probe_once(WRITES_WAL if self._is_wal else WRITES_JOURNAL)

    def refresh_file(self) -> bool:
        """Open the file again if it was replaced. Returns whether the database was written to since the last call."""
        index = _stat_regular_file(self._path + "-shm")
        status = index or _stat_regular_file(self._path)
        identity = None if status is None else (status.st_dev, status.st_ino)
        if identity != self._identity:
            self.close()
            self._identity, self._is_wal = identity, index is not None
        if self._is_wal:
            self._stay_open_while_connected()
        log = _stat_regular_file(self._path + "-wal") if self._is_wal else status
        written = (0, 0) if log is None else (log.st_mtime_ns, log.st_size)
        changed = self._written not in (None, written)
        self._written = written
        if changed and not self._is_wal and identity is not None:
            self._note_connection(self._probe_once(AT_DATABASE))
        return changed

    def find_pin(self) -> Pin | None:
        """A reader of another process that stops checkpoints short of the newest frame; of several, one."""
        if self._descriptor < 0 or find_blocking_process(self._descriptor, READS_WAL) in (None, self._parent):
            return None
        index = parse_wal_index(os.pread(self._descriptor, WAL_INDEX_BYTES, 0))
        if index is None or index.pending_frames == 0:
            return None
        readers = pinning_readers(index, (self._lock_in_slot(slot) for slot in range(len(READS_SLOT))))
        return next((reader.pin for reader in readers if reader.pid not in (0, self._parent)), None)

    def find_user_elsewhere(self) -> int | None:
        """A process that works on a WAL database while none is connected to the -shm beside this name, None without one."""
        if self._descriptor >= 0 or self._identity is None:
            return None
        pid = shared_lock_holder(self._path)
        if pid in (None, NOT_NAMED, self._parent):
            return None
        return pid if is_wal_header(read_database_header_hex(self._path)) else None

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

    def _lock_in_slot(self, slot: int) -> HeldLock:
        byte = FIRST_READ_BYTE + slot
        pid = find_blocking_process(self._descriptor, READS_SLOT[slot])
        return HeldLock(
            "shm", LockRow("POSIX", "NONE" if pid is None else "READ", pid or 0, 0, 0, 0, byte, byte), "", ""
        )

    def _stay_open_while_connected(self) -> None:
        if self._descriptor < 0:
            with suppress(FileNotFoundError):
                self._descriptor = os.open(self._path + "-shm", READ_FLAGS)
        if self._descriptor < 0:
            return
        connected = find_blocking_process(self._descriptor, CONNECTED)
        self._note_connection(connected)
        if connected is None:
            self.close()

    def _note_connection(self, pid: int | None) -> None:
        self.others_seen = self.others_seen or pid not in (None, self._parent)

    def _probe_once(self, question: bytes) -> int | None:
        try:
            descriptor = os.open(self._path + "-shm" if self._is_wal else self._path, READ_FLAGS)
        except FileNotFoundError:
            return None
        try:
            return find_blocking_process(descriptor, question)
        finally:
            os.close(descriptor)


def _stat_regular_file(path: str) -> os.stat_result | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - thousands of these a second: no Path is built for them
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # then there is no such file
            return None
        raise
    return status if stat.S_ISREG(status.st_mode) else None
