"""Whether a lock on some bytes of a file could be had, asked of the kernel without taking it (F_OFD_GETLK, fcntl(2)).

An answer costs about a microsecond however many locks the machine has, and nobody waits for it; the table of all locks costs as
much for each of its rows (bench/lock_sampler.py). Of several locks in the way the kernel names one.
"""

import os
import struct
import sys

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

CAN_PROBE = sys.platform == "linux"  # elsewhere nothing can be asked
if sys.platform == "linux":
    from fcntl import F_OFD_GETLK, F_RDLCK, F_UNLCK, F_WRLCK, fcntl
else:
    F_RDLCK = F_UNLCK = F_WRLCK = 0

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of fcntl(2)
_FREE = struct.pack("h", F_UNLCK)
# What the kernel says of a lock of a process that our pid namespace does not show, and of an open-file-description lock.
NOT_VISIBLE, NOT_NAMED = 0, -1


def lock_question(first: int, last: int, *, shared: bool) -> bytes:
    """Could these bytes be locked, `shared` with other readers or for ourselves alone?"""
    return _FLOCK.pack(F_RDLCK if shared else F_WRLCK, os.SEEK_SET, first, last - first + 1, 0)


# A shared lock could not be had: somebody holds the write lock of a WAL, or that of a rollback journal.
WRITES_WAL = lock_question(WRITE_BYTE, WRITE_BYTE, shared=True)
WRITES_JOURNAL = lock_question(PENDING_BYTE, RESERVED_BYTE, shared=True)
# An exclusive lock could not be had: somebody has the WAL-index open, reads a WAL, is at a rollback-journal database.
CONNECTED = lock_question(CONNECTED_BYTE, CONNECTED_BYTE, shared=False)
READS_WAL = lock_question(FIRST_READ_BYTE, LAST_READ_BYTE, shared=False)
READS_SLOT = tuple(lock_question(byte, byte, shared=False) for byte in range(FIRST_READ_BYTE, LAST_READ_BYTE + 1))
AT_DATABASE = lock_question(PENDING_BYTE, SHARED_FIRST + SHARED_BYTES - 1, shared=False)


def find_blocking_process(descriptor: int, asked: bytes) -> int | None:
    """The process that stands in the way (or NOT_VISIBLE, NOT_TOLD), None when nobody does. Raises OSError."""
    answer = fcntl(descriptor, F_OFD_GETLK, asked)
    return None if answer.startswith(_FREE) else int(_FLOCK.unpack(answer)[4])
