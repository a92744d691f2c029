"""One read transaction for the collectors of a poll, so that their values belong to one moment.

It holds what a reader of SQLite holds: it pins the WAL, or stops the commits of a rollback-journal database. So it lasts
for the budget of one read at most (`limits.read_wal`, `limits.read_rollback`), and every way out of its block ends it.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

import apsw

from collectors.access.timeouts import TimeLimitExceeded, time_limit

# A collector that begins later than after this part of the budget gets a transaction, and so a moment, of its own.
LATEST_START = 0.5
# Statements that begin when the budget is spent are interrupted after this part of it.
REPEAT_AFTER = 0.1

Reading = TypeVar("Reading")


class ReadTransaction:
    """The shared read transaction of one connection. `budget`: seconds for which it may be held."""

    def __init__(self, connection: apsw.Connection, budget: float) -> None:
        self._connection, self._budget = connection, budget
        self._began_at = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(apsw.Error):  # the connection is closed soon, which ends it too
            self._end_transaction()

    def run_bounded(self, read: Callable[[], Reading]) -> Reading:
        """What `read` returns, read inside the transaction, which begins when it must.

        A read that was interrupted because others had used up a part of the budget is tried once more, with all of it.
        Raises what `read` raises, apsw.Error, TimeLimitExceeded.
        """
        is_new = self._begin_if_needed()
        try:
            return self._run_once(read)
        except TimeLimitExceeded:
            if is_new:
                raise
            self._begin_transaction()
            return self._run_once(read)

    def _run_once(self, read: Callable[[], Reading]) -> Reading:
        seconds = self._began_at + self._budget - time.monotonic()
        with time_limit(self._connection, seconds, budget=self._budget, repeat=REPEAT_AFTER * self._budget):
            return read()

    def _begin_if_needed(self) -> bool:
        """Begin a transaction when there is none, or too little of its budget is left. Returns whether one was begun."""
        spent = time.monotonic() - self._began_at
        # SQLite itself ends a transaction on some errors (https://sqlite.org/lang_transaction.html, section 2.4).
        if self._connection.in_transaction and spent <= LATEST_START * self._budget:
            return False
        self._begin_transaction()
        return True

    def _begin_transaction(self) -> None:
        """The first read takes the lock; waiting for it does not count."""
        self._end_transaction()
        self._connection.execute("BEGIN")
        self._connection.pragma("schema_version")
        self._began_at = time.monotonic()

    def _end_transaction(self) -> None:
        """Nothing was changed, so that a rollback ends it as well as a commit does, and never waits."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
