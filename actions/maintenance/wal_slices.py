"""Cuts the unused end of the WAL file in slices, each under the write lock for a few milliseconds.

A WAL that has started over stays as large as it was; its old frames are dead. Cutting it at once takes the file system a
second for each GB, and SQLite does it under the write lock. Here a slice is at most LARGEST_SLICE bytes and ends when its
time is up.

What makes a slice safe, checked anew under each write lock, where no process can append a frame or start the WAL over:

* no frame in use is cut: 32 + frames x (24 + page size) bytes stay, with the frames of SQLite's WAL-index (NOOP checkpoint);
* no *recovery* can find less than all frames of a generation: one that finds only the first half of an older generation
  would bring old pages back. So the header on the disk is either dead, or its salt is that of the last frame in use; and it
  was synced before the lock was taken, since a power failure may keep the cut and lose the header.

Readers keep what they read: until the WAL has started over, their frames are in use; it does not start over while they last.
The file is opened as a plain file: there are no POSIX locks on it (docs/safety.md), unlike on the database and the -shm.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from actions.batches.batch_loop import LOCK_WAIT, BatchLoop
from actions.maintenance.checkpoint_pragma import run_pragma
from actions.model.context import ActionContext
from actions.sqlite.connection import open_writable
from actions.sqlite.pacing import WritePacing
from actions.sqlite.wal_budget import WalHeadroom
from actions.sqlite.write_transaction import WriteTransaction
from collectors.access.connection import open_read_only
from collectors.raw_reader.formats import (
    FRAME_HEADER_BYTES,
    FRAME_HEADER_SALT,
    WAL_HEADER_BYTES,
    WAL_HEADER_SALT,
    wal_file_bytes,
)

# Bytes of one cut, between two looks at the clock, and how many cuts one transaction makes at most.
CUT_STEP, MOST_CUTS = 1 << 20, 16
LARGEST_SLICE = CUT_STEP * MOST_CUTS
# Seconds that one slice may take, where limits.write_lock allows more: it is planned for a third of it. A writer that waits for
# a longer one has fewer tries, and each miss makes its next sleep longer.
LONGEST_HOLD = 0.02
# A log that grows and starts over all the time is cut until so many times its first size is gone.
MOST_REGROWTH = 2
# The magic number of a WAL header; its last bit tells the byte order of the checksums (https://sqlite.org/walformat.html).
WAL_MAGIC = 0x377F0682


@dataclass(frozen=True, slots=True)
class TailCut:
    """Bytes cut off, in how many slices, the longest hold of the write lock, and the time in the cuts alone, in seconds."""

    bytes: int = 0
    slices: int = 0
    longest_hold: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "TailCut") -> "TailCut":
        return TailCut(
            self.bytes + other.bytes,
            self.slices + other.slices,
            max(self.longest_hold, other.longest_hold),
            self.seconds + other.seconds,
        )


@dataclass(slots=True)
class _WalTail:
    """The WAL file, open, and its header as it was last synced. `counting`: a connection that counts the frames in use."""

    path: Path
    descriptor: int
    counting: apsw.Connection
    page_size: int
    synced: bytes = field(default=b"")

    def sync_header(self) -> bool:
        """Make the header on the disk the one that SQLite reads; whether it has changed since the last time."""
        header = os.pread(self.descriptor, WAL_HEADER_BYTES, 0)
        if header == self.synced:
            return False
        os.fsync(self.descriptor)
        self.synced = header
        return True

    def unused_bytes(self) -> int:
        """Bytes after the last frame in use that may be cut off; exact while the write lock is held. Raises apsw.Error."""
        _, frames, _ = run_pragma(self.counting, "NOOP")
        status = os.fstat(self.descriptor)
        if frames < 0 or self.path.stat().st_ino != status.st_ino or not self._is_generation_sure(frames):
            return 0
        return max(0, status.st_size - wal_file_bytes(frames, self.page_size))

    def _is_generation_sure(self, frames: int) -> bool:
        """Whether the synced header is dead, or that of the frames in use."""
        header = os.pread(self.descriptor, WAL_HEADER_BYTES, 0)
        if header != self.synced:
            return False
        if frames == 0:
            return int.from_bytes(header[:4]) & ~1 != WAL_MAGIC
        last = os.pread(self.descriptor, FRAME_HEADER_BYTES, wal_file_bytes(frames - 1, self.page_size))
        return last[FRAME_HEADER_SALT] == header[WAL_HEADER_SALT]


def slice_budget(context: ActionContext) -> float:
    """Seconds for which one slice may hold the write lock."""
    return min(LONGEST_HOLD, context.target.limits.write_lock)


def cut_unused_tail(context: ActionContext, enough: int) -> Iterator[TailCut]:
    """Cut off what lies after the frames in use until the file has `enough` bytes at most, yielding each slice.

    Raises ActionError, apsw.Error, OSError.
    """
    with _open_tail(context) as tail, open_writable(context.target.path, LOCK_WAIT) as connection:
        loop = BatchLoop(context, connection, WritePacing(slice_budget(context)), WalHeadroom(context))
        most = MOST_REGROWTH * os.fstat(tail.descriptor).st_size
        while most > 0 and os.fstat(tail.descriptor).st_size > enough:
            tail.sync_header()
            if tail.unused_bytes() == 0 and not tail.sync_header():
                return
            cut = _cut_slice(loop, tail)
            most -= max(cut.bytes, CUT_STEP)
            if cut.bytes > 0:
                yield cut


@contextmanager
def _open_tail(context: ActionContext) -> Iterator[_WalTail]:
    with open_read_only(context.target.path) as counting:
        page_size = int(counting.pragma("page_size"))
        descriptor = os.open(context.target.wal, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            yield _WalTail(context.target.wal, descriptor, counting, page_size)
        finally:
            os.close(descriptor)


def _cut_slice(loop: BatchLoop, tail: _WalTail) -> TailCut:
    """One transaction that writes nothing: it only keeps all others from writing. Raises what `BatchLoop.run_batch` does."""
    cut = TailCut()

    def shorten_file(transaction: WriteTransaction) -> int:
        nonlocal cut
        unused, begun, steps = tail.unused_bytes(), transaction.seconds_held(), 0
        end = os.fstat(tail.descriptor).st_size
        floor = end - unused
        while end > floor and steps < MOST_CUTS and loop.pacing.may_add_row(transaction, steps):
            end = max(floor, end - CUT_STEP)
            os.ftruncate(tail.descriptor, end)
            steps += 1
        cut = TailCut(floor + unused - end, 1, 0.0, transaction.seconds_held() - begun)
        return steps

    transaction = loop.run_batch(shorten_file)
    return TailCut(cut.bytes, cut.slices, transaction.held, cut.seconds)
