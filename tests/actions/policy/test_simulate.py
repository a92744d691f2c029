"""Simulation: which runs rules, schedules and alerts would have started, replayed on recorded readings. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from actions.model.condition import Condition
from actions.policy.alerts import DeliveredAlert, Delivery
from actions.policy.matchers import parse_matchers
from actions.policy.rules import BlastRadius, Rule
from actions.policy.schedules import Schedule
from actions.policy.scheduling import SchedulingLimits
from actions.policy.simulate import RecordedDelivery, RecordedReading, SimulatedEvent, SimulationPolicy, simulate_policy
from actions.policy.windows import Window
from collectors import leases, wal
from collectors.metric import Sample

BACKLOG = Condition("sqlite_wal_backlog_bytes", above=100, clear=10)
CHECKPOINT = Rule(
    "wal", BACKLOG, "checkpoint", hold=60.0, cooldown=300.0, alerts=(parse_matchers('alertname="Backlog"'),)
)
STALE = Rule(
    "stale", Condition("sqlite_queue_stale_leases", above=0), "requeue", alerts=(parse_matchers('alertname="Stale"'),)
)


def plan(
    *rules: Rule, schedules: Sequence[Schedule] = (), identity: str | None = None, **bounds: Any
) -> SimulationPolicy:
    values = {"short": 4, "long": 1, "quota_per_hour": 12, "watched": 2, "radius": {r.name: r.radius for r in rules}}
    within = SchedulingLimits(**{**values, **bounds})  # type: ignore[arg-type]
    return SimulationPolicy(rules, schedules, within, lambda _: False, identity, frozenset({"jobs", "mail"}))


def read(
    at: float, backlog: float | None, *more: Sample, database: str = "jobs", failed: Sequence[str] = ()
) -> RecordedReading:
    known = () if backlog is None else (wal.BACKLOG(backlog),)
    return RecordedReading(at, database, (*known, *more), frozenset(failed))


def delivery(at: float, name: str = "Stale", status: str = "firing", **labels: str) -> RecordedDelivery:
    all_labels = {"alertname": name, "database": "jobs", **labels}
    fingerprint = f"{name}-{all_labels['database']}-{all_labels.get('queue', '')}"
    return RecordedDelivery(at, Delivery((DeliveredAlert(status, all_labels, fingerprint, receiver="r"),), 0))  # type: ignore[arg-type]


def story(made: SimulationPolicy, *moments: RecordedReading | RecordedDelivery) -> list[tuple[float, str, str]]:
    return [(event.at, event.kind, event.words) for event in simulate_policy(made, moments)]


def test_a_rule_runs_when_it_held_for_long_enough_and_the_next_reading_says_whether_it_helped() -> None:
    made = simulate_policy(plan(CHECKPOINT), [read(0, 200), read(30, 200), read(60, 200), read(75, 5), read(90, 5)])
    words = "checkpoint, by the threshold of rule wal: sqlite_wal_backlog_bytes is 200"
    assert list(made) == [
        SimulatedEvent(60, "runs", "jobs", words, "wal", "checkpoint"),
        SimulatedEvent(75, "ended", "jobs", "effect fixed (200 -> 5)", "wal", "checkpoint"),
    ]


def test_moments_are_replayed_in_the_order_of_their_times() -> None:
    assert story(plan(CHECKPOINT), read(60, 200), read(0, 200))[0][0] == 60


def test_an_action_that_does_not_help_is_suspended_until_a_reading_lifts_it() -> None:
    made = plan(CHECKPOINT)
    readings = [read(at, 200) for at in range(0, 1000, 15)]
    kinds = [(at, kind) for at, kind, _ in story(made, *readings, read(1000, 5), read(1100, 200), read(1160, 200))]
    assert kinds == [
        (60, "runs"),
        (75, "ended"),
        (375, "runs"),
        (390, "ended"),
        (390, "suspended"),
        (1000, "lifted"),
        (1160, "runs"),
    ]


def pinned(state: str) -> Sample:
    return wal.STATE(1.0, state)


def test_a_checkpoint_behind_a_reader_is_blocked_and_free_again_when_it_is_gone() -> None:
    readings = [read(at, 200, pinned("pinned"), wal.STATE(0.0, "idle")) for at in range(0, 700, 60)]
    events = story(plan(CHECKPOINT), *readings, read(720, 200, pinned("unknown")), read(780, 200, pinned("backlog")))
    assert [(at, kind) for at, kind, _ in events] == [
        (60, "runs"),
        (120, "ended"),
        (420, "runs"),
        (480, "ended"),
        (480, "suspended"),
        (780, "lifted"),
        (780, "runs"),
    ]
    assert events[1][2] == "effect blocked (200 -> 200)"


def test_an_action_that_makes_progress_is_not_suspended() -> None:
    backlogs = {0: 2000, 60: 2000, 75: 1700, 400: 1700, 415: 1400, 500: 1400}
    readings = [read(at, backlog) for at, backlog in backlogs.items()]
    assert [kind for _, kind, _ in story(plan(CHECKPOINT), *readings)] == ["runs", "ended"] * 2


def test_whether_a_reader_pins_the_wal_follows_the_recorded_state() -> None:
    assert read(0, 1, pinned("pinned")).is_wal_pinned is True
    assert read(0, 1, pinned("idle"), wal.STATE(0.0, "pinned")).is_wal_pinned is False
    assert read(0, 1, pinned("unknown")).is_wal_pinned is None
    assert read(0, 1).is_wal_pinned is None


def test_without_a_further_reading_the_effect_is_unknown() -> None:
    events = story(plan(CHECKPOINT), read(0, 200), read(60, 200), read(70, None, failed=[wal.NAME]))
    assert events[-1] == (70, "ended", "effect unknown (200 -> not recorded)")


def test_a_reading_of_another_database_ends_nothing() -> None:
    events = story(plan(CHECKPOINT), read(0, 200), read(60, 200), read(65, 5, database="mail"))
    assert [kind for _, kind, _ in events] == ["runs"]


def test_the_radius_holds_and_is_said_once_for_each_run() -> None:
    rule = Rule("wal", BACKLOG, "checkpoint", hold=0.0, radius=BlastRadius(databases=1, share=0.0, within=600.0))
    events = story(
        plan(rule),
        read(0, 200),
        read(1, 200, database="mail"),
        read(2, 200, database="mail"),
        read(600, 200, database="mail"),
    )
    assert [(at, kind) for at, kind, _ in events] == [(0, "runs"), (1, "waits"), (600, "runs")]
    assert "1 are allowed (blast_radius)" in events[1][2]


def test_a_condition_that_is_clear_when_its_run_starts_leaves_nothing_to_do() -> None:
    rule = Rule("wal", BACKLOG, "checkpoint", hold=0.0, radius=BlastRadius(databases=1, share=0.0, within=600.0))
    events = story(plan(rule), read(0, 200), read(1, 200, database="mail"), read(600, 5, database="mail"))
    assert events[-1] == (600, "ended", "nothing to do: no longer wrong")


def test_an_absence_is_measured_by_collectors_that_could_read() -> None:
    rule = Rule("never", Condition("sqlite_backup_age_seconds", absent=100.0), "backup", hold=0.0)
    events = story(plan(rule), read(0, None, failed=["backups"]), read(50, None), read(150, None), read(160, None))
    assert events == [
        (150, "runs", "backup, by the threshold of rule never: sqlite_backup_age_seconds is absent"),
        (160, "ended", "effect no_effect (absent -> absent)"),
    ]


def test_schedules_run_within_the_recorded_time_and_what_lies_between_readings_is_missed() -> None:
    three = datetime(2026, 3, 2, 3, tzinfo=UTC).timestamp()
    daily = Schedule("daily", "0 3 * * *", "backup", databases=("jobs",))
    made = plan(schedules=[daily])
    events = list(simulate_policy(made, [read(three - 60, 0), read(three + 10, 0), read(three + 86400 * 3 + 3600, 0)]))
    assert events == [
        SimulatedEvent(three + 10, "runs", "jobs", "backup, by the schedule daily", "daily", "backup"),
        SimulatedEvent(three + 86400 * 3 + 3600, "missed", "jobs", "3 times before", "daily", "backup"),
    ]


def test_a_window_holds_by_the_recorded_time_of_day() -> None:
    night = Schedule("night", "0 1 * * *", "vacuum", databases=("jobs",))
    made = replace(plan(schedules=[night]), windows={"vacuum": Window(120, 240)})
    one_am = datetime(2026, 3, 2, 1, tzinfo=UTC).timestamp()
    events = story(made, read(one_am - 60, 0), read(one_am + 5, 0), read(one_am + 3599, 0), read(one_am + 3600, 0))
    assert [(at - one_am, kind) for at, kind, _ in events] == [(5, "waits"), (3600, "runs")]


def test_a_schedule_knows_no_cooldown() -> None:
    three = datetime(2026, 3, 2, 3, tzinfo=UTC).timestamp()
    made = plan(CHECKPOINT, schedules=[Schedule("daily", "0 3 * * *", "checkpoint", databases=("jobs",))])
    readings = [read(three - 61, 200), read(three - 1, 200), read(three - 0.5, 5), read(three + 0.25, 5)]
    assert [(at - three, kind) for at, kind, _ in story(made, *readings)] == [
        (-1, "runs"),
        (-0.5, "ended"),
        (0.25, "runs"),
    ]


def test_an_alert_runs_its_rule_and_says_its_fingerprint() -> None:
    events = list(simulate_policy(plan(STALE), [delivery(0)]))
    words = "requeue, by the alert of rule stale: sqlite_queue_stale_leases is not recorded, alert Stale-jobs-/1"
    assert events == [SimulatedEvent(0, "runs", "jobs", words, "stale", "requeue")]


def test_a_second_delivery_is_a_duplicate_and_a_repeat_waits_for_the_cooldown() -> None:
    events = story(plan(STALE), delivery(0), delivery(2), delivery(300), delivery(600))
    assert [(at, kind) for at, kind, _ in events] == [(0, "runs"), (2, "ignored"), (300, "ignored"), (600, "runs")]
    assert [words for _, kind, words in events if kind == "ignored"] == ["duplicate: Stale", "cooldown: Stale"]


def test_a_live_reading_decides_for_an_alert_too() -> None:
    healthy, wrong = read(0, 0, leases.STALE(0, "mail")), read(0, 0, leases.STALE(2, "mail"))
    assert story(plan(STALE), healthy, delivery(1))[-1] == (1, "ended", "nothing to do: no longer wrong")
    assert story(plan(STALE), wrong, delivery(1))[-1][1] == "runs"
    events = story(plan(STALE), healthy, delivery(1), replace(healthy, at=2))
    assert events == [(1, "ended", "nothing to do: no longer wrong")], "and ended it is"


@pytest.mark.parametrize(("state", "decision"), [("pinned", "cooldown"), ("backlog", "duplicate")])
def test_a_blocked_run_does_not_make_the_next_delivery_a_duplicate(state: str, decision: str) -> None:
    moments = [
        read(0, 200, pinned(state)),
        delivery(1, "Backlog"),
        read(10, 200, pinned(state)),
        delivery(20, "Backlog"),
    ]
    assert story(plan(CHECKPOINT), *moments)[-1] == (20, "ignored", f"{decision}: Backlog")


def test_a_rejected_request_is_no_try() -> None:
    """Else the rest after the next run would not double."""
    other = Rule("other", BACKLOG, "requeue", hold=0.0)
    between = [read(640, 200, leases.STALE(2, "mail")), read(650, 5, leases.STALE(2, "mail"))]
    after = read(1310, 5, leases.STALE(2, "mail"))
    events = story(
        plan(STALE, other), delivery(0), delivery(700), *between, delivery(1300), after, delivery(2000), delivery(2520)
    )
    assert [(at, kind) for at, kind, _ in events if at >= 700] == [
        (700, "ignored"),
        (1300, "runs"),
        (1310, "ended"),
        (2000, "ignored"),
        (2520, "runs"),
    ]


NARROW = plan(STALE, radius={"stale": BlastRadius(databases=1, share=0.0, within=600.0)})


def test_a_resolution_cancels_a_pending_run() -> None:
    events = story(NARROW, delivery(0, database="mail"), delivery(1), delivery(2, status="resolved"), delivery(700))
    assert [(at, kind) for at, kind, _ in events] == [(0, "runs"), (1, "waits"), (2, "ended"), (700, "runs")]
    assert events[2][2] == "cancelled: its alert resolved before it began"


def test_a_run_that_another_alert_waits_for_is_not_cancelled() -> None:
    both = [delivery(1), delivery(1, queue="mail"), delivery(2, status="resolved")]
    events = story(NARROW, delivery(0, database="mail"), *both, delivery(600, name="Other"))
    assert [(at, kind) for at, kind, _ in events] == [
        (0, "runs"),
        (1, "waits"),
        (1, "ignored"),
        (600, "ignored"),
        (600, "runs"),
    ]


def test_a_resolution_after_the_run_or_without_firing_changes_nothing() -> None:
    assert [kind for _, kind, _ in story(plan(STALE), delivery(0), delivery(1, status="resolved"))] == ["runs"]
    assert story(plan(STALE), delivery(1, status="resolved")) == []


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({"database": "payroll"}, "its database is not configured here"),
        ({"instance": "b:9977"}, "its instance is not a:9977 (identity)"),
        ({"alertname": "Other"}, "no rule has a matcher for it: Other"),
    ],
)
def test_an_alert_that_selects_nothing_is_ignored_with_the_reason(labels: dict[str, str], why: str) -> None:
    changed = {"instance": "a:9977", **labels}
    events = story(plan(STALE, identity="a:9977"), delivery(0, **changed))
    assert events == [(0, "ignored", why)]
