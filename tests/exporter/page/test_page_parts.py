"""The parts of the page without a browser: words, charts, the last hour, events. All pure but the last."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from actions.model.condition import Condition
from actions.policy.rules import ConditionWatch, Rule
from actions.policy.suspension import SuspensionState
from collectors.access.snapshot import CollectorResult, Snapshot
from collectors.disk import FREE
from collectors.leases import STALE
from collectors.metric import Sample, Since
from collectors.target import Target
from collectors.tasks import OLDEST, TASKS
from exporter.page.chart import HEIGHT, WIDTH, choose_chart_span, draw_chart
from exporter.page.words import condition_text, format_amount, format_count, rule_text
from exporter.status.database import StatusInputs, build_database_status, rule_statuses
from exporter.status.events import MAX_QUEUED_EVENTS, EventBroadcast, StatusEvent
from exporter.status.recent_readings import (
    CHART_SPAN,
    FINE_SPAN,
    MAX_ROWS,
    SERIES,
    SLOT_LENGTH,
    ChartPoint,
    ChartSeries,
    RecentReadings,
)

TARGET = Target("jobs", Path("/q/jobs.db"))
OK = {name: CollectorResult(True, 0.0) for name in ("tasks", "leases", "storage", "wal", "disk")}
AT = 1_700_000_000.0


def snapshot(at: float, *samples: Sample, up: bool = True) -> Snapshot:
    return Snapshot(TARGET, at, up, "readable" if up else "missing", samples=samples, collectors=OK)


def waiting(number: float) -> Sample:
    return TASKS(number, "mail", "waiting")


def line(recent: RecentReadings, now: float, name: str = "Waiting tasks") -> list[tuple[float, float | None]]:
    place = [series.name for series in SERIES].index(name)
    return [(point.at - AT, point.value) for point in recent.series_points("jobs", now)[place]]


def test_what_does_not_change_is_one_row_with_two_ends() -> None:
    recent = RecentReadings()
    for second in range(100):
        recent.add_snapshot(snapshot(AT + second, waiting(5)))
    assert line(recent, AT + 100) == [(0, 5), (99, 5)]
    recent.add_snapshot(snapshot(AT + 100, waiting(6)))
    assert line(recent, AT + 100) == [(0, 5), (99, 5), (100, 6)]


def test_an_age_grows_between_two_readings_of_the_same_task() -> None:
    recent = RecentReadings()
    for second in (0, 60):
        recent.add_snapshot(snapshot(AT + second, OLDEST(Since(AT - 10), "mail"), OLDEST(0, "other")))
    assert line(recent, AT + 60, "Oldest waiting task") == [(0, 10), (60, 70)]


def test_what_could_not_be_read_is_a_gap_and_never_a_zero() -> None:
    recent = RecentReadings()
    recent.add_snapshot(snapshot(AT, waiting(5)))
    recent.add_snapshot(snapshot(AT + 1, waiting(0), up=False))
    recent.add_snapshot(snapshot(AT + 2, waiting(6)))
    assert line(recent, AT + 2) == [(0, 5), (1, None), (2, 6)]
    assert line(recent, AT + 2, "Stale leases") == [(0, None), (1, None), (2, None)]


def test_an_hour_of_change_each_second_is_bounded_and_fine_at_its_end() -> None:
    recent = RecentReadings()
    for second in range(2 * 3600):
        recent.add_snapshot(snapshot(AT + second, waiting(second)))
    now = AT + 2 * 3600 - 1
    points = line(recent, now)
    assert len(points) <= MAX_ROWS + 1
    assert all(now - AT - at <= CHART_SPAN for at, _ in points)
    steps = [after[0] - before[0] for before, after in itertools.pairwise(points)]
    assert set(steps[-int(FINE_SPAN) :]) == {1}
    assert max(steps) <= 2 * SLOT_LENGTH
    assert all(at == value for at, value in points)


def test_what_is_no_longer_watched_is_forgotten() -> None:
    recent = RecentReadings()
    recent.add_snapshot(snapshot(AT, waiting(5)))
    recent.keep_only(["other"])
    assert line(recent, AT) == []


def test_a_chart_joins_what_was_read_and_leaves_gaps_open() -> None:
    series = ChartSeries("Waiting tasks", "sqlite_queue_tasks", "count")
    points = [
        ChartPoint(AT, 0),
        ChartPoint(AT + 150, 40),
        ChartPoint(AT + 160, None),
        ChartPoint(AT + 290, 20),
        ChartPoint(AT + 300, 30),
    ]
    made = draw_chart(series, points, AT + 300, 300, 200)
    assert made is not None
    assert (made.top, made.now) == ("50", "30")
    assert made.line.count("M") == 2
    assert made.line.startswith(f"M0 {HEIGHT:g} L{WIDTH / 2:g} 24")
    assert made.summary == "Waiting tasks: now 30; between 0 and 40 in the last 5m"
    assert draw_chart(series, [ChartPoint(AT, None)], AT, 300, 200) is None
    alone = draw_chart(series, [ChartPoint(AT, 5)], AT, 300, 60)
    assert alone is not None
    assert alone.line == "M480 0 L481 0", "a single point can be seen"


@pytest.mark.parametrize(
    ("unit", "highest", "top"),
    [("count", 0, "1"), ("count", 7, "10"), ("count", 120, "200"), ("bytes", 5000, "8.0 KiB"), ("bytes", 0, "1.0 KiB"),
     ("seconds", 61, "5m"), ("seconds", 200_000, "2d 7h 33m"), ("ratio", 0.2, "100%")],
)  # fmt: skip
def test_a_scale_ends_at_a_round_number(unit: str, highest: float, top: str) -> None:
    made = draw_chart(ChartSeries("x", "y", unit), [ChartPoint(AT, highest)], AT, 300, 60)
    assert made is not None
    assert made.top.replace("\N{NO-BREAK SPACE}", " ") == top


def test_a_young_agent_draws_a_shorter_time() -> None:
    assert [choose_chart_span([[ChartPoint(AT - age, 1)]], AT) for age in (10, 400, 3000, 9000)] == [
        300,
        900,
        3600,
        3600,
    ]
    assert choose_chart_span([], AT) == 300


def test_numbers_read_as_people_read_them() -> None:
    space = "\N{NO-BREAK SPACE}"
    assert [format_amount(None, "bytes"), format_amount(0, "seconds"), format_amount(2**20, "bytes")] == [
        "unknown",
        f"0{space}s",
        f"1.0{space}MiB",
    ]
    assert [format_amount(0.034, "ratio"), format_amount(0.5, "ratio"), format_amount(0, "ratio")] == [
        "3.4%",
        "50%",
        "0%",
    ]
    assert [format_count(1234567), format_count(2.5)] == [
        "1\N{NARROW NO-BREAK SPACE}234\N{NARROW NO-BREAK SPACE}567",
        "2.5",
    ]


RULE = Rule("stale", Condition("sqlite_queue_stale_leases", above=5, clear=2), "requeue", hold=60.0)


@pytest.mark.parametrize(
    ("value", "watch", "said"),
    [
        (0, ConditionWatch(), "within its limit: 0"),
        (4, ConditionWatch(AT - 30), "4, not yet past the value that clears it for 30.0 s"),
        (9, ConditionWatch(AT - 30), "outside its limit for 30.0 s: 9; requests requeue after 1m"),
        (None, ConditionWatch(AT - 30), "unknown: the value cannot be read now"),
    ],
)
def test_what_a_rule_judges_is_said_in_words(value: float | None, watch: ConditionWatch, said: str) -> None:
    seen = snapshot(AT, *([] if value is None else [STALE(value, "mail")]))
    (rule_status,) = rule_statuses("jobs", seen, StatusInputs((RULE,), {("stale", "jobs"): watch}), AT)
    assert rule_text(rule_status, AT).replace("\N{NO-BREAK SPACE}", " ") == said
    assert condition_text(rule_status) == "sqlite_queue_stale_leases above 5"


def test_a_suspended_rule_says_why_nothing_follows() -> None:
    stopped = SuspensionState(strikes=2, since=AT, message="a reader held it", next_step="end that reader")
    inputs = StatusInputs((RULE,), {}, {("jobs", "requeue"): stopped})
    (rule_status,) = rule_statuses("jobs", snapshot(AT, STALE(9, "mail")), inputs, AT)
    assert "suspended: 2 runs in a row did not help, the last: a reader held it (end that reader" in rule_text(
        rule_status, AT
    )


def test_a_rule_without_a_threshold_says_what_it_waits_for() -> None:
    for rule, text in (
        (replace(RULE, hold=None, alerts=((),)), "an alert requests requeue"),
        (replace(RULE, hold=None), "no trigger is configured"),
    ):
        (rule_status,) = rule_statuses("jobs", snapshot(AT, STALE(9, "mail")), StatusInputs((rule,)), AT)
        assert rule_text(rule_status, AT).endswith(text)


def test_a_glance_of_what_is_not_known_has_no_zeros() -> None:
    for state, health in (("stale", "stale"), ("found", "unread")):
        seen = build_database_status(TARGET, None, state, StatusInputs((RULE,)), AT)
        assert (seen.health, seen.size_bytes, seen.log, seen.backups, seen.queues, seen.rules) == (
            health, None, None, None, (), (),
        )  # fmt: skip
    seen = build_database_status(TARGET, snapshot(AT, FREE(2**40, "database")), "readable", StatusInputs(), AT)
    assert (seen.health, seen.size_bytes, seen.backups, seen.workers) == ("healthy", None, None, None)
    assert math.isclose(seen.disk[0].free_bytes, 2**40)
    assert seen.disk[0].size_bytes is None


def listening(broadcast: EventBroadcast) -> tuple[Callable[[], list[StatusEvent]], list[int]]:
    woken: list[int] = []
    return broadcast.add_listener(lambda: woken.append(1)).take_queued_events, woken


def test_news_of_the_same_thing_replaces_what_was_not_taken() -> None:
    broadcast = EventBroadcast()
    take, woken = listening(broadcast)
    for number in range(5):
        broadcast.publish_event(StatusEvent("reading", {"taken_at": number}, ("reading", "jobs")))
        broadcast.publish_event(StatusEvent("run", {"run": number}))
    kinds = [(event.kind, *event.about.values()) for event in take()]
    assert kinds == [("run", 0), ("run", 1), ("run", 2), ("run", 3), ("reading", 4), ("run", 4)]
    assert (take(), len(woken)) == ([], 10)


def test_who_takes_nothing_keeps_a_bounded_amount_and_learns_of_the_loss() -> None:
    broadcast = EventBroadcast()
    take, _ = listening(broadcast)
    for number in range(MAX_QUEUED_EVENTS + 5):
        broadcast.publish_event(StatusEvent("run", {"run": number}))
    queued = take()
    assert (queued[0].kind, len(queued)) == ("lost", 6)


def test_of_too_many_listeners_the_oldest_ends_and_all_end_with_the_agent() -> None:
    broadcast = EventBroadcast(places=2)
    first, second, third = (broadcast.add_listener(lambda: None) for _ in range(3))
    assert [listener.ended for listener in (first, second, third)] == [True, False, False]
    broadcast.remove_listener(second)
    broadcast.close()
    assert (second.ended, third.ended) == (False, True)
    assert broadcast.add_listener(lambda: None).ended
