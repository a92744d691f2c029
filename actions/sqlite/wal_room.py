"""Keeps the WAL inside its budget while we write in turns: pauses until the application's own checkpoints make room.

We never checkpoint here (docs/safety.md). A log that is copied whole starts over with the next write, ours too, unless
somebody still reads it.
"""

from contextlib import suppress

from actions.model.context import ActionContext
from actions.sqlite.disk_space import size_or_zero
from actions.sqlite.wal_budget import allowed_wal_growth, live_wal_growth
from collectors.raw_reader.client import RawReaderUnavailable

# How long to wait for the application's own checkpoint, in seconds.
CHECKPOINT_PATIENCE = 10.0
ROOM_CHECK_INTERVAL = 0.01


class WalBudgetExhausted(Exception):
    """The WAL has grown to its budget and nobody checkpoints it."""


class WalHeadroom:
    """The growth of one database's WAL since this was made. `pauses`, `paused`: how often and how long we waited, seconds."""

    def __init__(self, work: ActionContext) -> None:
        self._work = work
        self._before = size_or_zero(work.target.wal)
        self._budget = allowed_wal_growth(work)
        self.pauses = 0
        self.paused = 0.0

    def wait_for_room(self) -> None:
        """Until the growth is well within the budget: the application's own commits need the rest.

        Raises WalFull, Cancelled, Interrupted.
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
