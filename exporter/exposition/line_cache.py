"""Caches the lines of the metrics page between scrapes: only changed and growing samples are formatted again.

Formatting a page of a thousand databases costs a tenth of a second, joining cached lines takes a millisecond
(bench/scrape.py). Every line is what prometheus_client would write (tests/exporter/exposition/test_line_cache.py).
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from prometheus_client.utils import floatToGoString

from collectors.metric import Metric, Sample, Since

PlacedSample = tuple[str, Sample]  # database ("" for none), sample
# A whole line and None; or the start of a line whose value grows, and since when it grows (seconds since the epoch).
LinePiece = tuple[str, float | None]


@dataclass(slots=True)
class _CachedPart:
    """The cached samples of one part of the page by family, and the objects that they were made from."""

    made_of: tuple[object, ...] = ()
    samples: dict[str, tuple[PlacedSample, ...]] = field(default_factory=dict)


class LineCache:
    """The text of each family, with one slot for each part (a database, the process), in the order of the parts.

    Not safe to use from several threads.
    """

    def __init__(self, families: Iterable[str]) -> None:
        self._names: tuple[str, ...] = ()
        self._place: dict[str, int] = {}
        self._shown: list[_CachedPart] = []
        self._slots: dict[str, list[str]] = {name: [] for name in families}
        self._growing: dict[str, dict[int, tuple[LinePiece, ...]]] = {name: {} for name in self._slots}
        self._joined: dict[str, bytes] = {}
        self._flat: dict[str, list[LinePiece]] = {}
        self._columns: dict[str, tuple[Mapping[str, float], bytes]] = {}

    def set_page_parts(self, names: tuple[str, ...]) -> None:
        """Set the parts and their order; cached lines of remaining parts stay."""
        if names is self._names or names == self._names:
            return
        before = self._place
        self._names, self._place = names, {name: place for place, name in enumerate(names)}
        came_from = [before.get(name) for name in names]
        self._shown = [_CachedPart() if old is None else self._shown[old] for old in came_from]
        for family, slots in self._slots.items():
            self._slots[family] = ["" if old is None else slots[old] for old in came_from]
            growing = self._growing[family]
            self._growing[family] = {new: growing[old] for new, old in enumerate(came_from) if old in growing}
        self._joined.clear()
        self._flat.clear()

    def has_page_part(self, name: str) -> bool:
        """Return whether the page has this part."""
        return name in self._place

    def is_part_current(self, name: str, made_of: tuple[object, ...]) -> bool:
        """Return whether the lines of this part were made from these very objects (compared by identity)."""
        place = self._place.get(name)
        return place is not None and _are_same_objects(self._shown[place].made_of, made_of)

    def update_page_part(
        self,
        name: str,
        samples: Iterable[PlacedSample],
        made_of: tuple[object, ...] = (),
        only: Collection[str] | None = None,
    ) -> None:
        """Replace the samples of a part. `only` names the families that may have changed; None means all."""
        place = self._place.get(name)
        if place is None:
            return
        groups: dict[str, list[PlacedSample]] = {}
        for placed in samples:
            family = placed[1].metric.name
            if only is None or family in only:
                groups.setdefault(family, []).append(placed)
        shown = self._shown[place]
        shown.made_of = made_of
        for family in [family for family in shown.samples if family not in groups and (only is None or family in only)]:
            del shown.samples[family]
            self._write_family_slot(family, place, ())
        for family, group in groups.items():
            if shown.samples.get(family) != (new := tuple(group)):
                shown.samples[family] = new
                self._write_family_slot(family, place, new)

    def column_lines(self, metric: Metric, values: Mapping[str, float]) -> bytes:
        """Return the lines of a family that has one number for each database and no other label."""
        before = self._columns.get(metric.name)
        if before is None or before[0] != values or list(before[0]) != list(values):
            text = "".join(
                [
                    f"{_database_line_start(metric, name)}{_format_sample_value(value)}\n"
                    for name, value in values.items()
                ]
            )
            self._columns[metric.name] = before = (values, text.encode())
        return before[1]

    def family_lines(self, family: str, now: float) -> bytes:
        """Return the lines of one family at `now`; empty when it has none."""
        if not self._growing[family]:
            if family not in self._joined:
                self._joined[family] = "".join(self._slots[family]).encode()
            return self._joined[family]
        if family not in self._flat:
            growing = self._growing[family]
            slots = enumerate(self._slots[family])
            self._flat[family] = [piece for place, slot in slots for piece in growing.get(place) or ((slot, None),)]
        lines = [line if since is None else f"{line}{_format_age(now - since)}\n" for line, since in self._flat[family]]
        return "".join(lines).encode()

    def _write_family_slot(self, family: str, place: int, group: tuple[PlacedSample, ...]) -> None:
        pieces = [_line_piece(database, sample) for database, sample in group]
        growing = self._growing[family]
        if [1 for _, since in pieces if since is not None]:
            growing[place] = tuple(pieces)
        else:
            growing.pop(place, None)
            self._slots[family][place] = pieces[0][0] if len(pieces) == 1 else "".join([line for line, _ in pieces])
        self._joined.pop(family, None)
        self._flat.pop(family, None)


def format_sample_line(name: str, labels: Iterable[tuple[str, str]], value: float) -> str:
    """Return one line of the exposition format, with labels sorted by name, as prometheus_client writes them."""
    return f"{_line_start(name, sorted(labels))}{_format_sample_value(value)}\n"


def _are_same_objects(before: tuple[object, ...], now: tuple[object, ...]) -> bool:
    return len(before) == len(now) and all(old is new for old, new in zip(before, now, strict=True))


def _line_piece(database: str, sample: Sample) -> LinePiece:
    metric, labels, value = sample
    if metric.of_database:
        before, after = _split_line_start(metric, labels)
        start = f"{before}{_escape_label_value(database)}{after}"
    else:
        start = _line_start(metric.name, sorted(zip(metric.labels, labels, strict=True)))
    return (start, value.time) if isinstance(value, Since) else (f"{start}{_format_sample_value(value)}\n", None)


@lru_cache(maxsize=65536)
def _split_line_start(metric: Metric, labels: tuple[str, ...]) -> tuple[str, str]:
    """Return the start of a line before and after the name of the database; most databases share it."""
    pairs = sorted(zip(metric.labels, labels, strict=True))
    first = "".join([f"{_label_pair(pair)}," for pair in pairs if pair[0] < "database"])
    last = "".join([f",{_label_pair(pair)}" for pair in pairs if pair[0] > "database"])
    return f'{metric.name}{{{first}database="', f'"{last}}} '


def _line_start(name: str, labels: Sequence[tuple[str, str]]) -> str:
    if not labels:
        return f"{name} "
    return f"{name}{{{','.join(map(_label_pair, labels))}}} "


def _label_pair(label: tuple[str, str]) -> str:
    return f'{label[0]}="{_escape_label_value(label[1])}"'


def _database_line_start(metric: Metric, database: str) -> str:
    """Return the start of a line with the database as the only label."""
    before, after = _split_line_start(metric, ())
    return f"{before}{_escape_label_value(database)}{after}"


def _format_sample_value(value: float) -> str:
    """Return a number as the library writes it; numbers below a million, the usual ones, are several times faster."""
    if -math.inf < value < 1e6:
        return repr(float(value))
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _format_age(seconds: float) -> str:
    """Return an age as text; like `Sample.value_at` it is never negative."""
    return repr(seconds) if 0.0 < seconds < 1e6 else _format_sample_value(max(0.0, seconds))


@lru_cache(maxsize=65536)
def _escape_label_value(value: str) -> str:
    """Escape a label value (https://prometheus.io/docs/instrumenting/exposition_formats/).

    A file name of Linux need not be UTF-8, a label value must; two different names must stay different.
    """
    if value.isalnum() and value.isascii():
        return value
    text = value.encode("utf-8", "backslashreplace").decode()
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
