"""Schedules: when they are due, for which database, what is made up and what counts as missed. Pure."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actions.policy.schedules import DueFiring, Schedule, cron_firings, due_firing, jitter_delay, schedule_request

DAILY = Schedule("daily", "0 3 * * *", "backup", {"name": "daily"}, priority=4)
BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo | None = None) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone or UTC).timestamp()


THREE = at("2026-03-02 03:00")
DAY, HOUR, MINUTE = 86400.0, 3600.0, 60.0


def test_before_its_time_nothing_is_due_and_the_next_time_is_known() -> None:
    assert due_firing(DAILY, "jobs", THREE - 3600, THREE - 1) == DueFiring(None, 0, THREE - 1, THREE)


def test_at_its_time_it_is_due_once() -> None:
    due = due_firing(DAILY, "jobs", THREE - 3600, THREE)
    assert due == DueFiring(THREE, 0, THREE, THREE + DAY)
    assert due_firing(DAILY, "jobs", due.done_until, THREE + 1) == DueFiring(None, 0, THREE + 1, THREE + DAY)


def test_noticed_within_a_minute_it_is_on_time_and_later_it_was_missed() -> None:
    assert due_firing(DAILY, "jobs", THREE - 1, THREE + MINUTE - 1).firing == THREE
    late = due_firing(DAILY, "jobs", THREE - 1, THREE + MINUTE + 0.5)
    assert (late.firing, late.missed) == (None, 1)


def test_several_missed_times_are_all_counted() -> None:
    due = due_firing(DAILY, "jobs", THREE - 1, THREE + 3 * DAY + 3600)
    assert (due.firing, due.missed, due.next_at) == (None, 4, THREE + 4 * DAY)


def test_the_newest_of_several_may_still_be_on_time() -> None:
    due = due_firing(DAILY, "jobs", THREE - 1, THREE + 3 * DAY)
    assert (due.firing, due.missed) == (THREE + 3 * DAY, 3)


def test_a_missed_firing_within_catch_up_is_made_up_once() -> None:
    caring = replace(DAILY, catch_up=12 * 3600.0)
    late = due_firing(caring, "jobs", THREE - 1, THREE + DAY + 12 * 3600 - 1)
    assert (late.firing, late.missed) == (THREE + DAY, 1)
    assert due_firing(caring, "jobs", late.done_until, THREE + DAY + 12 * 3600).firing is None
    too_late = due_firing(caring, "jobs", THREE - 1, THREE + DAY + 12 * 3600 + 1)
    assert (too_late.firing, too_late.missed) == (None, 2)


def test_each_database_has_its_own_delay_within_the_jitter_and_always_the_same() -> None:
    wide = replace(DAILY, jitter=300.0)
    delays = [jitter_delay(wide, f"db{number}") for number in range(200)]
    assert delays == [jitter_delay(wide, f"db{number}") for number in range(200)]
    assert all(0 <= delay < 300 for delay in delays)
    assert len(set(delays)) == 200
    assert min(delays) < 30
    assert max(delays) > 270
    assert jitter_delay(wide, "a") != jitter_delay(replace(wide, name="other"), "a")
    assert jitter_delay(DAILY, "a") == 0.0
    assert jitter_delay(wide, "jobs") == pytest.approx(164.53, abs=0.01)


def test_the_delay_shifts_the_turn_and_not_the_cron_time() -> None:
    wide = replace(DAILY, jitter=300.0)
    turn = THREE + jitter_delay(wide, "jobs")
    assert due_firing(wide, "jobs", THREE - 3600, turn - 1).firing is None
    assert due_firing(wide, "jobs", THREE - 3600, turn - 1).next_at == turn
    due = due_firing(wide, "jobs", THREE - 3600, turn + 1)
    assert (due.firing, due.next_at) == (THREE, turn + DAY)


def test_another_jitter_neither_repeats_nor_loses_a_time() -> None:
    done = due_firing(DAILY, "jobs", THREE - 3600, THREE).done_until
    wide = replace(DAILY, jitter=7200.0)
    again = due_firing(wide, "jobs", done, THREE + 7200)
    assert (again.firing, again.missed) == (None, 0)
    narrow = due_firing(DAILY, "jobs", due_firing(wide, "jobs", THREE - 3600, THREE + 1).done_until, THREE + 1)
    assert narrow.firing == THREE


def test_a_time_zone_moves_it_and_the_change_of_clocks_neither_repeats_nor_loses_it() -> None:
    local = replace(DAILY, cron="30 2 * * *", timezone=BERLIN)
    spring = [
        datetime.fromtimestamp(firing, BERLIN) for firing in islice(cron_firings(local, at("2026-03-28 12:00")), 2)
    ]
    assert [firing.strftime("%d %H:%M") for firing in spring] == ["29 03:00", "30 02:30"]
    autumn = [
        datetime.fromtimestamp(firing, BERLIN) for firing in islice(cron_firings(local, at("2026-10-24 12:00")), 2)
    ]
    assert [firing.strftime("%d %H:%M") for firing in autumn] == ["25 02:30", "26 02:30"]


def test_a_clock_set_far_back_begins_again_from_now() -> None:
    ahead = THREE + HOUR
    assert due_firing(DAILY, "jobs", ahead + 1, THREE).done_until == THREE
    assert due_firing(DAILY, "jobs", ahead + 1, THREE).firing is None
    assert due_firing(DAILY, "jobs", ahead + 1, THREE).next_at == THREE + DAY
    assert due_firing(DAILY, "jobs", ahead, THREE) == DueFiring(None, 0, ahead, THREE + DAY)


def test_a_clock_set_back_a_little_repeats_nothing() -> None:
    done = due_firing(DAILY, "jobs", THREE - 1, THREE + 1).done_until
    assert due_firing(DAILY, "jobs", done, THREE - 30) == DueFiring(None, 0, done, THREE + DAY)


def test_counting_goes_back_a_month_and_no_further() -> None:
    hourly = replace(DAILY, cron="0 * * * *")
    now = THREE
    assert due_firing(hourly, "jobs", now - 400 * DAY, now).missed == 31 * 24 - 1, "the newest is on time"
    often = replace(DAILY, cron="* * * * * *")
    due = due_firing(often, "jobs", now - 400 * DAY, now)
    assert (due.missed, due.firing) == (50_000 - 1, now)


def test_a_day_that_never_comes_is_never_due() -> None:
    """The last weekday of a month is no Sunday."""
    assert due_firing(replace(DAILY, cron="0 0 LW * */7"), "jobs", THREE, THREE + 1) == DueFiring(
        None, 0, THREE + 1, None
    )


def test_it_covers_all_databases_unless_it_names_some() -> None:
    assert DAILY.covers_database("jobs")
    assert not replace(DAILY, databases=("mail",)).covers_database("jobs")
    assert replace(DAILY, databases=("mail",)).covers_database("mail")


def test_its_request_names_the_schedule_and_has_no_condition() -> None:
    made = schedule_request(DAILY, "jobs")
    assert (made.action, made.database, made.trigger, made.rule) == ("backup", "jobs", "schedule", "daily")
    assert (made.options, made.priority, made.condition, made.cooldown) == ({"name": "daily"}, 4, None, 0.0)


CRONS = ["0 3 * * *", "*/7 * * * *", "30 2 * * 1", "0 0 1 * *", "15 */5 * * *"]


@settings(deadline=None, max_examples=60)
@given(
    cron=st.sampled_from(CRONS),
    zone=st.sampled_from([UTC, BERLIN, ZoneInfo("Australia/Lord_Howe")]),
    jitter=st.sampled_from([0.0, 40.0, 900.0]),
    steps=st.lists(st.floats(0.5, 30_000.0), min_size=1, max_size=12),
)
def test_however_it_is_looked_at_every_time_is_run_once_or_missed_once(
    cron: str, zone: ZoneInfo, jitter: float, steps: list[float]
) -> None:
    """Looks at any distances, as an agent that is restarted, held up and asleep makes them."""
    schedule = Schedule("any", cron, "backup", timezone=zone, jitter=jitter, catch_up=600.0)
    start = now = at("2026-10-24 12:00")
    done, ran, missed = now, [], 0
    for step in steps:
        now += step
        due = due_firing(schedule, "jobs", done, now)
        assert due.done_until >= done
        done, missed = due.done_until, missed + due.missed
        ran += [] if due.firing is None else [due.firing]
    turned = now - jitter_delay(schedule, "jobs")
    expected = []
    for moment in cron_firings(schedule, start):
        if moment > turned:
            break
        expected.append(moment)
    assert len(ran) + missed == len(expected)
    assert len(set(ran)) == len(ran)
    assert set(ran) <= set(expected)
