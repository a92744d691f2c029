"""Formats bytes, seconds and times for people. Inside the program everything is bytes and seconds."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")


def format_size(count: float) -> str:
    """`67108864` as `64.0 MiB`."""
    step = 0
    while abs(count) >= 1024 and step < len(_BYTES) - 1:
        count, step = count / 1024, step + 1
    return f"{count:.0f} B" if step == 0 else f"{count:.1f} {_BYTES[step]}"


def format_duration(seconds: float) -> str:
    """`93784` as `1d 2h 3m`; below a minute as seconds with one decimal or milliseconds."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    parts = []
    rest = int(seconds)
    for name, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        amount, rest = divmod(rest, length)
        if amount:
            parts.append(f"{amount}{name}")
    return " ".join(parts[:3])


def format_time(time: float) -> str:
    """Seconds since the epoch as a time in UTC: `2026-03-01 03:00:00Z`."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


# Words for figures with names that a person would not understand.
_FIGURE_WORDS = {
    "chunks": "transactions",
    "longest_hold_seconds": "write lock held at a time, at most",
    "p999_hold_seconds": "and in 999 of 1,000 times",
    "clock_moved_seconds": "the clock was set while it ran, seconds",
    "gave_way": "gave way to a waiting writer, times",
    "wal_pauses": "pauses for a checkpoint of the application",
    "wal_paused_seconds": "which took",
}


def figures_in_words(figures: Mapping[str, object]) -> Iterator[str]:
    """One line `name: value` for each figure, in the unit that its name implies."""
    for name, value in figures.items():
        plain = name if " " in name else name.replace("_", " ").removesuffix(" seconds").removesuffix(" bytes")
        words = _FIGURE_WORDS.get(name) or plain  # a name with spaces has a table's name in it
        yield f"{words}: {_format_figure(name, value)}"


def format_metric_value(metric: str, value: float) -> str:
    """A metric's value in the unit that its name ends with."""
    if metric.endswith("_bytes"):
        return format_size(value)
    return format_duration(value) if metric.endswith("_seconds") else f"{value:.12g}"


def _format_figure(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    if "bytes" in name or name == "wal_growth":
        return f"{value:.0f} ({format_size(value)})"
    if "seconds" in name or name == "stall":
        return format_duration(value)
    if name.endswith("_time"):
        return format_time(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
