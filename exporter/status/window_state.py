"""The windows in words, and how each stands now. Pure."""

from collections.abc import Iterator

from actions.policy.windows import closes_at, opens_at
from actions.runner.catalogue import KNOWN
from exporter.config.settings import Acting
from exporter.text.units import moment


def lines(acting: Acting, now: float) -> Iterator[str]:
    """One line for each action that has a window, or needs one and has none."""
    for name in sorted({*acting.windows, *(name for name, known in KNOWN.items() if known.windowed)}):
        yield f"{name}: {_standing(acting, name, now)}"


def against(acting: Acting, action: str, now: float) -> Iterator[str]:
    """Why this action cannot run by itself now."""
    window = acting.windows.get(action)
    if window is None:
        if action in KNOWN and KNOWN[action].windowed:
            yield f"{action} runs by itself only inside a window, and none is configured (actions.windows.{action})"
    elif closes_at(window, now) is None:
        yield f"its window {window} is closed: it waits until {moment(opens_at(window, now))}"


def _standing(acting: Acting, action: str, now: float) -> str:
    window = acting.windows.get(action)
    if window is None:
        return "no window configured, so it never runs by itself"
    closes = closes_at(window, now)
    if closes is None:
        return f"{window}, closed until {moment(opens_at(window, now))}"
    return f"{window}, open" + ("" if closes == float("inf") else f" until {moment(closes)}")
