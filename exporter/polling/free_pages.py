"""Records the lowest number of free pages of each database in each hour, so that a vacuum knows which pages stay free.

It is noted in memory at every poll, and written to the state store every WRITE_EVERY seconds for all databases together.
"""

import logging
import threading
from pathlib import Path

import apsw

from actions.model.context import FreePageMinimum
from actions.store.database import StoreUnavailable, state_store
from actions.store.free_pages import HOUR, record_free_pages
from collectors.access.snapshot import Snapshot
from collectors.storage import FREE_PAGES
from exporter.log import log_event

LOG = logging.getLogger(__name__)
WRITE_EVERY = 300.0


class FreePageRecorder:
    """Records low marks of free pages. Safe to use from any thread."""

    def __init__(self, state: Path, write_every: float = WRITE_EVERY) -> None:
        self._state, self._write_every = state, write_every
        self._guard = threading.Lock()
        self._known: dict[str, FreePageMinimum] = {}
        self._unwritten: dict[tuple[str, int], int] = {}
        self._written_at: float | None = None

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Note the free pages of this reading, if they could be read."""
        sample = next(iter(snapshot.samples_of(FREE_PAGES.name)), None)
        if sample is None:
            return
        now = snapshot.taken_at
        with self._guard:
            self._note_low(snapshot.target.name, FreePageMinimum(int(now // HOUR), int(sample.value_at(now))))
            due = self._written_at is None or not 0 <= now - self._written_at < self._write_every
        if due:
            self.write(now)

    def write(self, now: float) -> None:
        """Write the marks that are not written yet. `now` is in seconds since the epoch."""
        with self._guard:
            lows, self._unwritten = self._unwritten, {}
            self._written_at = now
        if not lows:
            return
        try:
            with state_store(self._state) as store:
                record_free_pages(store, lows, now)
        except (StoreUnavailable, apsw.Error) as error:
            cure = "free space or fix permissions"
            log_event(LOG, logging.ERROR, "the state store cannot be used", error=str(error), next_step=cure)
            with self._guard:
                self._unwritten = {**lows, **self._unwritten}  # marks that arrived in between are lower

    def _note_low(self, database: str, low: FreePageMinimum) -> None:
        known = self._known.get(database)
        if known is None or known.hour != low.hour or low.pages < known.pages:
            self._known[database] = low
            self._unwritten[database, low.hour] = low.pages
