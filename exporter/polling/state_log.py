"""Logs once when a database becomes unreadable, once when it is readable again, and each new warning about its owner."""

import logging
import threading

from collectors.access.snapshot import Snapshot
from collectors.owner import OwnerReading
from exporter.log import log_event

LOG = logging.getLogger(__name__)


class StateLog:
    """Remembers what was logged of each database. Safe to use from several threads, one for each database."""

    def __init__(self) -> None:
        self._states: dict[str, tuple[str, bool]] = {}
        self._warnings: dict[str, str] = {}
        self._guard = threading.Lock()

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Log what changed with this snapshot."""
        name, now = snapshot.target.name, (snapshot.state, snapshot.up)
        with self._guard:
            before, self._states[name] = self._states.get(name), now
        if now != before:
            self._log_state(snapshot, before)
        self._log_warning(snapshot)

    def _log_state(self, snapshot: Snapshot, before: tuple[str, bool] | None) -> None:
        about = {"database": snapshot.target.name, "state": snapshot.state}
        if not snapshot.up:
            log_event(LOG, logging.WARNING, "database cannot be read", **about, reason=snapshot.message)
        elif before is not None and not before[1]:
            log_event(LOG, logging.INFO, "database can be read again", **about)
        elif snapshot.message:
            log_event(LOG, logging.INFO, "database is read in part", **about, reason=snapshot.message)

    def _log_warning(self, snapshot: Snapshot) -> None:
        owner = snapshot.readings.get("owner")
        warning = owner.warning if isinstance(owner, OwnerReading) else ""
        name = snapshot.target.name
        with self._guard:
            before, self._warnings[name] = self._warnings.get(name, ""), warning
        if warning and warning != before:
            log_event(LOG, logging.WARNING, "owner_sqlite may be wrong", database=name, reason=warning)
