"""The readings of the last hour for the charts of the page: in memory only, bounded, and cheap while nothing changes.

A row is a start time, an end time, and one number for each series. Equal readings extend one row, so a quiet database needs
only one. Of rows older than FINE_SPAN seconds at most one stays in each SLOT_LENGTH.
"""

import math
import threading
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from collectors.access.snapshot import Snapshot
from collectors.metric import Since, fold_samples

CHART_SPAN = 3600.0
FINE_SPAN = 120.0
SLOT_LENGTH = 20.0
# More than 180 slots and two minutes with a reading each second.
MAX_ROWS = 360


@dataclass(frozen=True, slots=True)
class ChartSeries:
    """One line of a chart, in the unit count, seconds, bytes or ratio.

    With `state` only samples with this last label belong to it.
    """

    name: str
    metric: str
    unit: str
    state: str = ""


SERIES = (
    ChartSeries("Waiting tasks", "sqlite_queue_tasks", "count", "waiting"),
    ChartSeries("Running tasks", "sqlite_queue_tasks", "count", "running"),
    ChartSeries("Oldest waiting task", "sqlite_queue_oldest_waiting_age_seconds", "seconds"),
    ChartSeries("Stale leases", "sqlite_queue_stale_leases", "count"),
    ChartSeries("WAL backlog", "sqlite_wal_backlog_bytes", "bytes"),
    ChartSeries("WAL file", "sqlite_wal_size_bytes", "bytes"),
    ChartSeries("Database file", "sqlite_database_size_bytes", "bytes"),
    ChartSeries("Write lock held", "sqlite_write_lock_busy_ratio", "ratio"),
)
_ROW_WIDTH = 2 + len(SERIES)


@dataclass(frozen=True, slots=True)
class ChartPoint:
    """One value at one time (seconds since the epoch); None where it could not be read."""

    at: float
    value: float | None


class RecentReadings:
    """The recent readings of all watched databases. Safe to use from any thread."""

    def __init__(self) -> None:
        self._rows: dict[str, array[float]] = {}
        self._guard = threading.Lock()

    def add_snapshot(self, snapshot: Snapshot) -> None:
        """Add the values of a snapshot."""
        now, values = (
            snapshot.taken_at,
            [_pack_value(series, snapshot) if snapshot.up else math.nan for series in SERIES],
        )
        with self._guard:
            rows = self._rows.setdefault(snapshot.target.name, array("d"))
            if rows and _are_equal(rows[-_ROW_WIDTH + 2 :], values):
                rows[-_ROW_WIDTH + 1] = max(now, rows[-_ROW_WIDTH + 1])
                return
            rows.extend((now, now, *values))
            if len(rows) > MAX_ROWS * _ROW_WIDTH:
                self._rows[snapshot.target.name] = _thin_rows(rows, now)

    def keep_only(self, names: Iterable[str]) -> None:
        """Drop the readings of databases that are no longer watched."""
        watched = set(names)
        with self._guard:
            self._rows = {name: rows for name, rows in self._rows.items() if name in watched}

    def series_points(self, database: str, now: float) -> tuple[tuple[ChartPoint, ...], ...]:
        """Return one line for each of SERIES, oldest point first; empty where there was no reading."""
        with self._guard:
            rows = self._rows.get(database, array("d"))[:]
        return tuple(tuple(_unpack_points(rows, place, now)) for place in range(len(SERIES)))


def _pack_value(series: ChartSeries, snapshot: Snapshot) -> float:
    """Return the value of a series as one number, NaN for none.

    A value that grows by itself is stored as minus its start time, so that it stays equal.
    """
    samples = [s for s in snapshot.samples_of(series.metric) if not series.state or s.labels[-1] == series.state]
    since = [sample.value.time for sample in samples if isinstance(sample.value, Since)]
    if since:
        return -min(since)
    value = fold_samples(samples, snapshot.taken_at)
    return math.nan if value is None else value


def _are_equal(before: Iterable[float], now: Iterable[float]) -> bool:
    return all(a == b or (a != a and b != b) for a, b in zip(before, now, strict=True))


def _thin_rows(rows: "array[float]", now: float) -> "array[float]":
    """Return the rows without those older than CHART_SPAN, and with one in each slot of those older than FINE_SPAN."""
    remaining: dict[object, array[float]] = {}
    for start in range(0, len(rows), _ROW_WIDTH):
        row = rows[start : start + _ROW_WIDTH]
        age = now - row[1]
        if 0 <= age <= CHART_SPAN:
            remaining[start if age <= FINE_SPAN else (int(row[1] // SLOT_LENGTH),)] = row
    return array("d", (number for row in remaining.values() for number in row))


def _unpack_points(rows: "array[float]", place: int, now: float) -> Iterator[ChartPoint]:
    for start in range(0, len(rows), _ROW_WIDTH):
        first, last, packed = rows[start], rows[start + 1], rows[start + 2 + place]
        if last < now - CHART_SPAN:
            continue
        for at in (max(first, now - CHART_SPAN), last) if last > first else (last,):
            yield ChartPoint(at, None if math.isnan(packed) else packed if packed >= 0 else max(0.0, at + packed))
