"""Which of the pending runs may start now, in which order, and why the others wait. Pure.

First what a person requested, then by priority, then the oldest. One action at a time works on a database; short and long
actions have lanes of their own; automatic runs are bound by the quota of their database, and those of a rule by its blast
radius: on how many databases it may act within a time.
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
    """A run that has not started. `long`: it takes the lane of long actions."""

    id: int
    database: str
    action: str
    trigger: Trigger
    rule: str
    priority: int
    long: bool


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run that started at `at` (seconds since the epoch). `runs`: it has not ended; `acted`: it got to its work."""

    database: str
    trigger: Trigger
    rule: str
    at: float
    long: bool
    runs: bool
    acted: bool = True


@dataclass(frozen=True, slots=True)
class WaitReason:
    """Why a run waits. `limit`: because of a limit on automatic runs, not just for a lane, a database or a window."""

    why: str
    limit: bool


@dataclass(frozen=True, slots=True)
class SchedulingLimits:
    """How much may run at once. `radius` by rule; `watched`: how many databases there are; `suspended`: (database, action).

    `closed`: the actions with a closed window.
    """

    short: int
    long: int
    quota_per_hour: int
    watched: int
    radius: Mapping[str, BlastRadius]
    suspended: frozenset[tuple[str, str]] = frozenset()
    closed: frozenset[str] = frozenset()


def order_pending_runs(
    pending: Sequence[PendingRun], begun: Sequence[StartedRun], limits: SchedulingLimits, now: float
) -> Iterator[tuple[PendingRun, WaitReason | None]]:
    """Every pending run, most urgent first, with why it waits; None: it may start, and counts for those after it."""
    started = list(begun)
    for run in sorted(pending, key=_urgency_key):
        reason = next(_wait_reasons(run, started, limits, now), None)
        if reason is None:
            started.append(StartedRun(run.database, run.trigger, run.rule, now, run.long, runs=True))
        yield run, reason


def lookback_seconds(radii: Mapping[str, BlastRadius]) -> float:
    """How far back the started runs must reach that are given to `order_pending_runs`, in seconds."""
    return max((HOUR, *(radius.within for radius in radii.values())))


def _urgency_key(run: PendingRun) -> tuple[bool, int, int]:
    return run.trigger != "person", -run.priority, run.id


def _wait_reasons(
    run: PendingRun, started: Sequence[StartedRun], limits: SchedulingLimits, now: float
) -> Iterator[WaitReason]:
    if (why := _lane_wait_reason(run, started, limits)) is not None:
        yield WaitReason(why, limit=False)
    if run.trigger != "person":
        if run.action in limits.closed:
            yield WaitReason("its window is closed", limit=False)
        yield from (WaitReason(why, limit=True) for why in _limit_reasons(run, started, limits, now))


def _lane_wait_reason(run: PendingRun, started: Sequence[StartedRun], limits: SchedulingLimits) -> str | None:
    running = [other for other in started if other.runs]
    if any(other.database == run.database for other in running):
        return "another action works on this database"
    lanes = limits.long if run.long else limits.short
    if sum(other.long == run.long for other in running) >= lanes:
        return f"{lanes} {'long' if run.long else 'short'} actions run, no more may at once"
    return None


def _limit_reasons(
    run: PendingRun, started: Sequence[StartedRun], limits: SchedulingLimits, now: float
) -> Iterator[str]:
    if (run.database, run.action) in limits.suspended:
        yield "suspended: it did not help before"
    yield from quota_reasons(run.database, started, limits, now)
    radius = limits.radius.get(run.rule)
    if radius is not None and run.trigger in _RULE_TRIGGERS:
        yield from blast_radius_reasons(run.rule, run.database, radius, started, limits, now)


def quota_reasons(database: str, started: Sequence[StartedRun], limits: SchedulingLimits, now: float) -> Iterator[str]:
    """Why no more automatic run may start on this database: those of the last hour used up the quota."""
    automatic = (other for other in started if other.database == database and other.trigger != "person")
    used = sum(elapsed_seconds(other.at, now) < HOUR for other in automatic)
    if used >= limits.quota_per_hour:
        yield f"{used} automatic runs on this database within the hour, {limits.quota_per_hour} are allowed (quota_per_hour)"


def blast_radius_reasons(
    rule: str, database: str, radius: BlastRadius, started: Sequence[StartedRun], limits: SchedulingLimits, now: float
) -> Iterator[str]:
    """Why this rule may not act on one more database: it has acted on too many within its time."""
    same = (other for other in started if other.rule == rule and other.trigger in _RULE_TRIGGERS)
    touched = {other.database for other in same if other.acted and elapsed_seconds(other.at, now) < radius.within}
    most = radius.max_databases(limits.watched)
    if database not in touched and len(touched) >= most:
        yield f"the rule acted on {len(touched)} databases within {radius.within:g} s, {most} are allowed (blast_radius)"
