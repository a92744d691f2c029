"""Checks the maintenance windows and time zones of the file, and builds their values."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from actions.policy.windows import Window
from actions.runner.catalogue import ACTION_SPECS
from exporter.config.problems import ConfigProblem, unknown_name
from exporter.config.schema import ConfigFile, RulePart, SchedulePart
from exporter.config.yaml_positions import Loc


def build_windows(file: ConfigFile) -> Mapping[str, Window]:
    """The window of each action; the file must have no problems."""
    return {name: _build_window(text, file.timezone or "UTC") for name, text in file.actions.windows.items()}


def window_problems(file: ConfigFile) -> Iterator[ConfigProblem]:
    """The errors of the windows and of their time zone."""
    for name, text in file.actions.windows.items():
        if name not in ACTION_SPECS:
            yield ConfigProblem(("actions", "windows", name), unknown_name("an action", name, ACTION_SPECS))
        begins, _, ends = text.partition("-")
        if begins == ends:
            yield ConfigProblem(
                ("actions", "windows", name), f'"{text}" ends when it begins; for the whole day write 00:00-24:00'
            )
    yield from zone_problems(file.timezone, ("timezone",))


def window_warnings(file: ConfigFile) -> Iterator[ConfigProblem]:
    """Actions that need a window and have none, and windows of actions that never run automatically."""
    sections: tuple[tuple[str, Sequence[RulePart | SchedulePart]], ...] = (
        ("rules", file.rules),
        ("schedules", file.schedules),
    )
    for kind, parts in sections:
        for i, part in enumerate(parts):
            if part.do in ACTION_SPECS and ACTION_SPECS[part.do].needs_window and part.do not in file.actions.windows:
                cure = f'add actions: {{windows: {{{part.do}: "02:00-04:00"}}}}'
                yield ConfigProblem(
                    (kind, i, "do"),
                    f"{part.do} runs automatically only inside a window, and none is configured; {cure}",
                )
    for name in file.actions.windows:
        if name in ACTION_SPECS and not ACTION_SPECS[name].automatic:
            yield ConfigProblem(
                ("actions", "windows", name), f"{name} never runs automatically; its window restricts nothing"
            )


def _build_window(text: str, zone: str) -> Window:
    begins, _, ends = text.partition("-")
    return Window(_minutes_of_day(begins), _minutes_of_day(ends), zone)


def _minutes_of_day(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)


def load_zone(name: str | None) -> tzinfo:
    """The time zone of this name; UTC, which needs no data, of none. Raises ZoneInfoNotFoundError, ValueError, OSError."""
    return UTC if name in (None, "UTC") else ZoneInfo(str(name))


def zone_problems(name: str | None, loc: Loc) -> Iterator[ConfigProblem]:
    """The error of a time zone's name, if it has one."""
    try:
        load_zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        cure = 'write one like "Europe/Berlin"; where even that fails, install the package tzdata'
        yield ConfigProblem(loc, f'"{name}" is not a time zone of this machine; {cure}')
