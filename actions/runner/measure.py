"""Reads one condition's metric now, by the collector that publishes it: the number on the dashboard and here is one."""

import time
from collections.abc import Callable

from actions.model.condition import Condition, Measured
from actions.policy.measure import measured
from collectors.poll import take
from collectors.raw_reader.client import RawReader
from collectors.registry import publisher
from collectors.target import Target

# States of the WAL come from two readings at least this far apart (docs/safety.md), in seconds.
PAIR_DISTANCE = 0.5


def measure(target: Target, condition: Condition, raw: RawReader, now: Callable[[], float]) -> Measured:
    """The condition's number."""
    names = frozenset({publisher(condition.metric)})
    snapshot = take(target, None, now(), raw, only=names)
    if _needs_pair(condition):
        time.sleep(PAIR_DISTANCE)
        snapshot = take(target, snapshot, now(), raw, only=names)
    return measured(condition, snapshot, now())


def _needs_pair(condition: Condition) -> bool:
    return condition.metric in ("sqlite_wal_state", "sqlite_wal_pinned_seconds")
