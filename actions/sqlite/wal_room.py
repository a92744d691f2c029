"""Keeps the WAL inside its budget while we write in turns: pauses until the application's own checkpoints make room.

We never checkpoint here (docs/safety.md). A log that is copied whole starts over with the next write, ours too, unless
somebody still reads it.
"""

from contextlib import suppress

from actions.model.context import Work
from actions.sqlite.disk_space import size_or_zero
from actions.sqlite.wal_budget import budget, live_growth
from collectors.raw_reader.client import RawReaderUnavailable

# How long to wait for the application's own checkpoint, in seconds.
PATIENCE = 10.0
LOOK_EVERY = 0.01


class WalFull(Exception):
    """The WAL has grown to its budget and nobody checkpoints it."""


class WalRoom:
    """The growth of one database's WAL since this was made. `pauses`, `paused`: how often and how long we waited, seconds."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._before = size_or_zero(work.target.wal)
        self._budget = budget(work)
        self.pauses = 0
        self.paused = 0.0

    def wait(self) -> None:
        """Until the growth is well within the budget: the application's own commits need the rest.

        Raises WalFull, Cancelled, Interrupted.
        """
        if self._has_room():
            return
        self.pauses += 1
        waited = 0.0
        while not self._has_room():
            if waited >= PATIENCE:
                raise WalFull
            self._work.stop.check()
            self._work.stop.wait(LOOK_EVERY)
            waited += LOOK_EVERY
            self.paused += LOOK_EVERY

    def _has_room(self) -> bool:
        grown = live_growth(self._work, self._before)
        return grown <= self._budget / 2 or (grown <= self._budget and self._copied())

    def _copied(self) -> bool:
        with suppress(RawReaderUnavailable):
            index = self._work.raw.wal_index(self._work.target.path)
            return index is not None and index.copied == index.frames
        return False
