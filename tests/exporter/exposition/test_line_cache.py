"""The cached page is byte for byte what prometheus_client writes of the same samples, after any changes."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from actions.store.totals import DURATION_BUCKETS
from collectors.metric import Metric, Sample, Since
from exporter.exposition.latest import LatestSnapshots
from exporter.exposition.line_cache import LineCache
from exporter.exposition.page import Exposition, self_metrics
from exporter.exposition.self_metrics import ExporterState
from tests.support.scenes.exporter_state import NOW, config, facts, snapshot, target, totals

TEXT = "text/plain;version=0.0.4"
TEXT_1 = "text/plain;version=1.0.0;escaping=allow-utf-8"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
OPENMETRICS_UTF8 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"
METRICS = (
    Metric("sqlite_a_bytes", "Bytes."),
    Metric("sqlite_b", 'With "quotes", a \\ and a\nline break.', ("zone", "area")),
    Metric("sqlite_c_seconds", "Grows.", ("command",)),
    Metric("sqlite_d_total", "Counts.", ("database_kind",), "counter"),
)
NUMBERS = st.one_of(
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.booleans(),
    st.sampled_from([0.0, -0.0, 1e6, 1e7, 1234567.5, 1e21, 1e-7, 5e-324, math.inf, -math.inf, math.nan]),
    st.builds(Since, st.floats(NOW - 1e9, NOW + 100)),
)
LABELS = st.text(st.characters(exclude_categories=("Cs",)), max_size=6) | st.sampled_from(
    ['"', "\\", "\n", "\\n", "{}", " "]
)


class Reference(Collector):
    """The same samples as families of the library."""

    def __init__(self, facts: ExporterState, metrics: Iterable[Metric], now: float) -> None:
        self.facts, self.metrics, self.now = facts, tuple(metrics), now

    def collect(self) -> Iterator[Family]:
        view = self.facts.view
        families = {metric.name: family(metric) for metric in (*self_metrics.METRICS, *self.metrics)}
        placed = [*self_metrics.process_samples(self.facts), *self_metrics.history_samples(self.facts)]
        for name in view.names:
            shown = view.fresh.get(name)
            placed += ((name, sample) for sample in self_metrics.poll_samples(shown, stale=name in view.stale))
            placed += ((name, sample) for sample in (shown.samples if shown else ()))
        for metric in (m for m in self_metrics.METRICS if m.name in self_metrics.COLUMNS):
            placed += ((name, metric(value)) for name, value in self_metrics.COLUMNS[metric.name](view).items())
        for database, sample in placed:
            add(families[sample.metric.name], database, sample, self.now)
        for action, durations in self.facts.totals.durations.items():
            counts = [sum(durations.counts[: i + 1]) for i in range(len(durations.counts))]
            buckets = list(zip([*map(str, DURATION_BUCKETS), "+Inf"], counts, strict=True))
            histogram = families[self_metrics.DURATION.name]
            assert isinstance(histogram, HistogramMetricFamily)
            histogram.add_metric([action], buckets=buckets, sum_value=durations.total)
        return (family for family in families.values() if family.samples)


def family(metric: Metric) -> Family:
    if metric.name in self_metrics.HISTOGRAMS:
        return HistogramMetricFamily(metric.name, metric.help, labels=["action"])
    return (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(metric.name, metric.help)


def add(one: Family, database: str, sample: Sample, now: float) -> None:
    metric = sample.metric
    names = (("database",) if metric.of_database else ()) + metric.labels
    values = ((database,) if metric.of_database else ()) + sample.labels
    one.add_sample(metric.name, dict(zip(names, values, strict=True)), sample.value_at(now))


def reference(shown: ExporterState, accept: str, now: float, names: Iterable[str] = ()) -> bytes:
    registry = CollectorRegistry()
    collector = Reference(shown, METRICS, now)
    registry.register(collector)
    encoder, _ = choose_encoder(accept)
    wanted = set(names)
    if not wanted:
        return bytes(encoder(registry))
    return bytes(encoder(Only(collector, wanted)))


class Only(Collector):
    """The families of another collector that `name[]` selects."""

    def __init__(self, whole: Collector, names: set[str]) -> None:
        self.whole, self.names = whole, names

    def collect(self) -> Iterator[Family]:
        for family in self.whole.collect():
            family.samples = [sample for sample in family.samples if sample.name in self.names]
            if family.samples:
                yield family


@st.composite
def samples(draw: st.DrawFn) -> tuple[Sample, ...]:
    snapshots = {}
    for metric in draw(st.lists(st.sampled_from(METRICS), max_size=8)):
        labels = tuple(draw(LABELS) for _ in metric.labels)
        snapshots[metric.name, labels] = metric(draw(NUMBERS), *labels)
    return tuple(snapshots.values())


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("poll"), st.sampled_from("abc"), samples()),
        st.tuples(st.just("confirm"), st.sampled_from("abc"), st.none()),
        st.tuples(st.just("watch"), st.permutations("abc").map(lambda names: tuple(names[:2])), st.none()),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 30.0, 70.0]), st.none()),
        st.tuples(st.just("keep"), st.sampled_from("abc"), st.none()),
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.sampled_from([TEXT, TEXT_1, OPENMETRICS, OPENMETRICS_UTF8]))
def test_after_any_course_of_events_the_page_is_the_librarys(
    steps: list[tuple[str, object, object]], accept: str
) -> None:
    now, board, history, made = NOW, LatestSnapshots(), totals(), config()
    board.set_targets(target(name) for name in "abc")
    page = Exposition(
        METRICS, lambda at: facts(at, board, totals=history, config=made), lambda: now, with_process=False
    )
    for what, which, value in steps:
        if what == "poll":
            board.store_snapshot(snapshot(str(which), now, value))  # type: ignore[arg-type]
        elif what == "confirm" and (before := board.newest_snapshot(str(which))) is not None:
            board.store_snapshot(replace(before, taken_at=now))
        elif what == "keep" and (known := board.newest_snapshot(str(which))) is not None:
            page.update_database(known)
        elif what == "watch":
            board.set_targets(target(str(name)) for name in which)  # type: ignore[union-attr]
        elif what == "wait":
            now += float(which)  # type: ignore[arg-type]
        assert page.render(accept, "").body == reference(facts(now, board, totals=history, config=made), accept, now)


@pytest.mark.parametrize("names", [("sqlite_b",), ("sqlite_d_total", "queuekeeper_action_duration_seconds_bucket")])
def test_names_give_what_the_library_gives(names: tuple[str, ...]) -> None:
    board = LatestSnapshots()
    board.set_targets([target("a")])
    board.store_snapshot(snapshot("a", NOW, (METRICS[1](1, "x", "y"), METRICS[3](2, "z"))))
    shown = facts(NOW, board)
    page = Exposition(METRICS, lambda _: shown, lambda: NOW, with_process=False)
    assert page.render(TEXT, "", names).body == reference(shown, TEXT, NOW, names)


@pytest.mark.parametrize("scheme", ["dots", "values"])
def test_a_scheme_that_our_names_do_not_need_is_answered_without_it(scheme: str) -> None:
    board = LatestSnapshots()
    board.set_targets([target("a")])
    page = Exposition(METRICS, lambda at: facts(at, board), lambda: NOW, with_process=False)
    answer = page.render(f"application/openmetrics-text;version=1.0.0;escaping={scheme}", "")
    assert answer.content_type.endswith("escaping=underscores")
    assert b"sqlite" in page.render(TEXT, "").body or b"queuekeeper_build_info{" in answer.body


def test_what_did_not_change_is_not_asked_again() -> None:
    """Of a thousand databases three were read since the last scrape: only those are formatted again."""
    board = LatestSnapshots()
    board.set_targets(target(f"d{number}") for number in range(1000))
    for number in range(1000):
        board.store_snapshot(replace(snapshot(f"d{number}", NOW, (METRICS[0](number),)), opened_at=NOW))
    history, made = totals(), config()
    page = Exposition(
        METRICS, lambda at: facts(at, board, totals=history, config=made), lambda: NOW + 1, with_process=False
    )
    page.render(TEXT, "")
    written: list[str] = []
    put = LineCache.update_page_part

    def counted(kept: LineCache, name: str, *arguments: object, **others: object) -> None:
        written.append(name)
        put(kept, name, *arguments, **others)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LineCache, "update_page_part", counted)
        for number in range(1000):
            board.store_snapshot(replace(board.newest_snapshot(f"d{number}"), taken_at=NOW + 1))  # type: ignore[type-var]
        for number in (3, 500, 999):
            board.store_snapshot(replace(snapshot(f"d{number}", NOW + 1, (METRICS[0](-1),)), opened_at=NOW + 1))
        body = page.render(TEXT, "").body.decode()
    assert sorted(name for name in written if not name.startswith("\0")) == ["d3", "d500", "d999"]
    assert body.count("sqlite_a_bytes{") == 1000
    assert body.count("} -1.0\n") == 3


def test_a_snapshot_of_a_database_that_is_not_on_the_page_yet_is_left_to_the_next_scrape() -> None:
    board = LatestSnapshots()
    page = Exposition(METRICS, lambda at: facts(at, board), lambda: NOW, with_process=False)
    page.update_database(snapshot("new", NOW, (METRICS[0](1),)))
    board.set_targets([target("new")])
    board.store_snapshot(snapshot("new", NOW, (METRICS[0](7),)))
    assert b'sqlite_a_bytes{database="new"} 7.0' in page.render(TEXT, "").body
