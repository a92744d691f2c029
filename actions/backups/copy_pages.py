"""Copies the pinned snapshot page by page through SQLite's backup API: slower, and works wherever SQLite does.

Without the pin each commit of another process would restart the copy from its first page, without a sign and without end
(https://sqlite.org/backup.html). A rollback-journal database is copied in one step: a read transaction there stops every
commit.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import apsw

from actions.backups.snapshot_pin import SnapshotPin
from actions.model.context import ActionContext
from actions.sqlite.wal_budget import allowed_wal_growth, check_wal_growth

PAGES_PER_STEP = 1000
# Pause for this share of the time that a step took while the WAL is well within its budget: the application's I/O comes first.
PAUSE_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class CopySteps:
    """How many steps a copy took. `restarts`: how often the source had changed since the last step; 0 under a pin."""

    steps: int
    restarts: int


def copy_pages(context: ActionContext, pin: SnapshotPin, destination: Path) -> CopySteps:
    """Copy the snapshot into the empty private file `destination`. Raises ActionError, apsw.Error, OSError."""
    copy = apsw.Connection(str(destination), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        copy.execute("PRAGMA synchronous=OFF")  # publishing syncs the file itself, once
        copy.execute("PRAGMA journal_mode=OFF").fetchall()  # a half copy is thrown away, never rolled back
        backup = copy.backup("main", pin.source, "main")
        try:
            return _run_copy_steps(context, backup, pin)
        finally:
            backup.close(True)  # the step raised the error already
    except apsw.IOError as error:
        number = copy.system_errno
        if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_WRITE and number:
            raise OSError(
                number, os.strerror(number)
            ) from error  # a quota or a limit: SQLite knows ENOSPC alone as full
        raise
    finally:
        copy.close()


def _run_copy_steps(context: ActionContext, backup: apsw.Backup, pin: SnapshotPin) -> CopySteps:
    steps = restarts = 0
    remaining = None
    half = allowed_wal_growth(context) / 2
    while not backup.done:
        started = time.monotonic()
        backup.step(PAGES_PER_STEP if pin.held else -1)
        steps += 1
        restarts += remaining is not None and backup.remaining > remaining
        remaining = backup.remaining
        context.emit_progress("copied pages", backup.page_count - remaining, backup.page_count)
        context.stop.raise_if_requested()
        if check_wal_growth(context, pin.wal_before) < half:
            context.stop.wait_for_stop(PAUSE_SHARE * (time.monotonic() - started))
    return CopySteps(steps, restarts)
