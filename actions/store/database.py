"""The state store, our own SQLite file: runs, their totals, alert episodes. Shared by agent, children and command line.

One connection per thread. Transactions are IMMEDIATE: a deferred one that reads and then writes fails at once with
SQLITE_BUSY_SNAPSHOT, with any busy timeout (https://sqlite.org/rescode.html#busy_snapshot).
"""

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path

import apsw

from actions.store.chain import seal_earlier_runs
from collectors.access.rights import may_give_away

FILE_NAME = "history.db"
SCHEMA_VERSION = 4
FIRST_CHAINED_VERSION = 4
BUSY_TIMEOUT_MS = 5000

_TRANSACTION = ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
_SAVEPOINT = ("SAVEPOINT part", "RELEASE part", "ROLLBACK TO part; RELEASE part")


class StoreUnavailable(Exception):
    """Our history cannot be opened or written: nothing automatic may run, since it could not be recorded."""


def history_file(state: Path) -> Path:
    """The file of the history in a state directory."""
    return state / FILE_NAME


def default_state_directory() -> Path:
    """Where history lives when nothing is configured (XDG Base Directory Specification).

    `$XDG_STATE_HOME/queuekeeper`, by default `~/.local/state/queuekeeper`.
    """
    home = os.environ.get("XDG_STATE_HOME", "")
    base = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
    return base / "queuekeeper"


@contextmanager
def state_store(state: Path) -> Iterator[apsw.Connection]:
    """The history of a state directory, created when missing (directory 0700, file 0600). Raises StoreUnavailable."""
    connection = open_state_store(state)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def store_transaction(connection: apsw.Connection) -> Iterator[None]:
    """All or nothing; inside another one, a savepoint of it. Never swallows an error.

    Not apsw's `with connection`: it waits for the lock without letting other threads of this process run, so a thread
    that holds the lock could never commit, and the whole agent would stand still for BUSY_TIMEOUT_MS.
    """
    begin, commit, undo = _SAVEPOINT if connection.in_transaction else _TRANSACTION
    connection.execute(begin)
    try:
        yield
        connection.execute(commit)
    except BaseException:
        # After some errors SQLite itself has rolled back: https://sqlite.org/lang_transaction.html
        if connection.in_transaction:
            connection.execute(undo)
        raise


@contextmanager
def translate_store_errors(state: Path) -> Iterator[None]:
    """Raise StoreUnavailable for SQLite errors of our history, so that they are not mistaken for the action's failure."""
    try:
        yield
    except apsw.Error as error:
        raise _unavailable_error(state, error) from error


def open_state_store(state: Path) -> apsw.Connection:
    """Like `state_store`, for a caller that closes it itself."""
    try:
        _create_private(state)
        _check_ownership(history_file(state))
        return _connect_store(history_file(state))
    except (OSError, apsw.Error) as error:
        raise _unavailable_error(state, error) from error


def _unavailable_error(state: Path, error: Exception) -> StoreUnavailable:
    cure = "make it writable for this user and free space there, or name another with --state"
    why = getattr(error, "strerror", None) or error
    return StoreUnavailable(f"cannot use the history in {state}: {why} ({cure})")


def _create_private(state: Path) -> None:
    """Create directory and file. An existing file is not opened: closing a descriptor drops this process's locks on it.

    https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(history_file(state), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _check_ownership(path: Path) -> None:
    """Check that no other user may write our history: a pending run in it is one that we execute. Raises OSError."""
    geteuid: Callable[[], int] | None = getattr(os, "geteuid", None)
    if geteuid is None:
        return  # not POSIX: access is in lists that stat does not show
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise PermissionError(f"{path.name} is not a regular file")
    if status.st_mode & 0o022:
        raise PermissionError(f"others may write {path.name}, mode {status.st_mode & 0o777:04o}")
    if geteuid() != status.st_uid and not may_give_away(status.st_uid, status.st_gid):
        raise PermissionError(f"{path.name} belongs to uid {status.st_uid}")


def _connect_store(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        _check_writable(connection)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        _use_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        _migrate_schema(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(connection: apsw.Connection) -> None:
    """Switch to WAL. That fails as busy at once, without the busy timeout, while another process opens or closes the file.

    https://sqlite.org/c3ref/busy_handler.html: the handler is not invoked where waiting could be a deadlock.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def _check_writable(connection: apsw.Connection) -> None:
    """SQLite silently opens a file that it may not write for reading only. Raises apsw.ReadOnlyError then."""
    if connection.readonly("main"):
        raise apsw.ReadOnlyError("it cannot be written")


def _migrate_schema(connection: apsw.Connection) -> None:
    if connection.pragma("user_version") == SCHEMA_VERSION:
        return
    with store_transaction(connection):
        version = connection.pragma("user_version")
        if version > SCHEMA_VERSION:
            raise apsw.SQLError(f"its schema version {version} is newer than this program's {SCHEMA_VERSION}")
        if version < SCHEMA_VERSION:
            connection.execute(files("actions.store").joinpath("schema.sql").read_text("utf-8"))
            if version < FIRST_CHAINED_VERSION:
                seal_earlier_runs(connection, time.time())
            connection.pragma("user_version", SCHEMA_VERSION)
