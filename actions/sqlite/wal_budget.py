"""Limits how much the WAL grows because of us.

A pin keeps the WAL from being reset, so under a pin it grows at the commit rate. While we write in batches we pause until the
application's own checkpoints make room: we never checkpoint here (docs/safety.md). A log that is copied whole starts over with
the next write, ours too, unless a reader still uses it.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import apsw

from actions.model.context import ActionContext
from actions.model.errors import Failed
from actions.sqlite.disk_space import size_or_zero
from actions.sqlite.interrupt import interrupt_when
from collectors.raw_reader.client import RawReaderUnavailable
from collectors.raw_reader.formats import wal_file_bytes

# Seconds between two measurements of the WAL's size while a statement runs under the pin.
GROWTH_CHECK_INTERVAL = 0.05
# How long to wait for the application's own checkpoint, and between two measurements while waiting, in seconds.
CHECKPOINT_PATIENCE, ROOM_CHECK_INTERVAL = 10.0, 0.01


def wal_growth(context: ActionContext, before: int) -> int:
    """Bytes by which the WAL file is larger than `before`."""
    return max(0, size_or_zero(context.target.wal) - before)


def live_wal_growth(context: ActionContext, before: int) -> int:
    """Bytes of the WAL in use now, beyond the size `before` of its file; they fall when the WAL starts over.

    The file is not shortened then, so `wal_growth` cannot tell when there is room again.
    """
    with suppress(RawReaderUnavailable):
        index = context.raw.read_wal_index(context.target.path)
        if index is not None:
            return max(0, wal_file_bytes(index.frames, index.page_size) - before)
    return wal_growth(context, before)


def allowed_wal_growth(context: ActionContext) -> int:
    """The bytes that limits.wal_growth allows for this database."""
    return context.target.limits.wal_growth(context.target.path.stat().st_size)


def check_wal_growth(context: ActionContext, before: int, what: str = "copy") -> int:
    """The growth until now. Raises Failed beyond the budget: what holds the pin (`what`) must end."""
    grown, allowed = wal_growth(context, before), allowed_wal_growth(context)
    if grown > allowed:
        raise Failed(
            f"the WAL grew by {grown} bytes while the {what} pinned it, {allowed} are allowed: the {what} was given up",
            reason="wal_growth",
            next_step="run it when less is written, or raise limits.wal_growth",
        )
    return grown


@contextmanager
def limit_wal_growth(
    context: ActionContext, before: int, pinning: apsw.Connection, what: str = "copy"
) -> Iterator[None]:
    """Interrupt the pinning connection's statements in the block when the WAL outgrows its budget, or at a request to stop.

    Raises Failed, Cancelled, Interrupted.
    """

    def is_over_budget() -> bool:
        return context.stop.is_requested or wal_growth(context, before) > allowed_wal_growth(context)

    try:
        with interrupt_when(pinning, is_over_budget, GROWTH_CHECK_INTERVAL):
            yield
    except apsw.InterruptError:
        context.stop.raise_if_requested()
        check_wal_growth(context, before, what)
        raise
    check_wal_growth(context, before, what)


class WalBudgetExhausted(Exception):
    """The WAL has grown to its budget and no process checkpoints it."""


class WalHeadroom:
    """The room left in the WAL's budget. `pauses`, `paused`: how often and how many seconds we waited for it."""

    def __init__(self, context: ActionContext) -> None:
        self._work = context
        self._before = size_or_zero(context.target.wal)
        self._budget = allowed_wal_growth(context)
        self.pauses = 0
        self.paused = 0.0

    def wait_for_room(self) -> None:
        """Wait until the growth is well within the budget: the application's own commits need the remainder.

        Raises WalBudgetExhausted, Cancelled, Interrupted.
        """
        if self._has_room():
            return
        self.pauses += 1
        waited = 0.0
        while not self._has_room():
            if waited >= CHECKPOINT_PATIENCE:
                raise WalBudgetExhausted
            self._work.stop.raise_if_requested()
            self._work.stop.wait_for_stop(ROOM_CHECK_INTERVAL)
            waited += ROOM_CHECK_INTERVAL
            self.paused += ROOM_CHECK_INTERVAL

    def _has_room(self) -> bool:
        grown = live_wal_growth(self._work, self._before)
        return grown <= self._budget / 2 or (grown <= self._budget and self._is_fully_copied())

    def _is_fully_copied(self) -> bool:
        with suppress(RawReaderUnavailable):
            index = self._work.raw.read_wal_index(self._work.target.path)
            return index is not None and index.copied == index.frames
        return False
