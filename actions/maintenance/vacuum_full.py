"""Writes the whole file anew, under the write lock from the first page to the last. https://sqlite.org/lang_vacuum.html

It can be stopped while SQLite copies into its temporary file; once SQLite writes back, the vacuum is completed instead.
Nothing is checkpointed: a WAL database shrinks at the next checkpoint. The live bytes are written twice: to the temporary
file, then to the WAL or the rollback journal.
"""

import time
from dataclasses import dataclass

import apsw

from actions.model.context import ActionContext, describe_lock_holder
from actions.model.errors import Failed, Locked, Refused
from actions.policy.vacuum_plan import missing_bytes
from actions.sqlite.busy_timeout import set_busy_timeout
from actions.sqlite.connection import open_writable, relax_commit_syncs
from actions.sqlite.disk_space import free_bytes
from actions.sqlite.interrupt import limit_statements
from collectors.access.timeouts import TimeLimitExceeded
from collectors.disk import temporary_directory

# How long one try waits for the lock, in seconds: for a writer, which blocks no process; for readers, while new ones wait.
WAL_WAIT, ROLLBACK_WAIT = 2.0, 0.125
# Seconds between two tries, and for how long they are repeated.
RETRY_PAUSE, LOCK_PATIENCE = 0.25, 5.0
# Bytes of each of the two writes, as a factor of the live bytes: measured 1.0 (docs/safety.md).
ROOM_MARGIN = 1.1


@dataclass(frozen=True, slots=True)
class FullVacuumResult:
    """Pages and free pages before, pages after, bytes of a page; `seconds`: how long it took and all writers waited."""

    pages_before: int
    free_before: int
    pages: int
    page_size: int
    seconds: float


def room_needed(live_bytes: int) -> int:
    """Bytes that a full VACUUM needs for each of its two writes."""
    return int(ROOM_MARGIN * live_bytes)


def require_room(context: ActionContext, live_bytes: int) -> None:
    """Raises Refused with the missing bytes unless both writes fit on their disks and the reserve stays free."""
    temporary, directory = temporary_directory(), context.target.path.parent
    needed, reserve = room_needed(live_bytes), context.target.limits.disk_reserve
    is_shared = temporary.stat().st_dev == directory.stat().st_dev
    writes = ((directory, 2 * needed),) if is_shared else ((directory, needed), (temporary, needed))
    for place, written in writes:
        missing = missing_bytes(written, reserve, free_bytes(place))
        if missing > 0:
            raise Refused(
                f"a full VACUUM writes {written} bytes in {place} and {reserve} must stay free: {missing} bytes are missing",
                reason="disk_full",
                next_step="free space there, point SQLITE_TMPDIR to a directory with room for the temporary file, or lower "
                "limits.disk_reserve",
            )


def disk_full_error(context: ActionContext, live_bytes: int) -> Failed:
    """The error of a vacuum that did not fit: SQLite has rolled back, and does not tell which of the two disks was full."""
    temporary, directory = temporary_directory(), context.target.path.parent
    needed = room_needed(live_bytes)
    return Failed(
        f"a disk filled up, nothing was changed: a full VACUUM writes {needed} bytes in {temporary} "
        f"({free_bytes(temporary)} are free) and {needed} beside the database in {directory} "
        f"({free_bytes(directory)} are free)",
        reason="disk_full",
        next_step="free space there, or point SQLITE_TMPDIR to a directory with room for the temporary file",
    )


def run_full_vacuum(context: ActionContext, longest: float | None) -> FullVacuumResult:
    """Vacuum; given up after `longest` seconds. Raises Cancelled, Interrupted, Locked, Failed, apsw.Error."""
    with open_writable(context.target.path, WAL_WAIT) as connection:
        _prepare_connection(connection)
        pages_before, free_before = int(connection.pragma("page_count")), int(connection.pragma("freelist_count"))
        seconds = _retry_vacuum(context, connection, longest)
        pages, page_size = int(connection.pragma("page_count")), int(connection.pragma("page_size"))
    return FullVacuumResult(pages_before, free_before, pages, page_size, seconds)


def _prepare_connection(connection: apsw.Connection) -> None:
    connection.pragma("temp_store", 1)  # a file, whichever the library's default is: memory is the application's
    relax_commit_syncs(connection)
    if connection.pragma("journal_mode") != "wal":
        set_busy_timeout(connection, ROLLBACK_WAIT)


def _retry_vacuum(context: ActionContext, connection: apsw.Connection, longest: float | None) -> float:
    """Try until the lock is free; returns how long the vacuum took, in seconds."""
    begun = started = time.monotonic()
    while started - begun <= LOCK_PATIENCE:
        context.stop.raise_if_requested()
        started = time.monotonic()
        try:
            _vacuum_once(context, connection, longest)
        except apsw.BusyError:
            context.stop.wait_for_stop(RETRY_PAUSE)
        else:
            return time.monotonic() - started
    raise Locked(
        f"the database did not come free: {describe_lock_holder(context)}",
        reason="write_lock",
        next_step="`queuekeeper readers` shows who holds it; run it again later",
    )


def _vacuum_once(context: ActionContext, connection: apsw.Connection, longest: float | None) -> None:
    try:
        with limit_statements(context, connection, longest):
            connection.execute("VACUUM")
    except TimeLimitExceeded:
        raise Failed(
            f"given up after {longest:.2f} s: the application has waited twice as long as was accepted; nothing was changed",
            reason="stall",
            next_step="run it by hand at a quiet time, or accept more in the rule: options: {stall: ...}",
        ) from None
