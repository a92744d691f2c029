"""Our own SQLite file: runs, their totals, alert episodes. Shared by the agent, its children and the command line.

One connection per thread. Transactions are IMMEDIATE: a deferred one that reads and then writes fails at once with
SQLITE_BUSY_SNAPSHOT, whatever the busy timeout (https://sqlite.org/rescode.html#busy_snapshot).
"""

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path

import apsw

FILE_NAME = "history.db"
SCHEMA_VERSION = 3
BUSY_TIMEOUT_MS = 5000

_TRANSACTION = ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
_SAVEPOINT = ("SAVEPOINT part", "RELEASE part", "ROLLBACK TO part; RELEASE part")


class StoreUnavailable(Exception):
    """Our history cannot be opened or written: nothing automatic may run, since nothing could be remembered."""


def history_file(state: Path) -> Path:
    """Where the history of a state directory lives."""
    return state / FILE_NAME


def default_state_directory() -> Path:
    """`$XDG_STATE_HOME/queuekeeper`, by default `~/.local/state/queuekeeper` (XDG Base Directory Specification)."""
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
    """All or nothing; inside another one, a part of it. Never swallows an error.

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
    """What fails while our history is read or written is StoreUnavailable, never mistaken for the action's failure."""
    try:
        yield
    except apsw.Error as error:
        raise _unavailable_error(state, error) from error


def open_state_store(state: Path) -> apsw.Connection:
    """Like `history`, for a holder that closes it itself."""
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
    """Only a missing file is opened here: closing a descriptor drops every lock that this process holds on the file.

    https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(history_file(state), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _check_ownership(path: Path) -> None:
    """Whoever writes our history decides what is done next: a pending run in it is one that we perform. Raises OSError."""
    geteuid: Callable[[], int] | None = getattr(os, "geteuid", None)
    if geteuid is None:
        return  # not POSIX: access is in lists that stat does not show
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise PermissionError(f"{path.name} is not a regular file")
    if found.st_mode & 0o022:
        raise PermissionError(f"others may write {path.name}, mode {found.st_mode & 0o777:04o}")
    if geteuid() not in (0, found.st_uid):
        raise PermissionError(f"{path.name} belongs to uid {found.st_uid}")


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
    """Changing the mode says busy at once, without the busy timeout, while another process opens or closes the file.

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
    """SQLite opens what it may not write for reading, and says nothing. Raises apsw.ReadOnlyError."""
    if connection.readonly("main"):
        raise apsw.ReadOnlyError("it cannot be written")


def _migrate_schema(connection: apsw.Connection) -> None:
    if connection.pragma("user_version") == SCHEMA_VERSION:
        return
    with store_transaction(connection):
        found = connection.pragma("user_version")
        if found > SCHEMA_VERSION:
            raise apsw.SQLError(f"its schema version {found} is newer than this program's {SCHEMA_VERSION}")
        if found < SCHEMA_VERSION:
            connection.execute(files("actions.store").joinpath("schema.sql").read_text("utf-8"))
            connection.pragma("user_version", SCHEMA_VERSION)
