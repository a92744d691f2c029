"""Which process holds which lock on a database: the kernel's lock table joined with the WAL-index. Pure.

A READ lock on byte 123+i whose mark lies below the newest frame stops the checkpoint there; slot 0 reads the database
alone and stops it altogether (https://sqlite.org/walformat.html, "WAL locks"; docs/safety.md).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from collectors.raw_reader.formats import (
    CHECKPOINT_BYTE,
    FIRST_READ_BYTE,
    LAST_READ_BYTE,
    PENDING_BYTE,
    RECOVER_BYTE,
    RESERVED_BYTE,
    UNUSED_MARK,
    WRITE_BYTE,
    LockRow,
    WalIndex,
)

# Process, lock byte, read mark.
Pin = tuple[int, int, int]


class HeldLock(NamedTuple):
    """One lock on a database (`file` "db") or its WAL-index ("shm"), and the process that holds it.

    `command` is the kernel's short name, empty when the process is not visible; `parent` its parent's id.
    """

    file: str
    row: LockRow
    command: str
    command_line: str
    parent: int = 0

    @property
    def pid(self) -> int:
        """The process that holds it, -1 when the kernel names none."""
        return self.row.pid


@dataclass(frozen=True, slots=True)
class PinningReader:
    """A reader that pins the WAL: `blocks_frames` frames beyond its `mark` cannot be copied until it ends."""

    pid: int
    command: str
    command_line: str
    lock_byte: int
    mark: int
    blocks_frames: int

    @property
    def pin(self) -> Pin:
        """What makes it the same pin in two readings."""
        return self.pid, self.lock_byte, self.mark


def join_held_locks(
    rows: Iterable[LockRow],
    files: Mapping[str, Sequence[Sequence[int]]],
    processes: Mapping[str, Mapping[str, Any]],
) -> tuple[HeldLock, ...]:
    """Join the rows on one of the files with their processes. `files`: name -> its (major, minor, inode)s."""
    places = {tuple(inode): name for name, inodes in files.items() for inode in inodes}
    holders = []
    for row in rows:
        name = places.get((row.major, row.minor, row.inode))
        if name is not None:
            who = processes.get(str(row.pid), {})
            holders.append(
                HeldLock(name, row, who.get("command", ""), who.get("command_line", ""), who.get("parent", 0))
            )
    return tuple(holders)


def pinning_readers(index: WalIndex, holders: Iterable[HeldLock]) -> tuple[PinningReader, ...]:
    """The readers that stop checkpoints short of the newest frame."""
    return tuple(
        PinningReader(holder.pid, holder.command, holder.command_line, byte, mark, blocked)
        for holder in _read_locks(holders)
        for byte in range(FIRST_READ_BYTE, LAST_READ_BYTE + 1)
        if holder.row.covers_byte(byte)
        for mark in (_read_mark(index, byte),)
        for blocked in (index.frames - max(mark, index.copied),)
        if mark != UNUSED_MARK and mark < index.frames and blocked > 0
    )


def find_write_lock(holders: Iterable[HeldLock]) -> HeldLock | None:
    """The write lock: the WRITE byte of the WAL-index, or RESERVED or more on a rollback-journal database."""
    bytes_of = {"shm": (WRITE_BYTE, RECOVER_BYTE), "db": (RESERVED_BYTE, PENDING_BYTE)}
    return _find_exclusive_lock(holders, bytes_of)


def find_read_locks(holders: Iterable[HeldLock]) -> tuple[HeldLock, ...]:
    """The locks of readers of the WAL, at any mark: a checkpoint that starts the WAL over waits for each."""
    return tuple(
        holder
        for holder in _read_locks(holders)
        if any(holder.row.covers_byte(byte) for byte in range(FIRST_READ_BYTE, LAST_READ_BYTE + 1))
    )


def find_checkpoint_lock(holders: Iterable[HeldLock]) -> HeldLock | None:
    """The lock of a running checkpoint; None when none runs."""
    return _find_exclusive_lock(holders, {"shm": (CHECKPOINT_BYTE,)})


def flock_holder_pid(holders: Iterable[HeldLock]) -> int | None:
    """The process that holds the database file's exclusive `flock`; None when none does."""
    for holder in holders:
        if holder.file == "db" and holder.row.kind == "FLOCK" and holder.row.mode == "WRITE":
            return holder.pid
    return None


def _read_locks(holders: Iterable[HeldLock]) -> Iterable[HeldLock]:
    return (h for h in holders if h.file == "shm" and h.row.mode == "READ" and h.row.kind != "FLOCK")


def _read_mark(index: WalIndex, byte: int) -> int:
    return 0 if byte == FIRST_READ_BYTE else index.marks[byte - FIRST_READ_BYTE]


def _find_exclusive_lock(holders: Iterable[HeldLock], bytes_of: Mapping[str, Sequence[int]]) -> HeldLock | None:
    for holder in holders:
        wanted = bytes_of.get(holder.file, ())
        locked = any(holder.row.covers_byte(byte) for byte in wanted)
        if locked and holder.row.mode == "WRITE" and holder.row.kind != "FLOCK":
            return holder
    return None
