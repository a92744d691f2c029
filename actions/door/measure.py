"""Reads one condition's metric now, by the collector that publishes it: the number on the dashboard and here is one."""

import time
from collections.abc import Callable

from actions.run.condition import Condition
from collectors.poll import take
from collectors.raw_reader.ask import RawReader
from collectors.registry import COLLECTORS
from collectors.target import Target

# States of the WAL come from two readings at least this far apart (docs/safety.md), in seconds.
PAIR_DISTANCE = 0.5


def measure(target: Target, condition: Condition, raw: RawReader, now: Callable[[], float]) -> float | None:
    """The condition's number; None when it cannot be read."""
    names = frozenset(
        collector.NAME
        for collector in COLLECTORS
        if any(metric.name == condition.metric for metric in collector.METRICS)
    )
    snapshot = take(target, None, now(), raw, only=names)
    if _needs_pair(condition):
        time.sleep(PAIR_DISTANCE)
        snapshot = take(target, snapshot, now(), raw, only=names)
    return condition.measure(snapshot.samples, now())


def _needs_pair(condition: Condition) -> bool:
    return condition.metric in ("sqlite_wal_state", "sqlite_wal_pinned_seconds")
