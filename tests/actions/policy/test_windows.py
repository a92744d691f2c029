"""Windows: which moments are inside, past midnight, over changes of the clocks, and when they close and open next."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from actions.policy.windows import DAY, Window, closed_actions, is_window_open, window_closes_at, window_opens_at

NIGHT = Window(2 * 60, 4 * 60)
OVER_MIDNIGHT = Window(23 * 60, 60)


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("window", "clock", "held"),
    [
        (NIGHT, "01:59:59", False),
        (NIGHT, "02:00:00", True),
        (NIGHT, "03:59:59", True),
        (NIGHT, "04:00:00", False),
        (OVER_MIDNIGHT, "22:59:59", False),
        (OVER_MIDNIGHT, "23:00:00", True),
        (OVER_MIDNIGHT, "00:00:00", True),
        (OVER_MIDNIGHT, "00:59:59", True),
        (OVER_MIDNIGHT, "01:00:00", False),
        (Window(0, DAY), "00:00:00", True),
        (Window(0, DAY), "23:59:59", True),
        (Window(22 * 60, DAY), "23:59:59", True),
        (Window(22 * 60, DAY), "00:00:00", False),
    ],
)
def test_which_moments_it_holds(window: Window, clock: str, held: bool) -> None:
    assert is_window_open(window, at(f"2026-11-25 {clock}")) is held


@pytest.mark.parametrize(
    ("window", "now", "closes"),
    [
        (NIGHT, "2026-11-25 02:00:00", "2026-11-25 04:00:00"),
        (NIGHT, "2026-11-25 03:59:59", "2026-11-25 04:00:00"),
        (OVER_MIDNIGHT, "2026-11-25 23:30:00", "2026-11-26 01:00:00"),
        (OVER_MIDNIGHT, "2026-11-26 00:30:00", "2026-11-26 01:00:00"),
        (Window(22 * 60, DAY), "2026-11-25 22:30:00", "2026-11-26 00:00:00"),
    ],
)
def test_an_open_window_closes_at_its_end(window: Window, now: str, closes: str) -> None:
    assert window_closes_at(window, at(now)) == at(closes)
    assert window_opens_at(window, at(now)) == at(now)


def test_a_closed_window_tells_when_it_opens() -> None:
    assert window_closes_at(NIGHT, at("2026-11-25 04:00")) is None
    assert window_opens_at(NIGHT, at("2026-11-25 04:00")) == at("2026-11-26 02:00")
    assert window_opens_at(NIGHT, at("2026-11-25 01:59:30")) == at("2026-11-25 02:00")


def test_the_actions_that_may_not_run_by_themselves_now() -> None:
    windows = {"vacuum": NIGHT, "purge": OVER_MIDNIGHT}
    assert closed_actions(windows, at("2026-11-25 03:00")) == {"purge"}
    assert closed_actions(windows, at("2026-11-25 00:30")) == {"vacuum"}
    assert closed_actions(windows, at("2026-11-25 12:00")) == {"vacuum", "purge"}
    assert closed_actions({}, at("2026-11-25 12:00")) == frozenset()


def test_a_window_of_the_whole_day_never_closes() -> None:
    assert window_closes_at(Window(0, DAY), at("2026-11-25 12:00")) == float("inf")


def test_its_times_are_those_of_its_zone() -> None:
    berlin = Window(2 * 60, 4 * 60, "Europe/Berlin")
    assert is_window_open(berlin, at("2026-11-25 01:00"))
    assert not is_window_open(berlin, at("2026-11-25 03:00"))
    assert window_closes_at(berlin, at("2026-07-01 00:30")) == at("2026-07-01 02:00")


def test_an_hour_that_is_left_out_makes_the_window_shorter() -> None:
    berlin = Window(60, 150, "Europe/Berlin")  # 01:00-02:30, and 02:00-03:00 does not exist on 2026-03-29
    begins = at("2026-03-29 01:00", "Europe/Berlin")
    assert window_closes_at(berlin, begins) == begins + 3600
    assert not is_window_open(berlin, begins + 3600)


def test_an_hour_that_comes_twice_opens_the_window_again() -> None:
    berlin = Window(60, 150, "Europe/Berlin")  # 02:00-03:00 comes twice on 2026-10-25
    first, second = (at("2026-10-25 02:15", "Europe/Berlin", fold) for fold in (0, 1))
    assert second - first == 3600
    assert window_closes_at(berlin, first) == first + 15 * 60
    assert window_opens_at(berlin, first + 15 * 60) == second - 15 * 60
    assert window_closes_at(berlin, second) == second + 15 * 60


def test_it_reads_as_it_is_written() -> None:
    assert str(Window(0, DAY, "Europe/Berlin")) == "00:00-24:00 Europe/Berlin"
    assert str(OVER_MIDNIGHT) == "23:00-01:00 UTC"
    assert datetime.fromtimestamp(at("2026-11-25 02:00"), UTC).hour == 2
