"""Maintenance windows: times of day in which an action may run automatically. Pure; moments are seconds since the epoch.

The bounds are wall-clock times of the window's zone. The next closing or opening is searched minute by minute: so every
change of the clocks is handled without a rule for it, as `is_window_open` judges it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

MINUTE = 60
DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Window:
    """From minute `begins` of the day up to, not including, minute `ends` (up to 1440); past midnight when that is smaller."""

    begins: int
    ends: int
    zone: str = "UTC"

    def __str__(self) -> str:
        return f"{_clock_time(self.begins)}-{_clock_time(self.ends)} {self.zone}"


def is_window_open(window: Window, now: float) -> bool:
    """Whether the window is open."""
    local = datetime.fromtimestamp(now, UTC if window.zone == "UTC" else ZoneInfo(window.zone))
    minute = local.hour * 60 + local.minute
    if window.begins < window.ends:
        return window.begins <= minute < window.ends
    return minute >= window.begins or minute < window.ends


def closed_actions(windows: Mapping[str, Window], now: float) -> frozenset[str]:
    """The actions with a closed window."""
    return frozenset(action for action, window in windows.items() if not is_window_open(window, now))


def window_closes_at(window: Window, now: float) -> float | None:
    """The end of the window that is open now; None while it is closed. A window that is always open never ends."""
    if not is_window_open(window, now):
        return None
    return next((moment for moment in _minutes_after(now) if not is_window_open(window, moment)), float("inf"))


def window_opens_at(window: Window, now: float) -> float:
    """When it opens next; now while it is open."""
    if is_window_open(window, now):
        return now
    return next((moment for moment in _minutes_after(now) if is_window_open(window, moment)), float("inf"))


def _minutes_after(now: float) -> Iterator[float]:
    """The beginnings of the minutes of the next two days; every zone is whole minutes from UTC."""
    first = (int(now) // MINUTE + 1) * MINUTE
    yield from (float(first + MINUTE * number) for number in range(2 * DAY + 1))


def _clock_time(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
