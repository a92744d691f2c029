"""The table of thresholds, how its values are written, and `queuekeeper rules render`."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from exporter.alert_rules.thresholds import THRESHOLDS, Threshold, format_in_unit, override_thresholds
from exporter.commands.main import main
from exporter.config.load import known_metrics
from exporter.config.sizes import parse_level
from exporter.exposition.self_metrics import METRICS
from tests.support.real.real_parts import run

GRAFANA = Path(__file__).resolve().parents[3] / "grafana"
MIB = 2**20


def rendered(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["rules", "render", *arguments])


@pytest.mark.parametrize("threshold", THRESHOLDS.values(), ids=THRESHOLDS)
class TestEachThreshold:
    def test_bounds_a_metric_that_is_declared(self, threshold: Threshold) -> None:
        assert threshold.metric in {*known_metrics(), *(metric.name for metric in METRICS)}

    def test_is_written_as_the_configuration_reads_it(self, threshold: Threshold) -> None:
        if threshold.unit != "count":
            assert parse_level(threshold.written_value) == threshold.value
        assert override_thresholds([f"{threshold.name}={threshold.written_value}"]) == THRESHOLDS

    def test_says_where_its_number_comes_from(self, threshold: Threshold) -> None:
        assert threshold.why
        assert not threshold.why.endswith(".")

    def test_is_healed_on_the_right_side(self, threshold: Threshold) -> None:
        if threshold.clear is not None:
            assert (threshold.clear < threshold.value) != threshold.below


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "bytes", "0"),
        (MIB, "bytes", "1MiB"),
        (1536, "bytes", "1536B"),
        (90, "seconds", "90s"),
        (86400, "seconds", "1d"),
        (0.125, "ratio", "12.5%"),
        (7, "count", "7"),
    ],
)
def test_values_are_written_in_the_largest_unit_without_a_rest(value: float, unit: str, text: str) -> None:
    assert format_in_unit(value, unit) == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (MIB, "bytes", "1024 * 1024"),
        (1024, "bytes", "1024"),
        (4 * 2**30, "bytes", "4 * 1024 * 1024 * 1024"),
        (1000, "bytes", "1000"),
        (86400, "seconds", "24 * 3600"),
        (3600, "seconds", "3600"),
        (5400, "seconds", "5400"),
        (0.25, "ratio", "0.25"),
        (0, "count", "0"),
    ],
)
def test_expressions_hold_values_that_a_person_can_read(value: float, unit: str, text: str) -> None:
    assert Threshold("x", "y", value, unit, "z").promql == text  # type: ignore[arg-type]


def test_a_changed_bound_keeps_the_distance_of_its_clear_level() -> None:
    assert (THRESHOLDS["wal"].value, THRESHOLDS["wal"].clear) == (64 * MIB, 8 * MIB)
    wal = override_thresholds(["wal=512MiB"])["wal"]
    assert (wal.value, wal.clear) == (512 * MIB, 64 * MIB)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wl=1MiB", "names no threshold; write NAME=VALUE with one of: wal=64MiB, pinned=10m"),
        ("wal", "names no threshold"),
        ("wal=5h", 'wal: "5h" is not a size; write it with a unit, like 64MiB'),
        ("waiting=5", 'waiting: "5" is not a duration'),
        ("disk_low=40", 'disk_low: "40" is out of bounds; write it like 10%'),
        ("failures=nan", 'failures: "nan" is out of bounds'),
        ("stale_leases=-1", 'stale_leases: "-1" is out of bounds'),
    ],
)
def test_what_cannot_be_meant_is_refused_with_how_to_write_it(text: str, expected: str) -> None:
    result = rendered(f"--threshold={text}")
    assert result.exit_code == 2
    assert expected in " ".join(result.output.split())


def test_without_options_it_prints_the_file_that_is_shipped() -> None:
    assert rendered().output == (GRAFANA / "alerts" / "queuekeeper.yaml").read_text()


def test_another_threshold_changes_its_rules_and_no_other() -> None:
    before, after = (
        {rule["alert"]: rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]}
        for text in (rendered().output, rendered("--threshold", "wal=512MiB").output)
    )
    differing = {name for name in before if before[name] != after[name]}
    assert differing == {"QueueWalBacklog", "QueueWalBacklogNotRemediated"}
    assert after["QueueWalBacklog"]["expr"] == "sqlite_wal_backlog_bytes > 512 * 1024 * 1024"


@pytest.mark.real
def test_what_it_prints_for_another_job_loads(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(rendered("--job", "queues", "--threshold", "disk_soon=8h", "--threshold", "wal=1000B").output)
    assert 'up{job="queues"} == 0' in file.read_text()
    assert 'job="queuekeeper"' not in file.read_text()
    result = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", file)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("job", ["", 'a"b', "a{b", "a\\b"])
def test_a_job_that_would_break_out_of_its_quotes_is_refused(job: str) -> None:
    assert rendered(f"--job={job}").exit_code == 2


def test_the_operators_form_holds_the_same_groups() -> None:
    resource = yaml.safe_load(rendered("--format", "operator").output)
    assert (resource["apiVersion"], resource["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert resource["spec"]["groups"] == yaml.safe_load(rendered().output)["groups"]
    assert rendered("--format", "operator").output == (GRAFANA / "operator" / "prometheusrule.yaml").read_text()
