"""The metrics page: complete, escaped, never stale, in the requested format."""

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from collectors.metric import Sample
from collectors.registry import COLLECTORS
from exporter.config.settings import ActingSettings
from exporter.exposition.latest import LatestSnapshots
from exporter.exposition.page import Exposition, self_metrics
from tests.support.scenes.exporter_state import METRICS, NOW, board, config, facts, readings, snapshot

GOLDEN = Path(__file__).parent / "golden" / "metrics.txt"
# as Prometheus 2.42 sends it
OPENMETRICS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


def exposition(shown: LatestSnapshots, now: float = NOW, **changes: object) -> Exposition:
    return Exposition(METRICS, lambda at: facts(at, shown, **changes), lambda: now, with_process=False)


def page(shown: LatestSnapshots, now: float = NOW, names: tuple[str, ...] = (), **changes: object) -> str:
    return exposition(shown, now, **changes).render("", "", names).body.decode()


def lines(text: str, name: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]


def declared_readings() -> tuple[Sample, ...]:
    metrics = [metric for collector in COLLECTORS for metric in collector.METRICS]
    return tuple(metric(number, *(f"{label}-1" for label in metric.labels)) for number, metric in enumerate(metrics))


def golden_page() -> str:
    declared = tuple(metric for collector in COLLECTORS for metric in collector.METRICS)
    shown = board(snapshot(samples=declared_readings(), failed={"leases": "busy"}))
    return (
        Exposition(declared, lambda at: facts(at, shown), lambda: NOW, with_process=False).render("", "").body.decode()
    )


def test_the_whole_page_is_the_agreed_document() -> None:
    assert golden_page() == GOLDEN.read_text("utf-8"), f"if that is meant: python {__file__}"


def test_promtool_has_nothing_to_say_about_the_page() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    result = subprocess.run([promtool, "check", "metrics"], input=GOLDEN.read_bytes(), capture_output=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


def test_labels_are_escaped_and_come_back_whole() -> None:
    families = {family.name: family for family in parse_text(page(board(snapshot(samples=readings()))))}
    queues = [sample.labels["queue"] for sample in families["sqlite_queue_tasks"].samples]
    assert queues == ['ma"il\\x\n', "default"]


def test_a_file_name_that_is_no_text_cannot_break_the_page() -> None:
    names = ("b\udcffd", "b\udcfed")
    text = page(board(*map(snapshot, names), names=names))
    assert len(set(lines(text, "sqlite_up"))) == 2
    assert 'sqlite_up{database="b\\\\udcffd"} 1.0' in text


def test_openmetrics_is_spoken_to_who_asks_and_parses() -> None:
    answer = exposition(board(snapshot(samples=readings()))).render(OPENMETRICS, "")
    assert answer.content_type.startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert answer.body.endswith(b"# EOF\n")
    families = {family.name: family for family in parse_openmetrics(answer.body.decode())}
    assert families["sqlite_queue_enqueued"].samples[0].name == "sqlite_queue_enqueued_total"
    assert families["queuekeeper_action_duration_seconds"].type == "histogram"
    assert b"_created" not in answer.body


def test_plain_text_is_the_default_and_has_no_created_series() -> None:
    answer = exposition(board(snapshot(samples=readings()))).render("*/*", "")
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"_created" not in answer.body


@pytest.mark.parametrize("header", ["gzip", "deflate, gzip;q=0.5", "*", "GZIP"])
def test_gzip_when_asked_for_gives_the_same_page(header: str) -> None:
    made = exposition(board(snapshot(samples=readings())))
    packed = made.render("", header)
    assert packed.encoding == "gzip"
    assert gzip.decompress(packed.body) == made.render("", "").body


@pytest.mark.parametrize("header", ["", "identity", "gzip;q=0", "gzip; q=0.0", "br"])
def test_no_gzip_for_who_cannot_read_it(header: str) -> None:
    assert exposition(board(snapshot())).render("", header).encoding == ""


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (("sqlite_up",), {"sqlite_up"}),
        (("sqlite_up", "sqlite_database_size_bytes"), {"sqlite_up", "sqlite_database_size_bytes"}),
        (("queuekeeper_action_runs_total",), {"queuekeeper_action_runs"}),
        (("queuekeeper_action_duration_seconds_count",), {"queuekeeper_action_duration_seconds"}),
        (("no_such_metric",), set()),
    ],
)
def test_names_ask_for_some_metrics_only(asked: tuple[str, ...], found: set[str]) -> None:
    text = page(board(snapshot(samples=readings())), names=asked)
    assert {family.name for family in parse_text(text)} == found


def test_every_family_on_the_page_can_be_asked_for_by_name() -> None:
    shown = board(snapshot(samples=readings(), failed={"leases": "busy"}))
    names = {sample.name for family in parse_text(page(shown)) for sample in family.samples}
    assert len(names) > 20
    for name in names:
        selected = {sample.name for family in parse_text(page(shown, names=(name,))) for sample in family.samples}
        assert selected == {name}
    declared = [metric.name for metric in self_metrics.METRICS]
    assert len(declared) == len(set(declared))


def test_a_reading_that_is_too_old_is_withdrawn_and_the_database_is_not_up() -> None:
    shown = board(snapshot(samples=readings(), at=NOW))
    fresh, old = page(shown, NOW + 60), page(shown, NOW + 61)
    assert lines(fresh, "sqlite_up") == ['sqlite_up{database="jobs"} 1.0']
    assert lines(fresh, "sqlite_database_size_bytes")
    assert lines(old, "sqlite_up") == ['sqlite_up{database="jobs"} 0.0']
    assert not lines(old, "sqlite_database_size_bytes")
    assert not lines(old, "queuekeeper_collector_success")
    assert 'queuekeeper_databases{state="stale"} 1.0' in old


def test_an_age_grows_between_two_scrapes_of_one_reading() -> None:
    shown = board(snapshot(samples=readings()))
    assert 'sqlite_backup_age_seconds{database="jobs"} 3600.0' in page(shown, NOW)
    assert 'sqlite_backup_age_seconds{database="jobs"} 3610.0' in page(shown, NOW + 10)


def test_a_failed_collector_says_so_and_is_counted() -> None:
    shown = board(snapshot(failed={"leases": "busy"}), snapshot(failed={"leases": "busy"}))
    text = page(shown)
    assert 'queuekeeper_collector_success{collector="leases",database="jobs"} 0.0' in text
    assert 'queuekeeper_collector_errors_total{collector="leases",reason="busy"} 2.0' in text
    assert not lines(text, "sqlite_database_size_bytes")


def test_a_database_that_was_not_polled_yet_is_found_and_has_no_up() -> None:
    text = page(board())
    assert not lines(text, "sqlite_up")
    assert 'queuekeeper_databases{state="found"} 1.0' in text


def test_a_database_that_is_no_longer_watched_vanishes() -> None:
    shown = board(snapshot("a", samples=readings()), snapshot("b"), names=("a", "b"))
    shown.set_targets([])
    assert 'database="a"' not in page(shown, totals=type(facts(NOW, shown).totals)())


def test_counters_of_what_can_be_started_exist_before_the_first_run() -> None:
    text = page(board(), totals=type(facts(NOW, board()).totals)())
    assert lines(text, "queuekeeper_action_runs_total") == [
        'queuekeeper_action_runs_total{action="checkpoint",database="jobs",outcome="done"} 0.0',
        'queuekeeper_action_runs_total{action="checkpoint",database="jobs",outcome="failed"} 0.0',
    ]
    assert 'queuekeeper_webhook_requests_total{code="401"} 0.0' in text
    observing = page(board(), config=config(acting=ActingSettings()), totals=type(facts(NOW, board()).totals)())
    assert not lines(observing, "queuekeeper_action_runs_total")


def test_the_histogram_is_cumulative_and_complete() -> None:
    text = page(board())
    buckets = [float(line.rsplit(" ", 1)[1]) for line in lines(text, "queuekeeper_action_duration_seconds_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[:3] == [0.0, 1.0, 2.0]
    assert 'queuekeeper_action_duration_seconds_count{action="checkpoint"} 2.0' in text
    assert 'queuekeeper_action_duration_seconds_sum{action="checkpoint"} 0.25' in text


def test_decisions_outside_the_contract_are_not_published() -> None:
    assert "resolved" not in page(board())


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(golden_page(), "utf-8")
