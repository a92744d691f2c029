"""The statements that connections run: watched, or made slow without many rows, so that no machine is too fast for it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import apsw


@contextmanager
def before_each_statement(do: Callable[[str, apsw.Connection], object]) -> Iterator[None]:
    """Call `do` with the text of each statement that a connection opened from now on is about to run."""

    def trace(connection: apsw.Connection) -> None:
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: do(str(event["sql"]), connection), id=do)

    apsw.connection_hooks.append(trace)
    try:
        yield
    finally:
        apsw.connection_hooks.remove(trace)


@contextmanager
def slow_statements(is_slow: Callable[[str], bool], seconds: float) -> Iterator[None]:
    """Statements that `is_slow` chooses last so much longer: SQLite has begun them, and an interrupt ends them."""
    with before_each_statement(lambda sql, _: time.sleep(seconds) if is_slow(sql) else None):
        yield
