"""Reads one condition's metric now, by the collector that publishes it: the number on the dashboard and here is one."""

import time
from collections.abc import Callable

from actions.model.condition import Condition, Measurement
from actions.policy.measure import condition_measurement
from collectors.poll import poll_database
from collectors.raw_reader.client import RawReader
from collectors.registry import needs_two_readings, publishing_collector
from collectors.target import Target
from collectors.wal_state import MIN_DISTANCE


def measure_condition(target: Target, condition: Condition, raw: RawReader, now: Callable[[], float]) -> Measurement:
    """The condition's number."""
    names = frozenset({publishing_collector(condition.metric)})
    snapshot = poll_database(target, None, now(), raw, only=names)
    if needs_two_readings(condition.metric):
        time.sleep(MIN_DISTANCE)
        snapshot = poll_database(target, snapshot, now(), raw, only=names)
    return condition_measurement(condition, snapshot, now())
