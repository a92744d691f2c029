"""The newest snapshot of each database, and how its polls went. Written by the poll loop, read by everybody else.

Values are frozen and mappings are replaced, never changed: whoever has a view keeps it, whatever comes next.
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
    """The board at one moment. `stale` are databases whose newest reading is too old to be shown."""

    targets: tuple[Target, ...] = ()
    names: tuple[str, ...] = ()
    fresh: Mapping[str, Snapshot] = field(default_factory=dict)
    stale: frozenset[str] = frozenset()
    last_success: Mapping[str, float] = field(default_factory=dict)
    overruns: Mapping[str, int] = field(default_factory=dict)
    labels_dropped: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[tuple[str, str], int] = field(default_factory=dict)  # collector, reason

    def state_of(self, database: str) -> str:
        """The word for `queuekeeper_databases` and the page: `found` until the first poll ended."""
        if database in self.stale:
            return "stale"
        return self.fresh[database].state if database in self.fresh else "found"


def max_age(interval: float) -> float:
    """How old a reading may be and still be shown: three polls, and at least a minute. Seconds."""
    return max(3 * interval, SHORTEST_MAX_AGE)


class LatestSnapshots:
    """Safe to use from any thread."""

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
        """These are the databases now; what is known of others, or of another file of the same name, goes."""
        with self._lock:
            listed = tuple(targets)
            if listed != self._listed:  # the same object as long as the same databases: the page is kept by it
                self._listed, self._targets = listed, {target.name: target for target in listed}
                self._names = tuple(self._targets)
            kept = {name: s for name, s in self._snapshots.items() if self._is_watched(s)}
            self._snapshots = kept
            self._last_success = {name: at for name, at in self._last_success.items() if name in kept}
            self._overruns = Counter({name: n for name, n in self._overruns.items() if name in self._targets})
            self._labels_dropped = Counter({name: n for name, n in self._labels_dropped.items() if name in kept})

    def store_snapshot(self, snapshot: Snapshot) -> bool:
        """Show it; False when the database is no longer watched (its poll outlived it)."""
        with self._lock:
            if not self._is_watched(snapshot):
                return False
            name = snapshot.target.name
            before = self._snapshots.get(name)
            self._snapshots[name] = snapshot
            # only what is newly folded: the same names share a label at every poll
            self._labels_dropped[name] += max(0, snapshot.folded_labels - (before.folded_labels if before else 0))
            if snapshot.up:
                self._last_success[name] = snapshot.taken_at
            if before is None or before.collectors is not snapshot.collectors:  # else it was only found unchanged
                failed = ((n, r.reason or "unknown") for n, r in snapshot.collectors.items() if not r.success)
                self._errors.update(failed)
            return True

    def count_overrun(self, database: str) -> None:
        """A poll was due while the one before had not ended."""
        with self._lock:
            self._overruns[database] += 1

    def newest_snapshot(self, database: str) -> Snapshot | None:
        """The last snapshot of a database, however old."""
        return self._snapshots.get(database)

    def all_polled(self) -> bool:
        """Every watched database was polled once."""
        with self._lock:
            return self._snapshots.keys() >= self._targets.keys()

    def watched_targets(self) -> Mapping[str, Target]:
        """The watched databases by name."""
        return self._targets  # replaced by `watch`, never changed

    def view_at(self, now: float, interval: float) -> SnapshotView:
        """What may be shown at `now`: readings older than `max_age(interval)` are withdrawn."""
        with self._lock:
            limit = max_age(interval)
            # a clock that was set back must not keep a reading alive either
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
