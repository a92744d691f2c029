"""Time zones by name, and what is wrong with a name."""

from collections.abc import Iterator
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from exporter.config.problems import ConfigProblem
from exporter.config.yaml_positions import Loc


def load_zone(name: str | None) -> tzinfo:
    """The time zone of this name; UTC, which needs no data, of none. Raises ZoneInfoNotFoundError, ValueError, OSError."""
    return UTC if name in (None, "UTC") else ZoneInfo(str(name))


def zone_problems(name: str | None, loc: Loc) -> Iterator[ConfigProblem]:
    """What is wrong with the name of a time zone."""
    try:
        load_zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        cure = 'write one like "Europe/Berlin"; where even that fails, install the package tzdata'
        yield ConfigProblem(loc, f'"{name}" is not a time zone of this machine; {cure}')
