"""What a snapshot says to a condition, and who it shows in the way. Pure."""

from actions.model.condition import Condition, Measured
from collectors.access.snapshot import Snapshot
from collectors.registry import publisher
from collectors.wal import NAME as WAL
from collectors.wal import Wal


def measured(condition: Condition, snapshot: Snapshot, now: float) -> Measured:
    """The condition's number at `now` (seconds since the epoch), and whether its collector could read."""
    result = snapshot.collectors.get(publisher(condition.metric))
    return Measured(condition.measure(snapshot.samples, now), result is not None and result.success)


def is_held_back(snapshot: Snapshot) -> bool | None:
    """Whether somebody's read holds the WAL back; None where that cannot be told."""
    reading = snapshot.readings.get(WAL)
    result = snapshot.collectors.get(WAL)
    if not isinstance(reading, Wal) or result is None or not result.success or reading.state == "unknown":
        return None
    return bool(reading.pinners)
