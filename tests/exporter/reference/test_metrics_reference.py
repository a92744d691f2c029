"""docs/metrics.md is what the declarations say."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from collectors.registry import COLLECTORS
from exporter.exposition import self_metrics
from exporter.reference import metrics


def test_the_document_is_up_to_date() -> None:
    result = CliRunner().invoke(metrics.main, ["--check"])
    assert result.exit_code == 0, result.output


def test_every_declared_metric_has_one_row() -> None:
    declared = [*self_metrics.METRICS, *(metric for collector in COLLECTORS for metric in collector.METRICS)]
    rows = [line.split("`")[1] for line in metrics.DOCUMENT.read_text("utf-8").splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(metric.name for metric in declared)


@pytest.mark.parametrize("stale", ["", None], ids=["another text", "no file"])
def test_a_document_that_is_not_up_to_date_is_reported_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stale: str | None
) -> None:
    document = tmp_path / "metrics.md"
    monkeypatch.setattr(metrics, "DOCUMENT", document)
    if stale is not None:
        document.write_text(stale)
    result = CliRunner().invoke(metrics.main, ["--check"])
    assert result.exit_code == 1
    assert "run: python -m exporter.reference.metrics" in result.output
    assert CliRunner().invoke(metrics.main, []).exit_code == 0
    assert CliRunner().invoke(metrics.main, ["--check"]).exit_code == 0
