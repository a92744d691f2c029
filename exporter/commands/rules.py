"""`queuekeeper rules render`: alert rules with your own bounds."""

import click

from exporter.alert_rules.catalogue import JOB, groups
from exporter.alert_rules.render import operator, prometheus
from exporter.alert_rules.thresholds import changed

_FORMATS = {"prometheus": prometheus, "operator": operator}


@click.group()
def rules() -> None:
    """Alert rules for Prometheus, from the same table as the example configuration and the dashboards."""


@rules.command()
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another bound, like wal=512MiB; may be repeated. docs/alerts.md lists the names.",
)
@click.option("--job", default=JOB, show_default=True, help="What your Prometheus calls the agents.")
@click.option(
    "--format",
    "style",
    type=click.Choice(list(_FORMATS)),
    default="prometheus",
    show_default=True,
    help="A rule file, or a PrometheusRule for the operator.",
)
def render(thresholds: tuple[str, ...], job: str, style: str) -> None:
    """Print the alert rules. Check them with: promtool check rules FILE"""
    try:
        bounds = changed(thresholds)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if not job or set(job) & set("\"'\\{}\n"):
        raise click.UsageError(f"{job!r} is no job name; it must not be empty or hold quotes, braces or backslashes")
    click.echo(_FORMATS[style](groups(bounds, job)), nl=False)
