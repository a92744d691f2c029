"""The table of thresholds: alert rules, example rules, dashboards and the runbook take their numbers from here.

A threshold that is written down twice is wrong in one of the places sooner or later.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Literal

from collectors.content_loss.judge import MOST
from exporter.config.sizes import parse_duration, parse_level, parse_size

Unit = Literal["bytes", "seconds", "ratio", "count"]

_KIB, _MIB, _GIB = 2**10, 2**20, 2**30
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_UNITS: Mapping[Unit, tuple[tuple[int, str], ...]] = {
    "bytes": ((_GIB, "GiB"), (_MIB, "MiB"), (_KIB, "KiB"), (1, "B")),
    "seconds": ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m"), (1, "s")),
}


@dataclass(frozen=True, slots=True)
class Threshold:
    """One threshold in base units: bytes, seconds, a share from 0 to 1, or a count.

    `name` is its name in `rules render --threshold NAME=VALUE`, `metric` the metric that it bounds, `why` the
    origin of the number. A reading is wrong above `value`, or below it when `below` is set. At `clear` a rule of
    queuekeeper's configuration counts it as healed; alerts of Prometheus have no such level.
    """

    name: str
    metric: str
    value: float
    unit: Unit
    why: str
    clear: float | None = None
    below: bool = False

    @property
    def written_value(self) -> str:
        """The value as it is written in the configuration file and on the command line: `64MiB`, `49h`, `10%`, `5`."""
        return format_in_unit(self.value, self.unit)

    @property
    def promql(self) -> str:
        """The value as a person writes it into an expression: `64 * 1024 * 1024`, `49 * 3600`, `600`, `0.1`."""
        powers = [" * ".join(["1024"] * power) for power in (3, 2, 1)] if self.unit == "bytes" else ["86400", "3600"]
        sizes = (_GIB, _MIB, _KIB) if self.unit == "bytes" else (_DAY, _HOUR)
        for size, factors in zip(sizes, powers, strict=True):
            if self.unit in ("bytes", "seconds") and self.value > size and self.value % size == 0:
                return f"{self.value // size:.0f} * {factors}"
        return f"{self.value:.15g}"


_TABLE = (
    Threshold(
        "wal", "sqlite_wal_backlog_bytes", 64 * _MIB, "bytes",
        "16 times SQLite's own checkpoint size at 4 KiB pages: a healthy writer never gets there", clear=8 * _MIB,
    ),
    Threshold(
        "pinned", "sqlite_wal_pinned_seconds", 10 * _MINUTE, "seconds",
        "longer than a request or a job should read in one transaction",
    ),
    Threshold(
        "free_ratio", "sqlite_fragmentation_ratio", 0.3, "ratio",
        "below, the pages are mostly used again before a vacuum is worth its cost", clear=0.1,
    ),
    Threshold("free_room", "sqlite_free_pages", 256 * _MIB, "bytes", "less is not worth a vacuum, at any share"),
    Threshold(
        "content_lost", "sqlite_content_lost_ratio", MOST, "ratio",
        "most of it: above, prune and automatic actions are refused as well",
    ),
    Threshold(
        "disk_low", "sqlite_disk_free_bytes", 0.1, "ratio", "a tenth of the disk: time to make room in working hours",
        below=True,
    ),
    Threshold(
        "disk_full", "sqlite_disk_free_bytes", 256 * _MIB, "bytes",
        "`limits.disk_reserve`: below it queuekeeper itself writes nothing any more", below=True,
    ),
    Threshold(
        "disk_soon", "sqlite_disk_free_bytes", _DAY, "seconds", "a day ahead, by the trend of the last six hours"
    ),
    Threshold("stale_leases", "sqlite_queue_stale_leases", 0, "count", "the grace of the profile is over: any is wrong"),
    Threshold(
        "waiting", "sqlite_queue_oldest_waiting_age_seconds", _HOUR, "seconds", "set it to what your users notice"
    ),
    Threshold(
        "head", "sqlite_queue_head_unchanged_seconds", 30 * _MINUTE, "seconds",
        "the same task first in line: longer than a worker needs to claim one",
    ),
    Threshold(
        "dead_workers", "sqlite_queue_workers", 0, "count", "the queue's own list has a worker without a heartbeat"
    ),
    Threshold("failures", "sqlite_queue_tasks", 10, "count", "more failed or dead tasks than an hour ago"),
    Threshold(
        "backup_due", "sqlite_backup_age_seconds", 26 * _HOUR, "seconds", "a daily backup, and two hours for running it"
    ),
    Threshold(
        "backup_age", "sqlite_backup_age_seconds", 49 * _HOUR, "seconds",
        "two daily backups missed, and an hour for running one",
    ),
    Threshold(
        "drill_age", "sqlite_restore_drill_last_success_timestamp_seconds", 15 * _DAY, "seconds",
        "two weekly drills missed, and a day",
    ),
    Threshold(
        "poll_age", "queuekeeper_poll_last_success_timestamp_seconds", 5 * _MINUTE, "seconds",
        "20 polls of 15 s: values are withdrawn long before",
    ),
    Threshold(
        "action_time", "queuekeeper_action_started_timestamp_seconds", _HOUR, "seconds",
        "longer than the backup of a large queue",
    ),
)  # fmt: skip
Bounds = Mapping[str, Threshold]
THRESHOLDS: Bounds = {each.name: each for each in _TABLE}


def override_thresholds(assignments: Iterable[str]) -> Bounds:
    """The table with other values, each written `NAME=VALUE`. Raises ValueError, which says how they are written."""
    bounds = dict(THRESHOLDS)
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or name not in bounds:
            known = ", ".join(f"{each.name}={each.written_value}" for each in _TABLE)
            raise ValueError(f'"{text}" names no threshold; write NAME=VALUE with one of: {known}')
        bounds[name] = _replace_value(bounds[name], value)
    return bounds


def format_in_unit(value: float, unit: Unit) -> str:
    """`67108864` bytes as `64MiB`, `176400` seconds as `49h`, `0.1` as `10%`: the largest unit that divides it."""
    if unit == "ratio":
        return f"{value * 100:.15g}%"
    if unit == "seconds" and 0 < value < 1:
        return f"{value * 1000:.15g}ms"
    for size, name in _UNITS.get(unit, ()):
        if value and value % size == 0:
            return f"{value // size:.0f}{name}"
    return f"{value:.15g}"


def _replace_value(threshold: Threshold, text: str) -> Threshold:
    """The threshold with another value; the level at which it counts as healed changes in proportion."""
    readers: Mapping[Unit, Callable[[object], float]] = {"bytes": parse_size, "seconds": parse_duration}
    try:
        value = readers.get(threshold.unit, _parse_plain_value)(text)
    except ValueError as error:
        raise ValueError(f"{threshold.name}: {error}") from error
    most = 1 if threshold.unit == "ratio" else inf
    if not 0 <= value <= most or value == inf:
        raise ValueError(f'{threshold.name}: "{text}" is out of bounds; write it like {threshold.written_value}')
    if threshold.clear is None:
        return replace(threshold, value=value)
    return replace(threshold, value=value, clear=threshold.clear * value / threshold.value)


def _parse_plain_value(text: object) -> float:
    """A count or a share: `5`, `0.3`, `30%`."""
    try:
        return float(str(text))
    except ValueError:
        return parse_level(text)
