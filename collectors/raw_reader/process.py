"""The raw reader: a process without SQLite that reads what a process with SQLite must not touch.

POSIX locks belong to a process: closing any descriptor of a file drops all of its locks on that file, also those of an
SQLite connection (https://sqlite.org/howtocorrupt.html, section 2.2). So headers are read here, where no connection is.
One JSON request a line on standard input, one JSON answer a line on standard output; the end of the input ends it.

    python -I -m collectors.raw_reader.process [SECONDS BETWEEN SAMPLES OF WRITE LOCKS [SHARE OF A CORE]]
"""

import errno
import json
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from collectors.raw_reader import hold
from collectors.raw_reader.layout import HEADER_BYTES, WAL_INDEX_BYTES, database_header, lock_rows, wal_index
from collectors.raw_reader.lock_table import file_system_of, lock_table, places, process, rows_on, shared_lock_table
from collectors.raw_reader.write_locks import WriteLocks

Answer = dict[str, Any]
_TRIES = 20


def main() -> None:
    """Answer until the input ends or nobody reads the answers; sample the write locks meanwhile."""
    try:
        for line in _lines():
            sys.stdout.write(json.dumps(_answer(json.loads(line))) + "\n")
            sys.stdout.flush()
    except (BrokenPipeError, KeyboardInterrupt):
        # Nobody listens any more. Python flushes standard output once more at exit: give it a place to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _lines() -> Iterator[bytes]:
    """The requests as they come. Between them, what is due."""
    if os.name == "nt":  # select() takes no pipes there, and there is nothing to sample
        yield from sys.stdin.buffer
        return
    rest = b""
    while True:
        if not select.select([0], [], [], _pause(time.monotonic()))[0]:
            continue
        if not (part := os.read(0, 65536)):
            return
        *lines, rest = (rest + part).split(b"\n")
        yield from lines


def _pause(now: float) -> float | None:
    """Do what is due; seconds until something will be."""
    hold.release_forgotten(now)
    pause = _WRITE_LOCKS.tick(now)
    return min(hold.LONGEST, pause or hold.LONGEST) if hold.holding() else pause


def _answer(request: dict[str, str]) -> Answer:
    try:
        return {"result": _OPERATIONS[request["do"]](request.get("path", ""))}
    except OSError as error:
        return {"errno": error.errno or errno.EIO}


def _head(path: str, size: int) -> bytes | None:
    """The first bytes of a regular file, None when there is none. O_NONBLOCK: opening a pipe must not wait."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # then there is no such file
            return None
        raise
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
    return lock_table()


def _survey(path: str) -> dict[str, Answer]:
    """What one poll asks about one database, in one exchange. Each answer stands for itself."""
    header = _answer({"do": "database_header", "path": path})
    found = {"database_header": header, "file_system": _answer({"do": "file_system", "path": path})}
    if not _is_wal(header.get("result")):
        return found
    found["wal_index"] = _answer({"do": "wal_index", "path": path})
    found["holders"] = _answer({"do": "holders_lately", "path": path})
    found["hold_wal"] = _answer({"do": "hold_wal", "path": path})
    return found


def _holders(path: str) -> dict[str, Any] | None:
    return _holders_in(lock_table(), path)


def _holders_in(table: str | None, path: str) -> dict[str, Any] | None:
    """The rows of the database and its WAL-index, under which names the two stand there, and who the lockers are."""
    if table is None:
        return None
    files = {name: found for name in ("db", "shm") if (found := places(path + ("-shm" if name == "shm" else "")))}
    rows = rows_on(table, {place[2] for found in files.values() for place in found})
    pids = {row.pid for row in lock_rows(rows) if row.pid > 0}
    return {"table": rows, "files": files, "processes": {pid: process(pid) for pid in pids}}


def _hold_wal(path: str) -> str | None:
    """Hold the files of a WAL database in place for its reader: "held", "refused" or, where nobody can, None."""
    if not _is_wal(_database_header(path)):
        return None
    return {True: "held", False: "refused", None: None}[hold.hold(path)]


def _is_wal(header: str | None) -> bool:
    return header is not None and len(header) == 2 * HEADER_BYTES and database_header(bytes.fromhex(header)).wal


_WRITE_LOCKS = WriteLocks(*map(float, sys.argv[1:3]))

_OPERATIONS: dict[str, Callable[[str], Any]] = {
    "database_header": _database_header,
    "wal_index": _wal_index,
    "journal_is_hot": _journal_is_hot,
    "locks": _locks,
    "holders": _holders,
    "holders_lately": lambda path: _holders_in(shared_lock_table(), path),
    "survey": _survey,
    "file_system": file_system_of,
    "hold_wal": _hold_wal,
    "release": hold.release,
    "watch_write_lock": lambda path: _WRITE_LOCKS.watch(path, time.monotonic()),
    "write_lock_uses": lambda _path: _WRITE_LOCKS.uses(),
    "write_lock_samples": lambda _path: _WRITE_LOCKS.taken,
}

if __name__ == "__main__":
    main()
