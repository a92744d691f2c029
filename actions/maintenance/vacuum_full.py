"""The whole file written anew, under the write lock from the first page to the last. https://sqlite.org/lang_vacuum.html

It can be stopped while it copies into its temporary file; once it writes back it is finished instead. Nothing is
checkpointed: a WAL database shrinks at the next checkpoint.
"""

import time
from dataclasses import dataclass

import apsw

from actions.model.context import ActionContext
from actions.model.errors import Failed, Locked
from actions.model.lock_holders import describe_lock_holder
from actions.sqlite.busy_timeout import set_busy_timeout
from actions.sqlite.connection import open_writable, relax_commit_syncs
from actions.sqlite.interrupt import limit_statements
from collectors.access.timeouts import TimeLimitExceeded

# How long one try waits for the lock: for a writer, which holds nobody up; for readers, while new ones have to wait.
WAL_WAIT, ROLLBACK_WAIT = 2.0, 0.125
RETRY_PAUSE = 0.25
# For how long it is tried, in seconds.
LOCK_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class FullVacuumResult:
    """Pages and free pages before, pages after, bytes of a page; `seconds` it took, and writers had to wait."""

    pages_before: int
    free_before: int
    pages: int
    page_size: int
    seconds: float


def run_full_vacuum(work: ActionContext, longest: float | None) -> FullVacuumResult:
    """Vacuum; given up after `longest` seconds. Raises Cancelled, Interrupted, Locked, Failed, apsw.Error."""
    with open_writable(work.target.path, WAL_WAIT) as connection:
        _prepare_connection(connection)
        pages_before, free_before = int(connection.pragma("page_count")), int(connection.pragma("freelist_count"))
        seconds = _retry_vacuum(work, connection, longest)
        pages, page_size = int(connection.pragma("page_count")), int(connection.pragma("page_size"))
    return FullVacuumResult(pages_before, free_before, pages, page_size, seconds)


def _prepare_connection(connection: apsw.Connection) -> None:
    connection.pragma("temp_store", 1)  # a file, whatever the library's default: memory is the application's
    relax_commit_syncs(connection)
    if connection.pragma("journal_mode") != "wal":
        set_busy_timeout(connection, ROLLBACK_WAIT)


def _retry_vacuum(work: ActionContext, connection: apsw.Connection, longest: float | None) -> float:
    """Try until the lock is free; how long the vacuum took, in seconds."""
    begun = started = time.monotonic()
    while started - begun <= LOCK_PATIENCE:
        work.stop.raise_if_requested()
        started = time.monotonic()
        try:
            _vacuum_once(work, connection, longest)
        except apsw.BusyError:
            work.stop.wait_for_stop(RETRY_PAUSE)
        else:
            return time.monotonic() - started
    raise Locked(
        f"the database did not come free: {describe_lock_holder(work)}",
        reason="write_lock",
        next_step="`queuekeeper readers` shows who holds it; run it again later",
    )


def _vacuum_once(work: ActionContext, connection: apsw.Connection, longest: float | None) -> None:
    try:
        with limit_statements(work, connection, longest):
            connection.execute("VACUUM")
    except TimeLimitExceeded:
        raise Failed(
            f"given up after {longest:.2f} s: the application has waited twice as long as was accepted; nothing was changed",
            reason="stall",
            next_step="run it by hand at a quiet time, or accept more in the rule: options: {stall: ...}",
        ) from None
