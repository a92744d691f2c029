"""Writes docs/metrics.md from the declared metrics: `python -m exporter.reference.metrics [--check]`."""

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from collectors.metric import Metric
from collectors.registry import COLLECTORS
from exporter.exposition import self_metrics

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "metrics.md"
_HEAD = """# Metrics

Generated from the declared metrics by `python -m exporter.reference.metrics`; do not edit. Sizes are bytes, times are seconds.
Values are those of the newest poll; an age is computed at the scrape. A value that could not be read is absent, and
`queuekeeper_collector_success` of its collector is 0; a reading older than three polls (at least a minute) is
withdrawn.
"""


def metrics_document() -> str:
    """The text of docs/metrics.md."""
    parts = [_HEAD, *(_metric_table(f"Collector `{collector.NAME}`", collector.METRICS) for collector in COLLECTORS)]
    parts.append(_metric_table("The exporter and its actions", self_metrics.METRICS))
    return "\n".join(parts)


def _metric_table(title: str, metrics: Iterable[Metric]) -> str:
    head = [f"## {title}", "", "| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *(_metric_row(metric) for metric in metrics), ""])


def _metric_row(metric: Metric) -> str:
    kind = "histogram" if metric.name in self_metrics.HISTOGRAMS else metric.kind
    labels = (("database",) if metric.of_database else ()) + metric.labels
    words = metric.help.replace("|", "\\|")
    return f"| `{metric.name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {words} |"


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit 1 when the document is not up to date.")
def main(check: bool) -> None:
    """Write docs/metrics.md, or check that it is up to date."""
    if not check:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(metrics_document(), "utf-8")
        return
    if not DOCUMENT.exists() or DOCUMENT.read_text("utf-8") != metrics_document():
        click.echo(f"{DOCUMENT} is not up to date; run: python -m exporter.reference.metrics", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
