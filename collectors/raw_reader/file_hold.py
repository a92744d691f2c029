"""Locks on a database's files that no other process notices: asked about without taking them, or held for microseconds.

*Asked*: whether a lock on some bytes of a file could be had (F_OFD_GETLK, fcntl(2)). An answer costs about a microsecond
however many locks the machine has, and no process waits for it; the table of all locks costs as much for each of its rows
(bench/lock_sampler.py). Of several blocking locks the kernel names one.

*Held*: the files of a WAL database stay in place while SQLite opens it, so that opening cannot create any. Between our
check for -wal and -shm and the open, the last connection of the application may close and delete both; a read-only open
then makes new ones. The process that deletes them holds the database file exclusively, so a shared lock on the bytes that
SQLite calls SHARED prevents it (https://sqlite.org/lockingv3.html; https://sqlite.org/walformat.html, "the WAL file").
It is an open-file-description lock (fcntl(2)): unlike a POSIX record lock it is not lost when this process opens and
closes the file once more, and the kernel frees it with this process. It stands for the microseconds until our own
connection holds the same lock, or for as long as a database at rest is read without any (collectors/access/at_rest.py).
"""

import os
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

from collectors.raw_reader.formats import (
    CONNECTED_BYTE,
    FIRST_READ_BYTE,
    LAST_READ_BYTE,
    PENDING_BYTE,
    RESERVED_BYTE,
    SHARED_BYTES,
    SHARED_FIRST,
    WRITE_BYTE,
)

# After so many seconds the process that requested a hold has opened the file, or has ended.
MAX_HOLD_SECONDS = 2.0

CAN_PROBE = sys.platform == "linux"  # elsewhere nothing can be asked
if sys.platform == "linux":
    from fcntl import F_OFD_GETLK, F_RDLCK, F_UNLCK, F_WRLCK, fcntl
else:
    F_RDLCK = F_UNLCK = F_WRLCK = 0

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of fcntl(2)
_FREE = struct.pack("h", F_UNLCK)
# The kernel's answers for a process that our pid namespace does not show, and for an open-file-description lock.
NOT_VISIBLE, NOT_NAMED = 0, -1


def lock_question(first: int, last: int, *, shared: bool) -> bytes:
    """The question whether these bytes could be locked: `shared` with other readers, or exclusively."""
    return _FLOCK.pack(F_RDLCK if shared else F_WRLCK, os.SEEK_SET, first, last - first + 1, 0)


# What refuses a shared lock: the write lock of a WAL, or that of a rollback journal.
WRITES_WAL = lock_question(WRITE_BYTE, WRITE_BYTE, shared=True)
WRITES_JOURNAL = lock_question(PENDING_BYTE, RESERVED_BYTE, shared=True)
# What refuses an exclusive lock: a connection to a WAL-index, a reader of a WAL, any lock on a rollback-journal database.
CONNECTED = lock_question(CONNECTED_BYTE, CONNECTED_BYTE, shared=False)
READS_WAL = lock_question(FIRST_READ_BYTE, LAST_READ_BYTE, shared=False)
READS_SLOT = tuple(lock_question(byte, byte, shared=False) for byte in range(FIRST_READ_BYTE, LAST_READ_BYTE + 1))
AT_DATABASE = lock_question(PENDING_BYTE, SHARED_FIRST + SHARED_BYTES - 1, shared=False)
# SQLite locks all bytes of SHARED, alone or with others. One of them is enough for a hold, and the rest still tells of others.
HELD_BYTE = SHARED_FIRST + SHARED_BYTES - 1
_SHARES_DATABASE = lock_question(PENDING_BYTE, HELD_BYTE - 1, shared=False)


def find_blocking_process(descriptor: int, question: bytes) -> int | None:
    """The process whose lock refuses it (or NOT_VISIBLE, NOT_NAMED), None when it could be had. Raises OSError."""
    answer = fcntl(descriptor, F_OFD_GETLK, question)
    return None if answer.startswith(_FREE) else int(_FLOCK.unpack(answer)[4])


def find_shared_holder(descriptor: int) -> int | None:
    """The process (or NOT_VISIBLE, NOT_NAMED) with a shared lock on a database, which any connection to a WAL holds.

    None without one, and while a process holds the file exclusively. Raises OSError.
    """
    answer = fcntl(descriptor, F_OFD_GETLK, _SHARES_DATABASE)
    kind, _whence, _first, _length, pid = _FLOCK.unpack(answer)
    return int(pid) if kind == F_RDLCK else None


@dataclass(frozen=True, slots=True)
class _FileHold:
    descriptor: int
    since: float


_holds: dict[str, _FileHold] = {}


def hold_file(path: str) -> bool | None:
    """Take the lock, without waiting. False: a process holds the file exclusively; None: not possible on this system."""
    release_file(path)
    if os.name == "nt":
        return None
    import fcntl

    if not hasattr(fcntl, "F_OFD_SETLK"):
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        request = lock_question(HELD_BYTE, HELD_BYTE, shared=True)
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        return False
    except OSError:  # a file system without such locks: SQLite's own will fail too, and say so
        os.close(descriptor)
        return None
    _holds[path] = _FileHold(descriptor, time.monotonic())
    return True


def hold_file_as_word(path: str) -> str | None:
    """Hold a file and answer as the raw reader does: "held", "refused", or None where it is not possible."""
    return {True: "held", False: "refused", None: None}[hold_file(path)]


def release_file(path: str) -> None:
    """Release the lock, if it is held."""
    hold = _holds.pop(path, None)
    if hold is not None:
        with suppress(OSError):
            os.close(hold.descriptor)


def keep_hold(path: str) -> bool:
    """Keep a held file until it is released, however long that takes; false when it is not held."""
    hold = _holds.get(path)
    if hold is not None:
        _holds[path] = _FileHold(hold.descriptor, float("inf"))
    return hold is not None


def release_expired_holds(now: float) -> None:
    """Release what was held for longer than MAX_HOLD_SECONDS. `now`: monotonic seconds."""
    for path, hold in tuple(_holds.items()):
        if now - hold.since > MAX_HOLD_SECONDS:
            release_file(path)


def is_holding() -> bool:
    """Whether any lock is held that expires."""
    return any(hold.since < float("inf") for hold in _holds.values())
