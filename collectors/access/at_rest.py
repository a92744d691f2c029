"""Reads a WAL database that no process has open, without leaving or taking away anything: immutable, and proved unchanged.

`immutable` takes no lock and makes no file, so it also reads where none may be made (a read-only mount). What it reads is
true only while no process writes, hence the proof:

* the raw reader holds the database file with one byte of SQLite's SHARED lock (raw_reader/file_hold.py): no process can
  then delete a -wal, or leave WAL mode. An application that comes meanwhile makes a -wal, which is still there at the end;
* there is no -wal and no -journal before and after, no process has a lock on the file, and it has no other name in use;
* size, times and header (with the change counter) are the same, for writers other than SQLite.

A file that was changed within the last tick of the clock could be changed again without a trace: that is waited for.
Closing such a connection drops the POSIX locks of this process on the file (docs/safety.md), so none may be held: no other
connection to the database may be open in this process.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import apsw

from collectors.access.change_detection import SETTLED_AFTER
from collectors.access.connection import open_immutable, open_read_only
from collectors.access.errors import NotAtRest
from collectors.access.file_facts import stat_or_none
from collectors.access.second_name import find_name_problem, read_signals, resolve_link
from collectors.raw_reader.client import RawReader
from collectors.raw_reader.file_headers import NETWORK_FILE_SYSTEMS, is_wal_header
from collectors.target import Target


@dataclass(frozen=True, slots=True)
class RestState:
    """What must not change. `file`: device, inode, size, mtime and ctime in ns; `header`: 100 bytes as hexadecimal.

    `beside`: names of its -wal, -shm and -journal that exist; `shared`: a process has a lock on the file.
    """

    file: tuple[int, ...]
    header: str
    beside: tuple[str, ...] = ()
    shared: bool = False


@dataclass(frozen=True, slots=True)
class RestingDatabase:
    """`connection` reads the file as it was at `before`; what it read holds once `require_unchanged` has passed."""

    connection: apsw.Connection
    before: RestState
    target: Target
    raw: RawReader

    def require_unchanged(self) -> None:
        """Raises NotAtRest unless nothing changed since it was opened; RawReaderUnavailable, OSError."""
        held = self.raw.keep_hold(self.target.path)
        problem = find_rest_problem(self.before, read_rest_state(self.target, self.raw))
        if not held or problem:
            raise NotAtRest(f"{self.target.path}: {problem or 'the lock that keeps it at rest was lost'}")


@contextmanager
def open_at_rest(target: Target, raw: RawReader) -> Iterator[RestingDatabase]:
    """Open a WAL database at rest for reading. Raises NotAtRest, apsw.Error, RawReaderUnavailable, OSError.

    `require_unchanged` of the result must be called after the last read, inside the block.
    """
    target = replace(target, path=resolve_link(target.path))
    problem = find_name_problem(target.path, raw, wal=True)
    if problem is not None:
        raise NotAtRest(problem.message)
    if (system := raw.read_file_system_type(target.path)) in NETWORK_FILE_SYSTEMS:
        raise NotAtRest(f"{target.path}: {system} does not tell at once what other machines write")
    _wait_until_settled(target.path)
    if raw.hold_wal(target.path) != "held" or not raw.keep_hold(target.path):
        raise NotAtRest(f"{target.path} cannot be kept at rest: a process holds it, or it has no WAL")
    try:
        before = read_rest_state(target, raw)
        if problem_now := find_rest_problem(before, before):
            raise NotAtRest(f"{target.path}: {problem_now}")
        with open_immutable(target.path) as connection:
            yield RestingDatabase(connection, before, target, raw)
    finally:
        raw.release_wal(target.path)


@contextmanager
def open_live_or_at_rest(target: Target, raw: RawReader) -> Iterator[apsw.Connection]:
    """A read-only connection for one reading; at rest where it needs that, proved at the end of the block.

    Raises apsw.Error, RawReaderUnavailable, OSError, and NotAtRest also at the end, when what was read may be wrong.
    """
    if not needs_reading_at_rest(target, raw):
        with open_read_only(target.path) as connection:
            yield connection
        return
    with open_at_rest(target, raw) as resting:
        yield resting.connection
        resting.require_unchanged()


def find_rest_problem(before: RestState, now: RestState) -> str:
    """Why the database was not at rest between the two, "" when it was. Pure."""
    if now.beside:
        return f"{now.beside[0]} is there: an application works on it, or did not end in the regular way"
    if now.shared:
        return "a process has a lock on it"
    if not is_wal_header(now.header):
        return "it is no database in WAL mode"
    return "" if before == now else "it was changed while it was read"


def read_rest_state(target: Target, raw: RawReader) -> RestState:
    """The state now. Raises RawReaderUnavailable, OSError."""
    status = target.path.stat()
    signals = read_signals(target.path, raw)
    return RestState(
        (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns),
        str(raw.query_reader("database_header", target.path)),
        sidecars_of(target),
        signals is None or signals.shared_by is not None,
    )


def sidecars_of(target: Target) -> tuple[str, ...]:
    """The names of its -wal, -shm and -journal that exist. Raises OSError."""
    return tuple(path.name for path in (target.wal, target.shm, target.journal) if stat_or_none(path) is not None)


def needs_reading_at_rest(target: Target, raw: RawReader) -> bool:
    """Whether a WAL database can be read in no other way: nothing is beside it, and nothing can be made there.

    Raises RawReaderUnavailable, OSError.
    """
    target = replace(target, path=resolve_link(target.path))
    if os.access(target.path.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        return False
    return not sidecars_of(target) and is_wal_header(raw.query_reader("database_header", target.path))


def _wait_until_settled(path: Path) -> None:
    """Wait until the last change is older than a tick of any kernel's clock: a later one then has another time."""
    age = abs(time.time_ns() - path.stat().st_mtime_ns)
    if age <= SETTLED_AFTER:
        time.sleep(SETTLED_AFTER / 1e9)
