"""What a snapshot shows: the value of a condition, and whether a reader pins the WAL. Pure."""

from actions.model.condition import Condition, Measurement
from collectors.access.snapshot import Snapshot
from collectors.registry import publishing_collector
from collectors.wal import NAME as WAL
from collectors.wal import WalReading


def condition_measurement(condition: Condition, snapshot: Snapshot, now: float) -> Measurement:
    """The condition's value at `now` (seconds since the epoch), and whether its collector could read."""
    result = snapshot.collectors.get(publishing_collector(condition.metric))
    return Measurement(condition.value_from(snapshot.samples, now), result is not None and result.success)


def is_wal_pinned(snapshot: Snapshot) -> bool | None:
    """Whether a reader pins the WAL; None where that is not known."""
    reading = snapshot.readings.get(WAL)
    result = snapshot.collectors.get(WAL)
    if not isinstance(reading, WalReading) or result is None or not result.success or reading.state == "unknown":
        return None
    return bool(reading.pinners)
