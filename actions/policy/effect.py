"""Measures a condition on a snapshot, and the effect of a run: the same condition before and after. Pure."""

from actions.model.condition import Condition, ConditionVerdict, Measurement
from actions.model.outcome import Effect
from collectors.access.snapshot import Snapshot
from collectors.registry import publishing_collector
from collectors.wal import NAME as WAL
from collectors.wal import WalReading

# A run that brought the value at least this share of the way to the clear level is making progress: a requeue with a limit.
PROGRESS_SHARE = 0.1


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


def measured_effect(condition: Condition, before: Measurement, after: Measurement, *, blocked: bool) -> Effect:
    """The effect of a run: only a successful reading at the clear level is `fixed`."""
    if blocked:
        return Effect.BLOCKED
    if ConditionVerdict.UNKNOWN in (condition.judge_measurement(before), condition.judge_measurement(after)):
        return Effect.UNKNOWN
    if condition.judge_measurement(after) is ConditionVerdict.CLEAR:
        return Effect.FIXED
    return Effect.WORSE if _distance_worsened(condition, before.value, after.value) > 0 else Effect.NO_EFFECT


def made_progress(condition: Condition, before: float | None, after: float | None) -> bool:
    """Whether the value came at least PROGRESS_SHARE of the way to the clear level."""
    if before is None or after is None or condition.clear_level is None:
        return False
    way = abs(before - condition.clear_level)
    return -_distance_worsened(condition, before, after) >= PROGRESS_SHARE * way > 0


def _distance_worsened(condition: Condition, before: float | None, after: float | None) -> float:
    """How far the value moved away from the bound; negative when it came closer, 0 for an absence."""
    if before is None or after is None:
        return 0.0
    return after - before if condition.above is not None else before - after
