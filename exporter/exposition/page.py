"""Renders the metrics page for each scrape from memory. It opens no database.

Lines are cached from one scrape to the next (`exporter.exposition.line_cache`). prometheus_client negotiates the format and
gives the metrics of the process; gzip is ours, at level 1: a fifth of the time of level 9 for an eighth more bytes.
"""

import gzip
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from actions.store.totals import DURATION_BUCKETS, DurationHistogram
from collectors.access.snapshot import Snapshot
from collectors.metric import Metric
from collectors.registry import COLLECTORS
from exporter.exposition import self_metrics
from exporter.exposition.line_cache import LineCache, PlacedSample, format_sample_line
from exporter.exposition.self_metrics import ExporterState

Encoder = Callable[[Collector], bytes]
_EOF = b"# EOF\n"
_PROCESS_PART, _HISTORY_PART = "\0process", "\0history"  # parts of the page; no database has such a name
# The metrics of a database that can change without a new reading of its file.
_OUTSIDE_FILE = frozenset(
    {m.name for collector in COLLECTORS if collector.SPEC.outside_file for m in collector.METRICS}
    | {self_metrics.COLLECTOR_SUCCESS.name, self_metrics.COLLECTOR_DURATION.name}
)


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """A metrics page: its bytes, and the values of Content-Type and Content-Encoding ("" for none)."""

    body: bytes
    content_type: str
    encoding: str = ""


class Exposition:
    """Renders `state(now)` as metrics pages. `metrics` are declared by the collectors; `clock` returns unix seconds."""

    def __init__(
        self,
        metrics: Iterable[Metric],
        state: Callable[[float], ExporterState],
        clock: Callable[[], float],
        *,
        with_process: bool = True,
    ) -> None:
        self._metrics = (*self_metrics.METRICS, *metrics)
        self._state, self._clock = state, clock
        self._cache = LineCache(metric.name for metric in self._metrics)
        self._shown: dict[
            str, Snapshot | bool
        ] = {}  # by database: the snapshot that is shown; without one, whether the reading is stale
        self._heads: dict[str, dict[str, bytes]] = {}
        self._lock = threading.Lock()
        self._process = CollectorRegistry()
        if with_process:
            ProcessCollector(registry=self._process)
            PlatformCollector(registry=self._process)

    def render(self, accept: str, accept_encoding: str, names: Iterable[str] = ()) -> MetricsPage:
        """Render the page in the best format that `accept` allows; where `names` are given, only those samples."""
        encoder, content_type = _negotiate_encoder(accept)
        with self._lock:
            body = self._render_body(encoder, frozenset(names))
        if _accepts_gzip(accept_encoding):
            return MetricsPage(gzip.compress(body, compresslevel=1), content_type, "gzip")
        return MetricsPage(body, content_type)

    def update_database(self, snapshot: Snapshot) -> None:
        """Format the lines of a database right after its poll, so that no scrape has to wait for it."""
        name = snapshot.target.name
        with self._lock:
            if not self._cache.has_page_part(name):  # added since the last scrape
                self._set_parts(self._state(self._clock()).view.names)
            self._update_part(name, snapshot)

    def _render_body(self, encoder: Encoder, names: Collection[str]) -> bytes:
        now = self._clock()
        state = self._state(now)
        self._update_parts(state)
        heads = self._family_heads(encoder)
        parts: list[bytes] = []
        for metric in self._metrics:
            if lines := self._family_lines(metric, state, now, names):
                parts += (heads[metric.name], lines)
        process = encoder(self._process.restricted_registry(names) if names else self._process)
        return b"".join((*parts, process))

    def _update_parts(self, state: ExporterState) -> None:
        """Update every part of the page; most are unchanged."""
        view = state.view
        self._set_parts(view.names)
        self._cache.update_page_part(_PROCESS_PART, self_metrics.process_samples(state))
        history = (state.totals, state.config, view.names)
        if not self._cache.is_part_current(_HISTORY_PART, history):
            self._cache.update_page_part(_HISTORY_PART, self_metrics.history_samples(state), history)
        for name in view.names:
            snapshot = view.fresh.get(name)
            now = name in view.stale if snapshot is None else snapshot
            if self._shown.get(name) is not now:
                self._update_part(name, snapshot, stale=name in view.stale)

    def _set_parts(self, names: tuple[str, ...]) -> None:
        self._cache.set_page_parts((_PROCESS_PART, _HISTORY_PART, *names))
        if len(self._shown) > len(names):
            self._shown = {name: self._shown[name] for name in names if name in self._shown}

    def _update_part(self, name: str, snapshot: Snapshot | None, *, stale: bool = False) -> None:
        """Update the lines of one database. The snapshot of an unchanged file is new but holds the same samples."""
        before = self._shown.get(name)
        self._shown[name] = stale if snapshot is None else snapshot
        made_of = (stale,) if snapshot is None else (snapshot.samples, snapshot.collectors, snapshot.up)
        if not self._cache.is_part_current(name, made_of):
            only = _OUTSIDE_FILE if _is_same_reading(before, snapshot) else None
            self._cache.update_page_part(name, _database_samples(name, snapshot, stale=stale), made_of, only)

    def _family_lines(self, metric: Metric, state: ExporterState, now: float, names: Collection[str]) -> bytes:
        if metric.name in self_metrics.HISTOGRAMS:
            lines = (
                line
                for action, durations in state.totals.durations.items()
                for line in _histogram_lines(action, durations)
            )
            return "".join(text for name, text in lines if not names or name in names).encode()
        if names and metric.name not in names:
            return b""
        column = self_metrics.COLUMNS.get(metric.name)
        return (
            self._cache.family_lines(metric.name, now)
            if column is None
            else self._cache.column_lines(metric, column(state.view))
        )

    def _family_heads(self, encoder: Encoder) -> dict[str, bytes]:
        """Return the HELP and TYPE lines of each family as this encoder writes them."""
        form = "openmetrics" if encoder(CollectorRegistry()) else "text"
        if form not in self._heads:
            made = {m.name: encoder(_SingleFamily(_prometheus_family(m))).removesuffix(_EOF) for m in self._metrics}
            self._heads[form] = made
        return self._heads[form]


class _SingleFamily(Collector):
    """A collector with a single family."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterator[Family]:
        yield self._family


def _is_same_reading(before: Snapshot | bool | None, now: Snapshot | None) -> bool:
    """Return whether both come from one reading of the file, so that they differ only in readings from outside of it."""
    return isinstance(before, Snapshot) and now is not None and 0 < now.opened_at == before.opened_at


def _database_samples(name: str, snapshot: Snapshot | None, *, stale: bool) -> Iterator[PlacedSample]:
    yield from ((name, sample) for sample in self_metrics.poll_samples(snapshot, stale=stale))
    if snapshot is not None:
        yield from ((name, sample) for sample in snapshot.samples)


def _negotiate_encoder(accept: str) -> tuple[Encoder, str]:
    """Return the library's encoder. Our names need no escaping, so every escaping scheme gives the same as `underscores`."""
    encoder, content_type = choose_encoder(accept)
    for scheme in ("dots", "values"):
        if content_type.endswith(f"escaping={scheme}"):
            return choose_encoder(accept.replace(f"escaping={scheme}", "escaping=underscores"))
    return encoder, content_type


def _prometheus_family(metric: Metric) -> Family:
    if metric.name in self_metrics.HISTOGRAMS:
        return HistogramMetricFamily(metric.name, metric.help)
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.help)


def _histogram_lines(action: str, durations: DurationHistogram) -> Iterator[tuple[str, str]]:
    """Yield (sample name, line) of one action: cumulative buckets, count, sum."""
    name, labels = self_metrics.DURATION.name, [("action", action)]
    total = 0
    for bound, count in zip((*map(str, DURATION_BUCKETS), "+Inf"), durations.counts, strict=True):
        total += count
        yield f"{name}_bucket", format_sample_line(f"{name}_bucket", [*labels, ("le", bound)], total)
    yield f"{name}_count", format_sample_line(f"{name}_count", labels, total)
    yield f"{name}_sum", format_sample_line(f"{name}_sum", labels, durations.total)


def _accepts_gzip(accept_encoding: str) -> bool:
    """Return whether gzip is acceptable (RFC 9110 §12.5.3): listed, and not with q=0."""
    for part in accept_encoding.split(","):
        coding, _, weight = part.partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            return weight.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
