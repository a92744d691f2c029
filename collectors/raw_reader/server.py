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
from collectors.raw_reader.file_headers import (
    file_system_type,
    has_hot_journal,
    is_wal_header,
    read_database_header_hex,
    read_wal_index_and_readers,
    read_wal_index_hex,
)
from collectors.raw_reader.file_names import read_name_signals
from collectors.raw_reader.file_users import inspect_names
from collectors.raw_reader.lock_sampler import LockSampler
from collectors.raw_reader.lock_table import cached_lock_table, find_lock_rows, read_lock_table

Answer = dict[str, Any]
# Which processes are connected to a WAL may be so many seconds old: before a grave conclusion it is read again.
CONNECTED_LATELY = 2.0


def main() -> None:
    """Answer requests until the input ends or the answers are no longer read; sample the write locks in between."""
    _allow_many_files()
    try:
        for line in _read_requests():
            sys.stdout.write(json.dumps(_answer_request(json.loads(line))) + "\n")
            sys.stdout.flush()
    except (BrokenPipeError, KeyboardInterrupt):
        # The reading side is closed. Python flushes standard output once more at exit: give it a place to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _read_requests() -> Iterator[bytes]:
    """Yield requests as they arrive; do in between what is due."""
    if os.name == "nt":  # select() takes no pipes there, and there is nothing to sample
        yield from sys.stdin.buffer
        return
    rest = b""
    while True:
        if not select.select([0], [], [], _run_due_work(time.monotonic()))[0]:
            continue
        if not (part := os.read(0, 65536)):
            return
        *lines, rest = (rest + part).split(b"\n")
        yield from lines


def _run_due_work(now: float) -> float | None:
    """Do what is due. Returns the seconds until something will be, None for never."""
    file_hold.release_expired_holds(now)
    pause = _LOCK_SAMPLER.sample_if_due(now)
    return min(file_hold.MAX_HOLD_SECONDS, pause or file_hold.MAX_HOLD_SECONDS) if file_hold.is_holding() else pause


def _allow_many_files() -> None:
    """Allow as many descriptors as the system does: one is open for each database with a connected application."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _answer_request(request: dict[str, Any]) -> Answer:
    for path in request.get("release", ()):
        file_hold.release_file(path)
    if request["do"] == "surveys":
        return {"result": [_survey_database(path) for path in request["paths"]]}
    return _run_operation(_OPERATIONS[request["do"]], request.get("path", ""))


def _run_operation(operation: Callable[[str], Any], path: str) -> Answer:
    try:
        return {"result": operation(path)}
    except OSError as error:
        return {"errno": error.errno or errno.EIO}


def _survey_database(path: str) -> dict[str, Answer]:
    """Answer what one poll asks about one database, in one exchange. Each answer has its own error."""
    header = _run_operation(read_database_header_hex, path)
    answers = {
        "database_header": header,
        "file_system": _run_operation(file_system_type, path),
        "watch_write_lock": _run_operation(_watch_write_lock, path),
        "name_signals": _run_operation(read_name_signals, path),  # before our own lock
    }
    if is_wal_header(header.get("result")):
        answers |= _survey_wal(path)
        if not _is_used_without_index(answers["name_signals"]):
            answers["hold_wal"] = _run_operation(
                file_hold.hold_file_as_word, path
            )  # last: it should be held only briefly
    return answers


def _is_used_without_index(signals: Answer) -> bool:
    """Whether a process works on it and its -shm is not here: it will not be opened, and a hold could only harm.

    The last connection that closes copies the WAL into the database unless it is held; a deleted WAL is lost then.
    """
    return (signals.get("result") or {}).get("shared_by") is not None


def _survey_wal(path: str) -> dict[str, Answer]:
    """Look up readers in a fresh lock table; without any, a cached one is enough to tell which processes are connected."""
    try:
        index, reading = read_wal_index_and_readers(path)
        holders = find_lock_rows(cached_lock_table(0.0 if reading else CONNECTED_LATELY), path, readers=reading)
    except OSError as error:
        return {"wal_index": {"errno": error.errno or errno.EIO}}
    return {"wal_index": {"result": index}, "holders": {"result": holders}}


def _lock_table_text(_path: str) -> str | None:
    table = read_lock_table()
    return None if table is None else table.as_text()


def _hold_wal(path: str) -> str | None:
    return file_hold.hold_file_as_word(path) if is_wal_header(read_database_header_hex(path)) else None


def _watch_write_lock(path: str) -> int:
    return _LOCK_SAMPLER.watch_database(path, time.monotonic())


_LOCK_SAMPLER = LockSampler(os.getppid(), *map(float, sys.argv[1:3]))

_OPERATIONS: dict[str, Callable[[str], Any]] = {
    "database_header": read_database_header_hex,
    "wal_index": read_wal_index_hex,
    "journal_is_hot": has_hot_journal,
    "locks": _lock_table_text,
    "holders": lambda path: find_lock_rows(read_lock_table(), path),
    "survey": _survey_database,
    "file_system": file_system_type,
    "hold_wal": _hold_wal,
    "keep_hold": file_hold.keep_hold,
    "name_signals": read_name_signals,
    "names": inspect_names,
    "release": lambda _path: None,
    "watch_write_lock": _watch_write_lock,
    "write_lock_uses": lambda _path: _LOCK_SAMPLER.report_usage(),
    "write_lock_samples": lambda _path: _LOCK_SAMPLER.samples_taken,
}

if __name__ == "__main__":
    main()
