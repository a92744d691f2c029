"""Which of the waiting runs may begin now, in which order, and why the others wait. Pure.

First what a person asked for, then by priority, then the oldest. A database is worked on by one action at a time; short
and long actions have lanes of their own; what runs by itself is bound by the quota of its database, and a rule by its
radius: on how many databases it may begin within a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from actions.model.request import Trigger
from actions.policy.cooldown import elapsed_seconds
from actions.policy.rules import BlastRadius

HOUR = 3600.0
_RULE_TRIGGERS: tuple[Trigger, ...] = ("threshold", "alert")


@dataclass(frozen=True, slots=True)
class PendingRun:
    """A run that waits. `long`: it takes the lane of long actions."""

    id: int
    database: str
    action: str
    trigger: Trigger
    rule: str
    priority: int
    long: bool


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run that was begun at `at` (seconds since the epoch). `runs`: it is not ended; `acted`: it got to its work."""

    database: str
    trigger: Trigger
    rule: str
    at: float
    long: bool
    runs: bool
    acted: bool = True


@dataclass(frozen=True, slots=True)
class WaitReason:
    """Why a run waits. `limit`: because of a bound on what runs by itself, not just for its turn."""

    why: str
    limit: bool


@dataclass(frozen=True, slots=True)
class SchedulingLimits:
    """How much may run. `radius` by rule; `watched`: how many databases there are; `suspended`: (database, action).

    `closed`: the actions whose window is closed.
    """

    short: int
    long: int
    quota_per_hour: int
    watched: int
    radius: Mapping[str, BlastRadius]
    suspended: frozenset[tuple[str, str]] = frozenset()
    closed: frozenset[str] = frozenset()


def order_pending_runs(
    waiting: Sequence[PendingRun], begun: Sequence[StartedRun], bounds: SchedulingLimits, now: float
) -> Iterator[tuple[PendingRun, WaitReason | None]]:
    """Every waiting run, most urgent first, with what holds it; None: it may begin, and counts for those after it."""
    known = list(begun)
    for one in sorted(waiting, key=_urgency_key):
        hold = next(_wait_reasons(one, known, bounds, now), None)
        if hold is None:
            known.append(StartedRun(one.database, one.trigger, one.rule, now, one.long, runs=True))
        yield one, hold


def lookback_seconds(radii: Mapping[str, BlastRadius]) -> float:
    """How far back `begun` must reach, in seconds."""
    return max((HOUR, *(radius.within for radius in radii.values())))


def _urgency_key(one: PendingRun) -> tuple[bool, int, int]:
    return one.trigger != "person", -one.priority, one.id


def _wait_reasons(
    one: PendingRun, begun: Sequence[StartedRun], bounds: SchedulingLimits, now: float
) -> Iterator[WaitReason]:
    if (turn := _lane_wait_reason(one, begun, bounds)) is not None:
        yield WaitReason(turn, limit=False)
    if one.trigger != "person":
        if one.action in bounds.closed:
            yield WaitReason("its window is closed", limit=False)
        yield from (WaitReason(why, limit=True) for why in _limit_reasons(one, begun, bounds, now))


def _lane_wait_reason(one: PendingRun, begun: Sequence[StartedRun], bounds: SchedulingLimits) -> str | None:
    running = [other for other in begun if other.runs]
    if any(other.database == one.database for other in running):
        return "another action works on this database"
    lanes = bounds.long if one.long else bounds.short
    if sum(other.long == one.long for other in running) >= lanes:
        return f"{lanes} {'long' if one.long else 'short'} actions run, no more may at once"
    return None


def _limit_reasons(one: PendingRun, begun: Sequence[StartedRun], bounds: SchedulingLimits, now: float) -> Iterator[str]:
    if (one.database, one.action) in bounds.suspended:
        yield "suspended: it did not help before"
    yield from quota_reasons(one.database, begun, bounds, now)
    radius = bounds.radius.get(one.rule)
    if radius is not None and one.trigger in _RULE_TRIGGERS:
        yield from blast_radius_reasons(one.rule, one.database, radius, begun, bounds, now)


def quota_reasons(database: str, begun: Sequence[StartedRun], bounds: SchedulingLimits, now: float) -> Iterator[str]:
    """What speaks against one more automatic run on this database: those of the last hour."""
    automatic = (other for other in begun if other.database == database and other.trigger != "person")
    used = sum(elapsed_seconds(other.at, now) < HOUR for other in automatic)
    if used >= bounds.quota_per_hour:
        yield f"{used} automatic runs on this database within the hour, {bounds.quota_per_hour} are allowed (quota_per_hour)"


def blast_radius_reasons(
    rule: str, database: str, radius: BlastRadius, begun: Sequence[StartedRun], bounds: SchedulingLimits, now: float
) -> Iterator[str]:
    """What speaks against this rule acting on one more database: those it has acted on lately."""
    same = (other for other in begun if other.rule == rule and other.trigger in _RULE_TRIGGERS)
    touched = {other.database for other in same if other.acted and elapsed_seconds(other.at, now) < radius.within}
    most = radius.max_databases(bounds.watched)
    if database not in touched and len(touched) >= most:
        yield f"the rule acted on {len(touched)} databases within {radius.within:g} s, {most} are allowed (blast_radius)"
