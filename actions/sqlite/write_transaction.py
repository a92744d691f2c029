"""Measures one short write transaction on a database that an application uses.

The application feels how long the write lock is held; a wait for the lock blocks no other process. So a transaction measures
how long it held the lock, and the next batch is made as large as half the budget allows (docs/safety.md).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import apsw

from actions.model.errors import Locked


@dataclass(slots=True)
class WriteTransaction:
    """A write transaction. `began`: monotonic time at which it got the lock. `waited`, and after its end `held`: seconds."""

    began: float
    waited: float
    held: float = 0.0

    def seconds_held(self) -> float:
        """Seconds for which the lock has been held until now."""
        return time.monotonic() - self.began


@contextmanager
def begin_write_transaction(connection: apsw.Connection, wait: float) -> Iterator[WriteTransaction]:
    """Begin a transaction that holds the write lock from its start; it commits after the block, and rolls back on any error.

    `wait`: the seconds after which the connection's busy handler gives up. Raises Locked, apsw.Error.
    """
    requested = time.monotonic()
    try:
        connection.execute("BEGIN IMMEDIATE")
    except apsw.BusyError:
        raise Locked(
            f"the write lock was not released within {wait:g} s",
            reason="write_lock",
            next_step="`queuekeeper readers` shows which process holds it; run it again later",
        ) from None
    began = time.monotonic()
    transaction = WriteTransaction(began, began - requested)
    try:
        yield transaction
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        transaction.held = transaction.seconds_held()


def next_batch_size(size: int, held: float, budget: float, largest: int) -> int:
    """The size of the next batch: doubled after a short hold, reduced in proportion to half the budget after a long one."""
    if held <= budget / 4:
        return min(largest, size * 2)
    return max(1, min(largest, int(size * budget / 2 / held)))
