"""Parses sizes and durations as people write them (`64MiB`, `50ms`, `26h`, `max(64MiB, 25%)`) into bytes and seconds.

Prometheus' rule for durations (docs "Configuration", <duration>): a number needs a unit, and `1h30m` is allowed.
"""

import re
from dataclasses import dataclass

SIZE_UNITS = {
    "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", re.ASCII)
_STEP = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+", re.ASCII)
_RATIO = re.compile(r"(\d+(?:\.\d+)?)\s*%", re.ASCII)
_MAX = re.compile(r"max\(\s*([^,()]+?)\s*,\s*([^,()]+?)\s*\)", re.ASCII)


@dataclass(frozen=True, slots=True)
class GrowthBudget:
    """A budget of bytes: the larger of a size and a share of the database."""

    size: int = 0
    ratio: float = 0.0


def parse_size(value: object) -> int:
    """The bytes of `64MiB`, `1.5GB`, `0`. Raises ValueError, which says how a size is written."""
    if value == 0 and not isinstance(value, bool):
        return 0
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match[2] not in SIZE_UNITS:
        raise ValueError(f"{quote_value(value)} is not a size; write it with a unit, like 64MiB")
    return int(float(match[1]) * SIZE_UNITS[match[2]])


def parse_duration(value: object) -> float:
    """The seconds of `50ms`, `15s`, `1h30m`, `0`. Raises ValueError, which says how a duration is written."""
    if value == 0 and not isinstance(value, bool):
        return 0.0
    text = value.strip() if isinstance(value, str) else ""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{quote_value(value)} is not a duration; write it with a unit, like 15s, 50ms or 26h")
    return sum(float(number) * DURATION_UNITS[unit] for number, unit in _STEP.findall(text))


def parse_growth(value: object) -> GrowthBudget:
    """The size and share of `64MiB`, `25%` or `max(64MiB, 25%)`. Raises ValueError, which says how a budget is written."""
    if isinstance(value, str):
        text = value.strip()
        if ratio := _RATIO.fullmatch(text):
            return GrowthBudget(ratio=float(ratio[1]) / 100)
        if both := _MAX.fullmatch(text):
            first, second = parse_growth(both[1]), parse_growth(both[2])
            return GrowthBudget(max(first.size, second.size), max(first.ratio, second.ratio))
        if _SIZE.fullmatch(text):
            return GrowthBudget(size=parse_size(text))
    raise ValueError(
        f"{quote_value(value)} is not a budget; write a size, a share, or the larger of both: max(64MiB, 25%)"
    )


def parse_level(value: object) -> float:
    """A threshold in base units: a plain number, a size, a duration or a share. Raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        text = value.strip()
        if ratio := _RATIO.fullmatch(text):
            return float(ratio[1]) / 100
        if _DURATION.fullmatch(text):
            return parse_duration(text)
        if _SIZE.fullmatch(text):
            return float(parse_size(text))
    raise ValueError(
        f"{quote_value(value)} is not a level; write a number, a size (64MiB), a duration (26h) or a share (25%)"
    )


def parse_setting(value: object) -> float | str:
    """A level when the text can be read as one, otherwise the text itself. Raises ValueError for any other type."""
    try:
        return parse_level(value)
    except ValueError:
        if isinstance(value, str):
            return value
        raise


def quote_value(value: object) -> str:
    """The value as it was written, on one line of at most 60 characters."""
    text = f'"{value}"' if isinstance(value, str) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."
