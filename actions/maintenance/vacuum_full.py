"""The whole file written anew, under the write lock from the first page to the last. https://sqlite.org/lang_vacuum.html

It can be stopped while it copies into its temporary file; once it writes back it is finished instead. Nothing is
checkpointed: a WAL database shrinks at the next checkpoint.
"""

import time
from dataclasses import dataclass

import apsw

from actions.model.context import Work
from actions.model.errors import Failed, Locked
from actions.model.lock_holders import in_the_way
from actions.sqlite.busy_timeout import wait_at_most
from actions.sqlite.connection import without_syncs, writable
from actions.sqlite.interrupt import bounded
from collectors.access.timeouts import TimeLimitExceeded

# How long one try waits for the lock: for a writer, which holds nobody up; for readers, while new ones have to wait.
WAL_WAIT, ROLLBACK_WAIT = 2.0, 0.125
REST = 0.25
# For how long it is tried, in seconds.
PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """Pages and free pages before, pages after, bytes of a page; `seconds` it took, and writers had to wait."""

    pages_before: int
    free_before: int
    pages: int
    page_size: int
    seconds: float


def vacuum_whole(work: Work, longest: float | None) -> Vacuumed:
    """Vacuum; given up after `longest` seconds. Raises Cancelled, Interrupted, Locked, Failed, apsw.Error."""
    with writable(work.target.path, WAL_WAIT) as connection:
        _prepare(connection)
        pages_before, free_before = int(connection.pragma("page_count")), int(connection.pragma("freelist_count"))
        seconds = _patiently(work, connection, longest)
        pages, page_size = int(connection.pragma("page_count")), int(connection.pragma("page_size"))
    return Vacuumed(pages_before, free_before, pages, page_size, seconds)


def _prepare(connection: apsw.Connection) -> None:
    connection.pragma("temp_store", 1)  # a file, whatever the library's default: memory is the application's
    without_syncs(connection)
    if connection.pragma("journal_mode") != "wal":
        wait_at_most(connection, ROLLBACK_WAIT)


def _patiently(work: Work, connection: apsw.Connection, longest: float | None) -> float:
    """Try until the lock is free; how long the vacuum took, in seconds."""
    begun = started = time.monotonic()
    while started - begun <= PATIENCE:
        work.stop.check()
        started = time.monotonic()
        try:
            _vacuum(work, connection, longest)
        except apsw.BusyError:
            work.stop.wait(REST)
        else:
            return time.monotonic() - started
    raise Locked(
        f"the database did not come free: {in_the_way(work)}",
        reason="write_lock",
        next_step="`queuekeeper readers` shows who holds it; run it again later",
    )


def _vacuum(work: Work, connection: apsw.Connection, longest: float | None) -> None:
    try:
        with bounded(work, connection, longest):
            connection.execute("VACUUM")
    except TimeLimitExceeded:
        raise Failed(
            f"given up after {longest:.2f} s: the application has waited twice as long as was accepted; nothing was changed",
            reason="stall",
            next_step="run it by hand at a quiet time, or accept more in the rule: options: {stall: ...}",
        ) from None
