"""Keeps the files of a WAL database in place while SQLite opens it, so that opening cannot create any.

Between our look for -wal and -shm and the open, the last connection of the application may close and delete both; a
read-only open then makes new ones. Who deletes them holds the database file exclusively, so a shared lock on the bytes
that SQLite calls SHARED keeps them (https://sqlite.org/lockingv3.html; https://sqlite.org/walformat.html, "the WAL file").
It is an open-file-description lock (fcntl(2)): unlike a POSIX record lock it is not lost when this process opens and
closes the file once more, and the kernel frees it with this process. It stands for the microseconds until our own
connection holds the same lock.
"""

import os
import struct
import time
from contextlib import suppress
from dataclasses import dataclass

from collectors.raw_reader.formats import SHARED_BYTES, SHARED_FIRST

# Whoever asked has long gone on, or is gone.
MAX_HOLD_SECONDS = 2.0
_FLOCK = struct.Struct("hhqqi4x")  # struct flock of fcntl(2)


@dataclass(frozen=True, slots=True)
class _FileHold:
    descriptor: int
    since: float


_holds: dict[str, _FileHold] = {}


def hold_file(path: str) -> bool | None:
    """Take the lock, without waiting. False: somebody holds the file exclusively; None: not possible on this system."""
    release_file(path)
    if os.name == "nt":
        return None
    import fcntl

    if not hasattr(fcntl, "F_OFD_SETLK"):
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        request = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, SHARED_FIRST, SHARED_BYTES, 0)
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
    """`hold` as the raw reader answers it: "held", "refused", or None where it is not possible."""
    return {True: "held", False: "refused", None: None}[hold_file(path)]


def release_file(path: str) -> None:
    """Give the lock back, if it is held."""
    held = _holds.pop(path, None)
    if held is not None:
        with suppress(OSError):
            os.close(held.descriptor)


def release_expired_holds(now: float) -> None:
    """Give back what nobody gave back in time. `now`: monotonic seconds."""
    for path, held in tuple(_holds.items()):
        if now - held.since > MAX_HOLD_SECONDS:
            release_file(path)


def is_holding() -> bool:
    """Whether any lock is held."""
    return bool(_holds)
