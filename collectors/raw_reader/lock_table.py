"""The kernel's lock table (/proc/locks, proc(5)) and the names under which files and processes stand in it.

Reading it costs the kernel about a microsecond for each row of the whole machine. For each page of it, every process of the
machine that takes or releases a lock waits (bench/lock_sampler.py). So polls of many databases share one table, and samples
of write locks do without it (raw_reader/file_hold.py). After a tenth of a second without a reader the kernel delays it
by some milliseconds more (it makes all takers of locks agree, without stopping them).
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collectors.raw_reader.file_headers import mount_device
from collectors.raw_reader.formats import FIRST_READ_BYTE, LAST_READ_BYTE, LockRow, parse_lock_rows

LOCKS = Path("/proc/locks")
READS, PAGE = 3, 4096
# A table of so many bytes is expensive: it is used again, for REUSE times as long as it took to read.
EXPENSIVE, REUSE = 16384, 2.0
DeviceInode = tuple[int, int, int]

_mounts: dict[int, tuple[int, int]] = {}


@dataclass(frozen=True, slots=True)
class LockTable:
    """The rows of one reading or of several, by the file that is locked ("fe:01:1234", as the table writes it)."""

    rows: Mapping[str, Sequence[str]]
    size: int
    _processes: dict[int, dict[str, Any]] = field(default_factory=dict)

    def cached_process(self, pid: int) -> dict[str, Any]:
        """A process, looked up once: one application may have many databases."""
        if pid not in self._processes:
            self._processes[pid] = describe_process(pid)
        return self._processes[pid]

    def rows_on(self, places: Iterable[DeviceInode]) -> list[str]:
        """The rows of locks on these files, each once."""
        return _distinct_rows(
            row for major, minor, inode in places for row in self.rows.get(_file_key(major, minor, inode), ())
        )

    def as_text(self) -> str:
        """All rows, each once."""
        return "\n".join(_distinct_rows(row for rows in self.rows.values() for row in rows))


@dataclass(frozen=True, slots=True)
class _CachedLockTable:
    table: LockTable
    at: float
    cost: float


_cached_table: _CachedLockTable | None = None


def read_lock_table(reads: int = READS) -> LockTable | None:
    """Read the table; None where this system has none.

    The kernel returns it in pages and finds its position again by counting: a lock that is released in between makes it
    leave out the row at the page's end (bench/lock_sampler.py). So a table of several pages is read `reads` times, and what
    any of them shows is there.
    """
    try:
        texts = [LOCKS.read_text("ascii", "replace")]
        while len(texts[0]) > PAGE and len(texts) < reads:
            texts.append(LOCKS.read_text("ascii", "replace"))
    except FileNotFoundError:
        return None
    rows: dict[str, list[str]] = {}
    for row in (row for text in texts for row in text.splitlines()):
        words = row.rsplit(None, 3)
        if len(words) == 4:
            rows.setdefault(words[1], []).append(row)
    return LockTable(rows, len(texts[0]))


def cached_lock_table(oldest: float = 0.0) -> LockTable | None:
    """The table for many databases polled at once: an expensive one is used again while fresh, or `oldest` seconds old.

    A short table is read again in any case: that is cheap, and saving it is not worth being wrong by a millisecond.
    """
    global _cached_table
    now = time.monotonic()
    if (
        _cached_table is not None
        and _cached_table.table.size > EXPENSIVE
        and now - _cached_table.at < max(oldest, REUSE * _cached_table.cost)
    ):
        return _cached_table.table
    started = time.process_time()
    table = read_lock_table(2)
    _cached_table = None if table is None else _CachedLockTable(table, time.monotonic(), time.process_time() - started)
    return table


def device_inodes(path: str) -> list[DeviceInode]:
    """(major, minor, inode) under which the kernel may list this file's locks: as stat says, and as its mount says.

    On some file systems (btrfs subvolumes) stat shows a made-up device while the lock table shows the mount's.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - thousands of these a second: no Path is built for them
    except OSError:  # missing, without permission, or a name too long to exist: no row is about it
        return []
    device = os.major(status.st_dev), os.minor(status.st_dev)
    if status.st_dev not in _mounts:
        _mounts[status.st_dev] = mount_device(path) or device
    return [(*name, status.st_ino) for name in dict.fromkeys((device, _mounts[status.st_dev]))]


def find_lock_rows(table: LockTable | None, path: str, *, readers: bool = True) -> dict[str, Any] | None:
    """The rows of a database and its WAL-index, the names of the two in the table, and the processes that hold locks.

    `readers` is false when it is known that no process reads the WAL now: then the table may be older.
    """
    if table is None:
        return None
    files = {name: inodes for name, end in (("db", ""), ("shm", "-shm")) if (inodes := device_inodes(path + end))}
    lines = table.rows_on(inode for inodes in files.values() for inode in inodes)
    rows = [(line, row) for line in lines for row in parse_lock_rows(line) if readers or not _is_reader_row(row)]
    pids = {row.pid for _, row in rows if row.pid > 0}
    text = "\n".join(line for line, _ in rows)
    return {"table": text, "files": files, "processes": {pid: table.cached_process(pid) for pid in pids}}


def describe_process(pid: int) -> dict[str, Any]:
    """Look up kernel short name, command line and parent of a process; empty where it is gone or hidden."""
    try:
        place = Path("/proc") / str(pid)
        comm = (place / "comm").read_text(errors="replace").rstrip("\n")
        line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        # The name in parentheses may hold spaces and parentheses: what follows the last one is regular (proc(5)).
        parent = int((place / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return {"command": "", "command_line": "", "parent": 0}
    return {"command": comm, "command_line": line, "parent": parent}


def _file_key(major: int, minor: int, inode: int) -> str:
    return f"{major:02x}:{minor:02x}:{inode}"


def _is_reader_row(row: LockRow) -> bool:
    """Whether a row of a WAL-index is a reader's."""
    return row.start >= FIRST_READ_BYTE and row.end <= LAST_READ_BYTE


def _distinct_rows(rows: Iterator[str]) -> list[str]:
    """The rows without their running numbers, which differ from one reading to the next, each once."""
    return [f"0: {row}" for row in dict.fromkeys(row.partition(": ")[2] for row in rows)]
