"""The page that Prometheus reads: fresh families at every scrape, from what is in memory. Opens no database.

Formats and negotiation are prometheus_client's; gzip is ours, at level 1: a fifth of the time of level 9 for an eighth
more bytes on a page of this kind.
"""

import gzip
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from actions.history.totals import DURATION_BUCKETS, Durations
from collectors.metric import Metric, Sample
from exporter import own_metrics
from exporter.own_metrics import Facts, Placed


@dataclass(frozen=True, slots=True)
class Page:
    """An answer: its bytes, and the values of Content-Type and Content-Encoding ("" for none)."""

    body: bytes
    content_type: str
    encoding: str = ""


class Exposition:
    """Renders `facts(now)` for whoever asks. `metrics` are the collectors' declarations; `clock` gives unix seconds."""

    def __init__(
        self,
        metrics: Iterable[Metric],
        facts: Callable[[float], Facts],
        clock: Callable[[], float],
        *,
        with_process: bool = True,
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Snapshots((*own_metrics.METRICS, *metrics), facts, clock))
        if with_process:
            ProcessCollector(registry=self._registry)
            PlatformCollector(registry=self._registry)

    def render(self, accept: str, accept_encoding: str, names: Iterable[str] = ()) -> Page:
        """The page in the best format that `accept` allows; of `names` only, when there are any."""
        encoder, content_type = choose_encoder(accept)
        wanted = list(names)
        body = encoder(self._registry.restricted_registry(wanted) if wanted else self._registry)
        if _allows_gzip(accept_encoding):
            return Page(gzip.compress(body, compresslevel=1), content_type, "gzip")
        return Page(body, content_type)


class _Snapshots(Collector):
    def __init__(
        self, metrics: tuple[Metric, ...], facts: Callable[[float], Facts], clock: Callable[[], float]
    ) -> None:
        self._metrics = metrics
        self._facts = facts
        self._clock = clock

    def describe(self) -> Iterator[Family]:
        """All families that can ever appear: without them `name[]` would find nothing."""
        return (_family(metric) for metric in self._metrics)

    def collect(self) -> Iterator[Family]:
        """The families that have a value now."""
        now = self._clock()
        facts = self._facts(now)
        families = {metric.name: _family(metric) for metric in self._metrics}
        for database, sample in (*own_metrics.samples(facts), *_of_databases(facts)):
            _add(families[sample.metric.name], database, sample, now)
        for action, durations in facts.totals.durations.items():
            _add_histogram(families[own_metrics.DURATION.name], action, durations)
        return (family for family in families.values() if family.samples)


def _of_databases(facts: Facts) -> Iterator[Placed]:
    for name, snapshot in facts.view.fresh.items():
        yield from ((name, sample) for sample in snapshot.samples)


def _family(metric: Metric) -> Family:
    labels = _label_names(metric)
    if metric.name in own_metrics.HISTOGRAMS:
        return HistogramMetricFamily(metric.name, metric.help, labels=labels)
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.help, labels=labels)


def _label_names(metric: Metric) -> tuple[str, ...]:
    return (("database",) if metric.of_database else ()) + metric.labels


def _add(family: Family, database: str, sample: Sample, now: float) -> None:
    names = _label_names(sample.metric)
    values = ((database,) if sample.metric.of_database else ()) + sample.labels
    pairs = {name: _printable(value) for name, value in zip(names, values, strict=True)}
    name = f"{family.name}_total" if sample.metric.kind == "counter" else family.name
    family.add_sample(name, pairs, sample.at(now))


def _add_histogram(family: Family, action: str, durations: Durations) -> None:
    bounds = [*(str(bound) for bound in DURATION_BUCKETS), "+Inf"]
    counts = [sum(durations.counts[: i + 1]) for i in range(len(durations.counts))]
    assert isinstance(family, HistogramMetricFamily)  # noqa: S101 - made by _family from the same name
    family.add_metric([action], buckets=list(zip(bounds, counts, strict=True)), sum_value=durations.total)


def _printable(value: str) -> str:
    """A file name of Linux need not be UTF-8, a label value must; two different names must stay different."""
    return value.encode("utf-8", "backslashreplace").decode()


def _allows_gzip(accept_encoding: str) -> bool:
    """RFC 9110 §12.5.3: listed, and not with q=0."""
    for part in accept_encoding.split(","):
        coding, _, weight = part.partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            return weight.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
