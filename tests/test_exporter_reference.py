"""docs/metrics.md says what the code declares."""

from exporter import own_metrics
from exporter.config.known import known_actions, known_metrics
from exporter.reference import DOCUMENT, text


def test_the_metrics_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text("utf-8") == text(), "run: python -m exporter.reference"


def test_no_metric_is_declared_twice_and_units_are_base_units() -> None:
    metrics = [*known_metrics().values(), *own_metrics.METRICS]
    names = [metric.name for metric in metrics]
    assert len(names) == len(set(names))
    for metric in metrics:
        assert metric.name.startswith(
            "sqlite_" if metric.name in known_metrics() or metric == own_metrics.UP else "queuekeeper_"
        )
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert not any(word in metric.name.split("_") for word in ("mb", "ms", "percent", "kb", "minutes"))
        assert metric.help.endswith(".")


def test_the_actions_that_rules_may_name_have_options() -> None:
    assert {"checkpoint", "backup", "requeue"} <= set(known_actions())
