"""The maintenance windows in words: whether each is open now, and until when. Pure."""

from collections.abc import Iterator

from actions.policy.windows import window_closes_at, window_opens_at
from actions.runner.catalogue import ACTION_SPECS
from exporter.config.settings import ActingSettings
from exporter.text.units import format_time


def window_lines(acting: ActingSettings, now: float) -> Iterator[str]:
    """One line for each action that has a window, or needs one."""
    for name in sorted({*acting.windows, *(name for name, spec in ACTION_SPECS.items() if spec.needs_window)}):
        yield f"{name}: {_describe_window(acting, name, now)}"


def window_obstacles(acting: ActingSettings, action: str, now: float) -> Iterator[str]:
    """Why this action cannot run automatically now; nothing when it can."""
    window = acting.windows.get(action)
    if window is None:
        if action in ACTION_SPECS and ACTION_SPECS[action].needs_window:
            yield f"{action} runs automatically only inside a window, and none is configured (actions.windows.{action})"
    elif window_closes_at(window, now) is None:
        yield f"its window {window} is closed: it waits until {format_time(window_opens_at(window, now))}"


def _describe_window(acting: ActingSettings, action: str, now: float) -> str:
    window = acting.windows.get(action)
    if window is None:
        return "no window configured, so it never runs automatically"
    closes = window_closes_at(window, now)
    if closes is None:
        return f"{window}, closed until {format_time(window_opens_at(window, now))}"
    return f"{window}, open" + ("" if closes == float("inf") else f" until {format_time(closes)}")
