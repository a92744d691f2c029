"""The newest snapshot of each database and the counts of its polls. The poll loop writes it, all other parts read it.

Values are frozen and mappings are replaced, never changed, so that a view stays valid after later polls.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from collectors.access.snapshot import Snapshot
from collectors.target import Target

SHORTEST_MAX_AGE = 60.0


@dataclass(frozen=True, slots=True)
class SnapshotView:
    """The newest snapshots at one moment. `stale` are the databases whose newest reading is too old to be shown."""

    targets: tuple[Target, ...] = ()
    names: tuple[str, ...] = ()
    fresh: Mapping[str, Snapshot] = field(default_factory=dict)
    stale: frozenset[str] = frozenset()
    last_success: Mapping[str, float] = field(default_factory=dict)
    overruns: Mapping[str, int] = field(default_factory=dict)
    labels_dropped: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[tuple[str, str], int] = field(default_factory=dict)  # collector, reason

    def database_state(self, database: str) -> str:
        """Return the state as `queuekeeper_databases` and the page name it: `found` until the first poll ends."""
        if database in self.stale:
            return "stale"
        return self.fresh[database].state if database in self.fresh else "found"


def max_reading_age(interval: float) -> float:
    """Return how old a reading may be and still be shown, in seconds: three intervals, and at least a minute."""
    return max(3 * interval, SHORTEST_MAX_AGE)


class LatestSnapshots:
    """Holds the newest snapshot of each database. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._targets: dict[str, Target] = {}
        self._listed: tuple[Target, ...] = ()
        self._names: tuple[str, ...] = ()
        self._snapshots: dict[str, Snapshot] = {}
        self._last_success: dict[str, float] = {}
        self._overruns: Counter[str] = Counter()
        self._labels_dropped: Counter[str] = Counter()
        self._errors: Counter[tuple[str, str]] = Counter()

    def set_targets(self, targets: Iterable[Target]) -> None:
        """Replace the watched databases; snapshots of other databases, or of another file of the same name, are dropped."""
        with self._lock:
            listed = tuple(targets)
            if (
                listed != self._listed
            ):  # the same object while the databases are the same: the line cache compares by identity
                self._listed, self._targets = listed, {target.name: target for target in listed}
                self._names = tuple(self._targets)
            remaining = {name: s for name, s in self._snapshots.items() if self._is_watched(s)}
            self._snapshots = remaining
            self._last_success = {name: at for name, at in self._last_success.items() if name in remaining}
            self._overruns = Counter({name: n for name, n in self._overruns.items() if name in self._targets})
            self._labels_dropped = Counter({name: n for name, n in self._labels_dropped.items() if name in remaining})

    def store_snapshot(self, snapshot: Snapshot) -> bool:
        """Store a snapshot; return False when the database is no longer watched."""
        with self._lock:
            if not self._is_watched(snapshot):
                return False
            name = snapshot.target.name
            before = self._snapshots.get(name)
            self._snapshots[name] = snapshot
            # only the newly dropped values: the same names share a label at every poll
            self._labels_dropped[name] += max(0, snapshot.folded_labels - (before.folded_labels if before else 0))
            if snapshot.up:
                self._last_success[name] = snapshot.taken_at
            if (
                before is None or before.collectors is not snapshot.collectors
            ):  # else the file was unchanged and not read
                failed = ((n, r.reason or "unknown") for n, r in snapshot.collectors.items() if not r.success)
                self._errors.update(failed)
            return True

    def count_poll_overrun(self, database: str) -> None:
        """Count a poll that was due while the one before had not ended."""
        with self._lock:
            self._overruns[database] += 1

    def newest_snapshot(self, database: str) -> Snapshot | None:
        """Return the last snapshot of a database, however old; None before the first poll."""
        return self._snapshots.get(database)

    def all_databases_polled(self) -> bool:
        """Return whether every watched database was polled once."""
        with self._lock:
            return self._snapshots.keys() >= self._targets.keys()

    def watched_targets(self) -> Mapping[str, Target]:
        """Return the watched databases by name."""
        return self._targets  # replaced by `set_targets`, never changed

    def view_at(self, now: float, interval: float) -> SnapshotView:
        """Return the snapshots to show at `now`, without readings older than `max_reading_age(interval)`."""
        with self._lock:
            limit = max_reading_age(interval)
            # a reading must also expire after the clock was set back
            old = frozenset(name for name, s in self._snapshots.items() if abs(now - s.taken_at) > limit)
            return SnapshotView(
                targets=self._listed,
                names=self._names,
                fresh={name: s for name, s in self._snapshots.items() if name not in old}
                if old
                else dict(self._snapshots),
                stale=old,
                last_success=dict(self._last_success),
                overruns=dict(self._overruns),
                labels_dropped=dict(self._labels_dropped),
                errors=dict(self._errors),
            )

    def _is_watched(self, snapshot: Snapshot) -> bool:
        target = self._targets.get(snapshot.target.name)
        return target is not None and target.path == snapshot.target.path
