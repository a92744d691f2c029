"""Restores into a database that applications have open, through SQLite's backup API in one step.

No other way is safe while an application is connected: copying or renaming files under it corrupts them (docs/safety.md).
Readers keep their snapshot, writers wait for the step, then every connection sees the restored rows.
"""

from pathlib import Path

import apsw

from actions.backups.provable_check import check_structure
from actions.model.context import ActionContext
from actions.model.errors import Locked
from actions.sqlite.connection import open_writable
from collectors.access.connection import open_immutable, open_read_only

# How long to wait for the application to be between two writes, in seconds. The wait itself blocks no process.
LOCK_WAIT = 5.0


def restore_live(context: ActionContext, plain: Path) -> None:
    """Replace the content of the live database by that of `plain` (same page size). Raises Locked, apsw.Error."""
    with open_immutable(plain) as source, open_writable(context.target.path, LOCK_WAIT) as destination:
        backup = destination.backup("main", source, "main")
        try:
            backup.step(-1)
        except apsw.BusyError:
            raise Locked(
                f"the application did not release the write lock within {LOCK_WAIT:g} s; nothing was changed",
                reason="write_lock",
                next_step="stop its workers, or run it again; `queuekeeper readers` shows who holds it",
            ) from None
        finally:
            backup.close(True)
    with open_read_only(context.target.path) as restored:
        problems = check_structure(restored, 3)
    if problems:
        raise apsw.CorruptError(f"quick_check after the restore says: {problems[0]}")


def change_page_size(plain: Path, page_size: int) -> None:
    """Rewrite a private copy of a backup with another page size: a WAL database cannot change its own."""
    copy = apsw.Connection(str(plain), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        copy.execute("PRAGMA synchronous=OFF")
        copy.execute(f"PRAGMA page_size={int(page_size)}").fetchall()
        copy.execute("VACUUM")
    finally:
        copy.close()
