"""The raw reader: a process without SQLite that reads what a process with SQLite must not touch.

POSIX locks belong to a process: closing any descriptor of a file drops all of its locks on that file, also those of an
SQLite connection (https://sqlite.org/howtocorrupt.html, section 2.2). So headers are read here, where no connection is.
One JSON request a line on standard input, one JSON answer a line on standard output; the end of the input ends it.

    python -I -m collectors.raw_reader.process
"""

import errno
import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from collectors.raw_reader.layout import HEADER_BYTES, WAL_INDEX_BYTES, lock_rows, wal_index

Answer = dict[str, Any]
_TRIES = 20
_LOCKS = Path("/proc/locks")


def main() -> None:
    """Answer until the input ends or nobody reads the answers."""
    try:
        for line in sys.stdin:
            sys.stdout.write(json.dumps(_answer(json.loads(line))) + "\n")
            sys.stdout.flush()
    except (BrokenPipeError, KeyboardInterrupt):
        # Nobody listens any more. Python flushes standard output once more at exit: give it a place to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _answer(request: dict[str, str]) -> Answer:
    try:
        return {"result": _OPERATIONS[request["do"]](request.get("path", ""))}
    except OSError as error:
        return {"errno": error.errno or errno.EIO}


def _head(path: str, size: int) -> bytes | None:
    """The first bytes of a regular file, None when there is none. O_NONBLOCK: opening a pipe must not wait."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        return None
    try:
        return os.read(descriptor, size) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    finally:
        os.close(descriptor)


def _database_header(path: str) -> str | None:
    data = _head(path, HEADER_BYTES)
    return None if data is None else data.hex()


def _wal_index(path: str) -> str | None:
    for _ in range(_TRIES):
        data = _head(path + "-shm", WAL_INDEX_BYTES)
        if data is None or len(data) < WAL_INDEX_BYTES:
            return None
        if wal_index(data) is not None:
            return data.hex()
    return None


def _journal_is_hot(path: str) -> bool:
    """A journal whose header is zeroed or gone was finished (PRAGMA journal_mode=PERSIST or TRUNCATE)."""
    data = _head(path + "-journal", 1)
    return bool(data) and data != b"\0"


def _locks(_path: str) -> str | None:
    try:
        return _LOCKS.read_text()
    except FileNotFoundError:
        return None


def _holders(path: str) -> dict[str, Any] | None:
    """The table, which devices and inodes the two files have there, and who the lockers are."""
    table = _locks(path)
    if table is None:
        return None
    files = {name: places for name in ("db", "shm") if (places := _places(path + ("-shm" if name == "shm" else "")))}
    inodes = {place[2] for places in files.values() for place in places}
    pids = {row.pid for row in lock_rows(table) if row.inode in inodes and row.pid > 0}
    return {"table": table, "files": files, "processes": {pid: _process(pid) for pid in pids}}


def _places(path: str) -> list[tuple[int, int, int]]:
    """(major, minor, inode) under which the kernel may list this file's locks: as stat says, and as its mount says.

    On some file systems (btrfs subvolumes) stat shows a made-up device while the lock table shows the mount's.
    """
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return []
    places = [(os.major(found.st_dev), os.minor(found.st_dev), found.st_ino)]
    mount = _mount_device(path)
    return [*places, (*mount, found.st_ino)] if mount and mount != places[0][:2] else places


def _mount_device(path: str) -> tuple[int, int] | None:
    """The device of the mount that `path` is on. O_PATH opens no file, so it has no locks to lose."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        info = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
        mount = next(line.split()[1] for line in info.splitlines() if line.startswith("mnt_id:"))
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            words = line.split()
            if words[0] == mount:
                major, minor = words[2].split(":")
                return int(major), int(minor)
        return None
    finally:
        os.close(descriptor)


def _process(pid: int) -> dict[str, Any]:
    """Kernel short name, command line and parent of a process; empty where it is gone or hidden."""
    try:
        place = Path("/proc") / str(pid)
        comm = (place / "comm").read_text(errors="replace").rstrip("\n")
        line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        # The name in parentheses may hold spaces and parentheses: what follows the last one is regular (proc(5)).
        parent = int((place / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return {"command": "", "command_line": "", "parent": 0}
    return {"command": comm, "command_line": line, "parent": parent}


_OPERATIONS: dict[str, Callable[[str], Any]] = {
    "database_header": _database_header,
    "wal_index": _wal_index,
    "journal_is_hot": _journal_is_hot,
    "locks": _locks,
    "holders": _holders,
}

if __name__ == "__main__":
    main()
