"""Opens a watched database for change: the one way to do it.

Every connection of ours leaves checkpoints to the checkpoint action: no autocheckpoint, none on close. Closing a
read-write connection as the last one would otherwise checkpoint and delete the WAL under an application that comes back
(docs/safety.md). A database that does not exist is never created.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import apsw

from actions.model.context import ActionContext
from actions.sqlite.busy_timeout import set_busy_timeout
from collectors.access.connection import open_read_only
from collectors.raw_reader.client import RawReaderUnavailable


def relax_commit_syncs(connection: apsw.Connection) -> None:
    """Let commits return before they are on disk, where a WAL keeps their order: for changes that may be lost.

    The write lock is then held for a shorter time. A crash of the machine may undo the newest commits, never tear one
    (https://sqlite.org/pragma.html#pragma_synchronous).
    In rollback-journal mode only the syncs keep the file whole: there nothing changes.
    """
    if connection.pragma("journal_mode") == "wal":
        connection.pragma("synchronous", 1)


@contextmanager
def open_writable(path: Path, busy_wait: float, vfs: str | None = None) -> Iterator[apsw.Connection]:
    """Open a database for change; each wait for a lock ends after `busy_wait` seconds. Raises apsw.Error."""
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(f"file:{quote(str(path))}", flags=flags, vfs=vfs)
    try:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.wal_autocheckpoint(0)
        set_busy_timeout(connection, busy_wait)
        yield connection
    finally:
        connection.close()


def uses_rollback_journal(context: ActionContext) -> bool:
    """Whether the database has a rollback journal, so that readers and commits exclude each other.

    The header tells; the WAL file does not, since a WAL database has none while its owner is down. Raises OSError, apsw.Error.
    """
    try:
        header = context.raw.read_database_header(context.target.path)
    except RawReaderUnavailable:  # on a machine that is too busy
        with open_read_only(context.target.path) as connection:
            return bool(connection.pragma("journal_mode") != "wal")
    return header is not None and header.valid and not header.wal
