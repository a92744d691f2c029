"""`queuekeeper rules render`: prints the alert rules, with your own thresholds."""

import click

from exporter.alert_rules.catalogue import JOB, alert_groups
from exporter.alert_rules.render import render_operator_resource, render_rule_file
from exporter.alert_rules.thresholds import override_thresholds

_RENDERERS = {"prometheus": render_rule_file, "operator": render_operator_resource}


@click.group()
def rules() -> None:
    """Alert rules for Prometheus, from the same table as the example configuration and the dashboards."""


@rules.command()
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another value, like wal=512MiB; may be repeated. docs/alerts.md lists the names.",
)
@click.option("--job", default=JOB, show_default=True, help="The job name of the agents in your Prometheus.")
@click.option(
    "--format",
    "style",
    type=click.Choice(list(_RENDERERS)),
    default="prometheus",
    show_default=True,
    help="A rule file, or a PrometheusRule for the operator.",
)
def render(thresholds: tuple[str, ...], job: str, style: str) -> None:
    """Print the alert rules. Check them with: promtool check rules FILE"""
    try:
        bounds = override_thresholds(thresholds)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if not job or set(job) & set("\"'\\{}\n"):
        raise click.UsageError(f"{job!r} is no job name; it must not be empty or hold quotes, braces or backslashes")
    click.echo(_RENDERERS[style](alert_groups(bounds, job)), nl=False)
