"""Holds a profile's statements to what the profile declares: an authorizer, asked whenever a statement is compiled.

https://sqlite.org/c3ref/set_authorizer.html. It makes an expression that somebody else wrote unable to read another
table, and unable to write at all.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import apsw

_HARMLESS = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_RECURSIVE})
_REFUSED_FUNCTIONS = frozenset({"load_extension", "readfile", "writefile", "fts3_tokenizer"})


@contextmanager
def reading(database: apsw.Connection, readable: Mapping[str, frozenset[str]]) -> Iterator[None]:
    """Statements of this block may read these columns (lower case) of these tables, and nothing else."""

    def allowed(action: int, first: str | None, second: str | None, _database: str | None, _trigger: str | None) -> int:
        return apsw.SQLITE_OK if _may(readable, action, first or "", second or "") else apsw.SQLITE_DENY

    database.authorizer = allowed
    try:
        yield
    finally:
        database.authorizer = None


def _may(readable: Mapping[str, frozenset[str]], action: int, first: str, second: str) -> bool:
    if action == apsw.SQLITE_READ:
        columns = readable.get(first.lower())
        # No column at all: the statement only counts rows. A common table expression is named, not read.
        return columns is not None and (second == "" or second.lower() in columns)
    if action == apsw.SQLITE_FUNCTION:
        return second.lower() not in _REFUSED_FUNCTIONS
    return action in _HARMLESS
