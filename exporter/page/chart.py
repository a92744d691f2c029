"""Draws the readings of the last hour as an SVG line: needs no script, no library and no other host. Pure."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from exporter.page.words import format_amount
from exporter.status.recent_readings import CHART_SPAN, ChartPoint, ChartSeries

WIDTH, HEIGHT = 480.0, 120.0
SPANS = (300.0, 900.0, CHART_SPAN)
_TIME_SCALES = (1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0, 43200.0, 86400.0)


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart. `line` and `area` are SVG paths in a box of WIDTH x HEIGHT.

    `top` is the end of the scale in words, `summary` the whole chart in one sentence.
    """

    name: str
    now: str
    top: str
    begins: str
    summary: str
    line: str
    area: str


def choose_chart_span(lines: Iterable[Sequence[ChartPoint]], now: float) -> float:
    """Return the time span to draw in seconds: an hour, or less where all readings fit into less."""
    oldest = min((points[0].at for points in lines if points), default=now)
    return next(span for span in SPANS if span >= now - oldest or span == CHART_SPAN)


def draw_chart(
    series: ChartSeries, points: Sequence[ChartPoint], now: float, width: float, longest_gap: float
) -> Chart | None:
    """Draw `width` seconds up to `now`; None where no value is known.

    Points further apart than `longest_gap` seconds are not joined.
    """
    known = [point.value for point in points if point.value is not None]
    if not known:
        return None
    top = _scale_end(max(known), series.unit)
    runs = [
        [_to_coordinates(point, top, now - width, width) for point in run]
        for run in _split_at_gaps(points, longest_gap)
    ]
    last = points[-1].value
    newest = "unknown" if last is None else format_amount(last, series.unit)
    low, high = format_amount(min(known), series.unit), format_amount(max(known), series.unit)
    return Chart(
        name=series.name,
        now=newest,
        top=format_amount(top, series.unit),
        begins=f"{format_amount(width, 'seconds')} ago",
        summary=f"{series.name}: now {newest}; between {low} and {high} in the last {format_amount(width, 'seconds')}",
        line=" ".join(_svg_path(run) for run in runs),
        area=" ".join(f"{_svg_path(run)} V{HEIGHT:g} H{run[0][0]:g} Z" for run in runs),
    )


def _split_at_gaps(points: Iterable[ChartPoint], longest_gap: float) -> Iterator[list[ChartPoint]]:
    """Yield the parts of the line between gaps."""
    run: list[ChartPoint] = []
    for point in points:
        if run and (point.value is None or point.at - run[-1].at > longest_gap):
            yield run
            run = []
        if point.value is not None:
            run.append(point)
    if run:
        yield run


def _to_coordinates(point: ChartPoint, top: float, begins: float, width: float) -> tuple[float, float]:
    x = WIDTH * min(1.0, max(0.0, (point.at - begins) / width))
    return round(x, 1), round(HEIGHT * (1 - (point.value or 0.0) / top), 1)


def _svg_path(places: Sequence[tuple[float, float]]) -> str:
    """Return an SVG path; a single point becomes a short dash, which would be invisible otherwise."""
    first = places[0]
    rest = places[1:] or [(first[0] + 1, first[1])]
    return f"M{first[0]:g} {first[1]:g} " + " ".join(f"L{x:g} {y:g}" for x, y in rest)


def _scale_end(highest: float, unit: str) -> float:
    """Return a round number at or above the highest value."""
    if unit == "ratio":
        return 1.0
    if unit == "seconds":
        return next((time for time in _TIME_SCALES if time >= highest), highest)
    if highest <= 0:
        return 1.0 if unit == "count" else 1024.0
    if unit == "bytes":
        return float(2 ** math.ceil(math.log2(highest)))
    step = 10.0 ** math.floor(math.log10(highest))
    return max(1.0, next(factor * step for factor in (1, 2, 5, 10) if factor * step >= highest))
