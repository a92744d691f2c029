"""Keeps what each database held across restarts of the agent, and learns when a person accepted what was lost.

It is noted in memory at every poll, and written to the state store every WRITE_EVERY seconds for all databases together.
"""

import logging
import threading
from dataclasses import replace
from pathlib import Path

import apsw

from actions.store.content_seen import load_content_memories, load_content_memory, record_content
from actions.store.database import StoreUnavailable, history_file, state_store
from collectors.access.snapshot import Snapshot
from collectors.content_loss.memory import ContentMemory
from collectors.poll import remembered_snapshot
from collectors.storage import StorageReading
from collectors.target import Target
from exporter.log import log_event

LOG = logging.getLogger(__name__)
WRITE_EVERY = 300.0


def remembered_contents(state: Path) -> dict[str, ContentMemory]:
    """What the history of this directory remembers, by database; nothing where there is no history yet, or none to read."""
    if not history_file(state).exists():
        return {}
    try:
        with state_store(state) as store:
            return load_content_memories(store)
    except (StoreUnavailable, apsw.Error):
        return {}  # the agent's start, and each action, report it


class ContentKeeper:
    """Gives polls what was remembered, and records what they read. Safe to use from any thread."""

    def __init__(self, state: Path, write_every: float = WRITE_EVERY) -> None:
        self._state, self._write_every = state, write_every
        self._guard = threading.Lock()
        self._remembered: dict[str, ContentMemory] | None = None
        self._unwritten: dict[str, ContentMemory] = {}
        self._written_at: float | None = None

    def previous_snapshot(self, target: Target, previous: Snapshot | None) -> Snapshot | None:
        """The previous snapshot for the next poll of this database: with what was remembered, and without what was accepted."""
        if previous is None:
            memory = self._load_once().get(target.name)
            return None if memory is None else remembered_snapshot(target, memory)
        reading = previous.readings.get("storage")
        if not isinstance(reading, StorageReading) or reading.content.great_loss is None:
            return previous
        memory = replace(reading.content.memory, accepted_at=self._accepted_at(target.name))
        if memory.accepted_at <= reading.content.memory.accepted_at:
            return previous
        forgotten = replace(reading, content=replace(reading.content, memory=memory))
        return replace(previous, readings={**previous.readings, "storage": forgotten})

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Note what this database holds, if it was read."""
        reading = snapshot.readings.get("storage")
        if not isinstance(reading, StorageReading) or reading.content.memory.marks is None:
            return
        now = snapshot.taken_at
        with self._guard:
            self._unwritten[snapshot.target.name] = reading.content.memory
            due = self._written_at is None or not 0 <= now - self._written_at < self._write_every
        if due:
            self.write(now)

    def write(self, now: float) -> None:
        """Write what is not written yet. `now`: seconds since the epoch."""
        with self._guard:
            unwritten, self._unwritten = self._unwritten, {}
            self._written_at = now
        if not unwritten:
            return
        try:
            with state_store(self._state) as store:
                record_content(store, unwritten)
        except (StoreUnavailable, apsw.Error) as error:
            cure = "free space or fix permissions"
            log_event(LOG, logging.ERROR, "the state store cannot be used", error=str(error), next_step=cure)
            with self._guard:
                self._unwritten = {**unwritten, **self._unwritten}

    def _load_once(self) -> dict[str, ContentMemory]:
        with self._guard:
            if self._remembered is None:
                self._remembered = remembered_contents(self._state)
            return self._remembered

    def _accepted_at(self, database: str) -> float:
        try:
            with state_store(self._state) as store:
                return load_content_memory(store, database).accepted_at
        except (StoreUnavailable, apsw.Error):
            return 0.0
