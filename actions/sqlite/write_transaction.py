"""One short turn with the write lock beside a live application: waited for, held briefly, measured.

Holding the lock is what the application feels; waiting for it holds nobody up. So a turn says how long it held, and the
next one is made as large as half the budget allows (docs/safety.md).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import apsw

from actions.model.errors import Locked


@dataclass(slots=True)
class WriteTransaction:
    """`began`: monotonic seconds since when the lock is held. `waited` and `held` in seconds; `held` once it is over."""

    began: float
    waited: float
    held: float = 0.0

    def seconds_held(self) -> float:
        """How long the lock has been held until now, in seconds."""
        return time.monotonic() - self.began


@contextmanager
def begin_write_transaction(connection: apsw.Connection, wait: float) -> Iterator[WriteTransaction]:
    """A transaction that holds the write lock from its start; commits at the end, rolls back on any error.

    `wait`: the seconds after which the connection's busy handler gives up. Raises Locked, apsw.Error.
    """
    asked = time.monotonic()
    try:
        connection.execute("BEGIN IMMEDIATE")
    except apsw.BusyError:
        raise Locked(
            f"the write lock did not come free within {wait:g} s",
            reason="write_lock",
            next_step="`queuekeeper readers` shows who holds it; run it again later",
        ) from None
    began = time.monotonic()
    turn = WriteTransaction(began, began - asked)
    try:
        yield turn
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        turn.held = turn.seconds_held()


def next_batch_size(size: int, held: float, budget: float, largest: int) -> int:
    """How much to do in the next turn: doubled after a short hold, shrunk in proportion to half the budget after a long one."""
    if held <= budget / 4:
        return min(largest, size * 2)
    return max(1, min(largest, int(size * budget / 2 / held)))
