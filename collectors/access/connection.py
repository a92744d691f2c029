"""The one place that opens a watched database for reading.

`mode=ro`, never read-write with `query_only`: the latter still runs `PRAGMA journal_mode=` and `wal_checkpoint`, and
the last such connection to close checkpoints and deletes the WAL (docs/safety.md). Call `preflight` first: a read-only
connection to a WAL database without a running owner creates files beside it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import apsw

BUSY_TIMEOUT = 0.25


@contextmanager
def open_read_only(path: Path, busy_timeout: float = BUSY_TIMEOUT) -> Iterator[apsw.Connection]:
    """A short-lived read-only connection; `busy_timeout` in seconds. Raises apsw.Error. Closed in any case."""
    connection = apsw.Connection(read_only_uri(path), flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        connection.set_busy_timeout(round(busy_timeout * 1000))
        yield connection
    finally:
        connection.close()


@contextmanager
def open_immutable(path: Path) -> Iterator[apsw.Connection]:
    """A connection to a file that no process writes (a backup): it takes no lock and creates no file beside it.

    Never for a live database: `immutable` does not see its WAL, and shows half-written pages. Raises apsw.Error.
    """
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(read_only_uri(path) + "&immutable=1", flags=flags)
    try:
        yield connection
    finally:
        connection.close()


def read_only_uri(path: Path) -> str:
    """The read-only file URI of a path; `?`, `#`, `%` and bytes not in UTF-8 are escaped (sqlite.org/uri.html)."""
    return "file:" + quote(bytes(path)) + "?mode=ro"
