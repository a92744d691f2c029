"""Which pending runs may start now: order, lanes, quota, and on how many databases a rule may act. Pure."""

from collections.abc import Sequence
from typing import Any

import pytest

from actions.model.request import Trigger
from actions.policy.rules import BlastRadius
from actions.policy.scheduling import (
    PendingRun,
    SchedulingLimits,
    StartedRun,
    WaitReason,
    lookback_seconds,
    order_pending_runs,
)

NOW = 100_000.0
HOUR = 3600.0
WIDE = BlastRadius(databases=100, share=0.0, within=600.0)


def waits(number: int, database: str = "", **changes: Any) -> PendingRun:
    values = {"action": "checkpoint", "trigger": "threshold", "rule": "wal", "priority": 0, "long": False, **changes}
    return PendingRun(id=number, database=database or f"db{number}", **values)


def began(database: str, ago: float = 10.0, **changes: Any) -> StartedRun:
    values = {"trigger": "threshold", "rule": "wal", "long": False, "runs": False, "acted": True, **changes}
    return StartedRun(database=database, at=NOW - ago, **values)


def bounds(**changes: Any) -> SchedulingLimits:
    values = {"short": 4, "long": 1, "quota_per_hour": 12, "watched": 10, "radius": {"wal": WIDE}, **changes}
    return SchedulingLimits(**values)


def begin(
    line: Sequence[PendingRun], past: Sequence[StartedRun] = (), within: SchedulingLimits | None = None
) -> list[int]:
    """The runs that may begin, in their order."""
    return [run.id for run, reason in order_pending_runs(line, past, within or bounds(), NOW) if reason is None]


def hold(run: PendingRun, past: Sequence[StartedRun] = (), within: SchedulingLimits | None = None) -> WaitReason | None:
    """Why the only pending run waits."""
    ((_, reason),) = order_pending_runs([run], past, within or bounds(), NOW)
    return reason


def test_a_person_is_first_then_the_most_urgent_then_the_oldest() -> None:
    line = [waits(1), waits(2, priority=5), waits(3, trigger="person", priority=-1), waits(4, priority=5)]
    assert begin(line) == [3, 2, 4, 1]


def test_one_action_at_a_time_on_a_database() -> None:
    assert begin([waits(1, "a"), waits(2, "a"), waits(3, "b")]) == [1, 3]
    busy = hold(waits(1, "a"), [began("a", runs=True, ago=99_999.0, trigger="person", rule="")])
    assert busy == WaitReason("another action works on this database", limit=False)
    assert hold(waits(1, "a"), [began("a")]) is None


def test_short_and_long_actions_have_lanes_of_their_own() -> None:
    line = [waits(1, long=True), waits(2, long=True), waits(3), waits(4), waits(5)]
    assert begin(line, within=bounds(short=2)) == [1, 3, 4]
    full = [began("x", runs=True), began("y", runs=True)]
    assert hold(waits(1), full, bounds(short=2)) == WaitReason("2 short actions run, no more may at once", limit=False)
    assert hold(waits(1), full, bounds(short=3)) is None
    assert hold(waits(1, long=True), full, bounds(short=2)) is None
    long = hold(waits(1, long=True), [began("x", runs=True, long=True)])
    assert long == WaitReason("1 long actions run, no more may at once", limit=False)


def test_the_quota_counts_automatic_runs_of_the_database_within_the_hour() -> None:
    used = [began("a", ago=HOUR - 1, rule=str(n), trigger=trigger) for n, trigger in enumerate(("schedule", "alert"))]
    held = hold(waits(1, "a"), used, bounds(quota_per_hour=2))
    assert held is not None
    assert held.limit
    assert held.why == "2 automatic runs on this database within the hour, 2 are allowed (quota_per_hour)"
    assert hold(waits(1, "a"), used, bounds(quota_per_hour=3)) is None
    assert hold(waits(1, "b"), used, bounds(quota_per_hour=2)) is None


def test_neither_old_runs_nor_those_of_persons_use_up_the_quota() -> None:
    others = [began("a", ago=HOUR), began("a", trigger="person"), began("b")]
    assert hold(waits(1, "a"), others, bounds(quota_per_hour=1)) is None


def test_a_person_is_bound_by_turn_alone() -> None:
    past = [began("a", acted=True)] * 20
    tight = bounds(
        quota_per_hour=1, radius={"wal": BlastRadius(1, 0.0, 600.0)}, suspended=frozenset({("a", "checkpoint")})
    )
    assert hold(waits(1, "a", trigger="person"), past, tight) is None
    assert hold(waits(1, "a", trigger="person"), [began("a", runs=True)], tight) is not None


def test_a_suspended_action_waits() -> None:
    suspended = bounds(suspended=frozenset({("a", "checkpoint")}))
    assert hold(waits(1, "a"), within=suspended) == WaitReason("suspended: it did not help before", limit=True)
    assert hold(waits(1, "b"), within=suspended) is None
    assert hold(waits(1, "a", action="backup"), within=suspended) is None


def test_a_run_that_waits_delays_no_other() -> None:
    suspended = bounds(suspended=frozenset({("a", "checkpoint")}))
    assert begin([waits(1, "a"), waits(2, "a", action="backup")], within=suspended) == [2]


def test_an_automatic_run_waits_for_its_window_and_a_persons_does_not() -> None:
    shut = bounds(closed=frozenset({"checkpoint"}))
    assert hold(waits(1, "a"), within=shut) == WaitReason("its window is closed", limit=False)
    assert hold(waits(1, "a", trigger="person"), within=shut) is None
    assert hold(waits(1, "a", action="backup"), within=shut) is None


NARROW = bounds(radius={"wal": BlastRadius(databases=2, share=0.0, within=600.0)}, short=50)


def test_a_rule_acts_on_so_many_databases_within_its_time() -> None:
    assert begin([waits(n) for n in range(1, 9)], within=NARROW) == [1, 2]
    held = hold(waits(3, "c"), [began("a"), began("b")], NARROW)
    assert held == WaitReason("the rule acted on 2 databases within 600 s, 2 are allowed (blast_radius)", limit=True)


def test_the_same_database_again_widens_no_radius() -> None:
    assert hold(waits(3, "a"), [began("a"), began("b")], NARROW) is None
    assert hold(waits(3, "c"), [began("a"), began("a")], NARROW) is None


def test_what_the_rule_did_before_its_time_or_without_acting_does_not_count() -> None:
    assert hold(waits(3, "c"), [began("a"), began("b", ago=600.0)], NARROW) is None
    assert hold(waits(3, "c"), [began("a"), began("b", ago=599.0)], NARROW) is not None
    assert hold(waits(3, "c"), [began("a"), began("b", acted=False)], NARROW) is None
    assert hold(waits(3, "c"), [began("a"), began("b", rule="other")], NARROW) is None


@pytest.mark.parametrize("trigger", ["schedule", "person"])
def test_only_rules_have_a_radius(trigger: Trigger) -> None:
    assert hold(waits(3, "c", trigger=trigger), [began("a"), began("b")], NARROW) is None
    assert hold(waits(3, "c"), [began("a"), began("b", trigger=trigger)], NARROW) is None
    assert hold(waits(3, "c", rule="unknown"), [began("a"), began("b")], NARROW) is None


@pytest.mark.parametrize("trigger", ["alert", "threshold"])
def test_alerts_and_thresholds_share_a_rules_radius(trigger: Trigger) -> None:
    assert hold(waits(3, "c", trigger=trigger), [began("a", trigger="alert"), began("b")], NARROW) is not None


@pytest.mark.parametrize(("watched", "most"), [(1, 3), (10, 3), (30, 3), (39, 3), (40, 4), (200, 20)])
def test_a_radius_is_the_larger_of_a_number_and_a_share(watched: int, most: int) -> None:
    assert BlastRadius(databases=3, share=0.1).max_databases(watched) == most


def test_how_far_back_one_must_look() -> None:
    assert lookback_seconds({}) == HOUR
    assert lookback_seconds({"a": BlastRadius(within=60.0), "b": BlastRadius(within=7200.0)}) == 7200.0
