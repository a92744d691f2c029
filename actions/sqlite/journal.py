"""Which journal a database has."""

from actions.model.context import ActionContext
from collectors.access.connection import open_read_only
from collectors.raw_reader.client import RawReaderUnavailable


def uses_rollback_journal(work: ActionContext) -> bool:
    """Whether readers and commits exclude each other there. By the header; a WAL database whose owner is down has no WAL file.

    Raises OSError, apsw.Error.
    """
    try:
        header = work.raw.read_database_header(work.target.path)
    except RawReaderUnavailable:  # on a machine that hardly moves
        with open_read_only(work.target.path) as connection:
            return bool(connection.pragma("journal_mode") != "wal")
    return header is not None and header.valid and not header.wal
