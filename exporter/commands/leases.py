"""`queuekeeper leases DB`: the tasks that a requeue would give back, and their holders."""

import sys
from pathlib import Path

import click

from actions.model.request import Request
from exporter.commands.common_options import database_options, json_option
from exporter.commands.database_argument import resolve_target
from exporter.commands.run_action import run_action


@click.command()
@database_options
@json_option
def leases(db: str, config_file: str | None, state: Path | None, as_json: bool) -> None:
    """Show the tasks of DB with an expired lease, their holders and since when. Changes nothing: it is requeue's dry run."""
    target = resolve_target(db, config_file, state)
    sys.exit(run_action(target, Request("requeue", target.name), dry_run=True, as_json=as_json))
