"""Which journal a database has, by its header: a WAL database whose owner is down has no WAL file."""

from actions.run.work import Work


def is_rollback(work: Work) -> bool:
    """Whether readers and commits exclude each other there. Raises OSError, RawReaderUnavailable."""
    header = work.raw.database_header(work.target.path)
    return header is not None and header.valid and not header.wal
