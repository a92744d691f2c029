"""Our own SQLite file: runs, their totals, alert episodes. Shared by the agent, its children and the command line.

One connection per thread. Transactions are IMMEDIATE: a deferred one that reads and then writes fails at once with
SQLITE_BUSY_SNAPSHOT, whatever the busy timeout (https://sqlite.org/rescode.html#busy_snapshot).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import apsw

FILE_NAME = "history.db"
SCHEMA_VERSION = 1
BUSY_TIMEOUT_MS = 5000


class StoreUnavailable(Exception):
    """Our history cannot be opened or written: nothing automatic may run, since nothing could be remembered."""


def history_file(state: Path) -> Path:
    """Where the history of a state directory lives."""
    return state / FILE_NAME


@contextmanager
def history(state: Path) -> Iterator[apsw.Connection]:
    """The history of a state directory, created when missing (directory 0700, file 0600). Raises StoreUnavailable."""
    connection = open_history(state)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """All or nothing; inside another one, a part of it. Never swallows an error."""
    with connection:
        yield


def open_history(state: Path) -> apsw.Connection:
    """Like `history`, for a holder that closes it itself."""
    try:
        _create_private(state)
        return _connect(history_file(state))
    except (OSError, apsw.Error) as error:
        raise StoreUnavailable(
            f"cannot use the history in {state}: {error} (make it writable for this user, or name another with --state)"
        ) from error


def _create_private(state: Path) -> None:
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(history_file(state), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.close(descriptor)  # before any connection of ours: closing later would drop its locks


def _connect(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.transaction_mode = "IMMEDIATE"
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        connection.execute("PRAGMA synchronous=FULL")
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: apsw.Connection) -> None:
    if connection.pragma("user_version") == SCHEMA_VERSION:
        return
    with connection:
        found = connection.pragma("user_version")
        if found > SCHEMA_VERSION:
            raise apsw.SQLError(f"its schema version {found} is newer than this program's {SCHEMA_VERSION}")
        if found == 0:
            connection.execute(files("actions.history").joinpath("schema.sql").read_text("utf-8"))
            connection.pragma("user_version", SCHEMA_VERSION)
