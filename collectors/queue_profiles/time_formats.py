"""Converts a moment into the time format of a column, and a column back into seconds since the epoch. Pure.

A moment is bound in the column's format, so a comparison can use an index on the column. Local time is that of a named
time zone, never ours: the exporter's TZ must not change what a file says. `sql_local` is a text with the local wall clock;
`unix_local` results from reading a UTC clock as a local one (huey: the epoch plus the producer's UTC offset).
"""

from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.schema import TimeFormat

SqlValue = int | float | str


def _text_writer(between: str, cut: int) -> Callable[[float], SqlValue]:
    """A writer of date, separator and time with microseconds, cut to a length: isoformat is much faster than strftime."""
    return lambda moment: datetime.fromtimestamp(moment, UTC).isoformat(between, "microseconds")[:cut]


_WRITERS: dict[TimeFormat, Callable[[float], SqlValue]] = {
    "unix_s": int,
    "unix_f": float,
    "unix_ms": lambda moment: int(moment * 1e3),
    "unix_us": lambda moment: int(moment * 1e6),
    "unix_ns": lambda moment: int(moment * 1e9),
    "sql_utc": _text_writer(" ", 26),
    "sql_utc_s": _text_writer(" ", 19),
    "sql_utc_ms": _text_writer(" ", 23),
    "iso_utc": _text_writer("T", 26),
    "iso_utc_z": lambda moment: datetime.fromtimestamp(moment, UTC).isoformat("T", "milliseconds")[:23] + "Z",
}
LOCAL_FORMATS: tuple[TimeFormat, ...] = ("sql_local", "unix_local")
_DIVISORS: dict[TimeFormat, str] = {
    "unix_s": "1.0",
    "unix_f": "1.0",
    "unix_ms": "1e3",
    "unix_us": "1e6",
    "unix_ns": "1e9",
    "unix_local": "1.0",
}


def load_time_zone(name: str) -> ZoneInfo:
    """Load the IANA time zone of this name. Raises ProfileError."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:  # an unusable name, or no zone data on this machine
        raise ProfileError(f"{name!r} is no time zone known here; write one like Europe/Oslo ({error})") from error


def format_moment(moment: float, time_format: TimeFormat, zone: str = "UTC") -> SqlValue:
    """Format a moment (seconds since the epoch) as a column of this format stores it; `zone`: of the local formats."""
    if time_format == "unix_local":
        return datetime.fromtimestamp(moment, UTC).replace(tzinfo=load_time_zone(zone)).timestamp()
    if time_format == "sql_local":
        return datetime.fromtimestamp(moment, load_time_zone(zone)).strftime("%Y-%m-%d %H:%M:%S.%f")
    return _WRITERS[time_format](moment)


def epoch_sql(expression: str, time_format: TimeFormat) -> str:
    """SQL for the seconds since the epoch of an expression of this format; NULL where it is no time.

    `unixepoch(.., 'subsec')`: https://sqlite.org/lang_datefunc.html. Local formats are
    converted by `moment_of`: SQLite's own 'utc' modifier would take the time zone of our process.
    """
    divisor = _DIVISORS.get(time_format)
    return f"unixepoch({expression}, 'subsec')" if divisor is None else f"({expression}) / {divisor}"


def moment_of(value: float, time_format: TimeFormat | None, zone: str) -> float:
    """Convert a result of `epoch_sql` to seconds since the epoch. An hour that the clock showed twice counts as the first."""
    if time_format == "unix_local":
        return datetime.fromtimestamp(value, load_time_zone(zone)).replace(tzinfo=UTC).timestamp()
    if time_format != "sql_local":
        return value
    return datetime.fromtimestamp(value, UTC).replace(tzinfo=load_time_zone(zone)).timestamp()


def is_time_sql(column: str, time_format: TimeFormat) -> str:
    """SQL that is true where a column holds a time of this format.

    SQLite sorts every number before every text, so a number in a column of text times would count as long ago.
    """
    if time_format in _DIVISORS:
        return f"typeof({column}) IN ('integer', 'real')"
    return f"typeof({column}) = 'text' AND unixepoch({column}, 'subsec') IS NOT NULL"
