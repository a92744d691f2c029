"""The raw reader: a process without SQLite that reads what a process with SQLite must not touch.

POSIX locks belong to a process: closing any descriptor of a file drops all of its locks on that file, also those of an
SQLite connection (https://sqlite.org/howtocorrupt.html, section 2.2). So headers are read here, where no connection is.
One JSON request a line on standard input, one JSON answer a line on standard output; the end of the input ends it.

    python -I -m collectors.raw_reader.server [SECONDS BETWEEN SAMPLES OF WRITE LOCKS [SHARE OF A CORE]]
"""

import errno
import json
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from collectors.raw_reader import file_hold
from collectors.raw_reader.file_headers import database_header_of, is_hot, is_wal, wal_index_and_readers, wal_index_of
from collectors.raw_reader.file_system import file_system_of
from collectors.raw_reader.lock_sampler import WriteLocks
from collectors.raw_reader.lock_table import holders_in, lock_table, shared_lock_table

Answer = dict[str, Any]
# Who is connected to a WAL may be a moment old: what is grave of it is looked at again before anything is said of it.
CONNECTED_LATELY = 2.0


def main() -> None:
    """Answer until the input ends or nobody reads the answers; sample the write locks meanwhile."""
    _allow_many_files()
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
    file_hold.release_forgotten(now)
    pause = _WRITE_LOCKS.tick(now)
    return min(file_hold.LONGEST, pause or file_hold.LONGEST) if file_hold.holding() else pause


def _allow_many_files() -> None:
    """One descriptor for each database whose application is there: as many as the system lets us have."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _answer(request: dict[str, Any]) -> Answer:
    for path in request.get("release", ()):
        file_hold.release(path)
    if request["do"] == "surveys":
        return {"result": [_survey(path) for path in request["paths"]]}
    return _answered(_OPERATIONS[request["do"]], request.get("path", ""))


def _answered(operation: Callable[[str], Any], path: str) -> Answer:
    try:
        return {"result": operation(path)}
    except OSError as error:
        return {"errno": error.errno or errno.EIO}


def _survey(path: str) -> dict[str, Answer]:
    """What one poll asks about one database, in one exchange. Each answer stands for itself."""
    header = _answered(database_header_of, path)
    found = {
        "database_header": header,
        "file_system": _answered(file_system_of, path),
        "watch_write_lock": _answered(_watch_write_lock, path),
    }
    if is_wal(header.get("result")):
        found |= _survey_of_wal(path)
        found["hold_wal"] = _answered(file_hold.hold_in_a_word, path)  # last: it should be short
    return found


def _survey_of_wal(path: str) -> dict[str, Answer]:
    """Who reads is looked for in a fresh table; when nobody does, an older one tells who is connected."""
    try:
        index, reading = wal_index_and_readers(path)
        holders = holders_in(shared_lock_table(0.0 if reading else CONNECTED_LATELY), path, readers=reading)
    except OSError as error:
        return {"wal_index": {"errno": error.errno or errno.EIO}}
    return {"wal_index": {"result": index}, "holders": {"result": holders}}


def _locks(_path: str) -> str | None:
    table = lock_table()
    return None if table is None else table.text()


def _hold_wal(path: str) -> str | None:
    return file_hold.hold_in_a_word(path) if is_wal(database_header_of(path)) else None


def _watch_write_lock(path: str) -> int:
    return _WRITE_LOCKS.watch(path, time.monotonic())


_WRITE_LOCKS = WriteLocks(os.getppid(), *map(float, sys.argv[1:3]))

_OPERATIONS: dict[str, Callable[[str], Any]] = {
    "database_header": database_header_of,
    "wal_index": wal_index_of,
    "journal_is_hot": is_hot,
    "locks": _locks,
    "holders": lambda path: holders_in(lock_table(), path),
    "survey": _survey,
    "file_system": file_system_of,
    "hold_wal": _hold_wal,
    "release": lambda _path: None,
    "watch_write_lock": _watch_write_lock,
    "write_lock_uses": lambda _path: _WRITE_LOCKS.uses(),
    "write_lock_samples": lambda _path: _WRITE_LOCKS.taken,
}

if __name__ == "__main__":
    main()
