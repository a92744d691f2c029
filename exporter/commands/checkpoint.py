"""`queuekeeper checkpoint DB`: the action's command, with --owner-sqlite for the application's version."""

import sys
from dataclasses import replace
from pathlib import Path

import click

from actions.model.request import Option, Request
from actions.runner.catalogue import ACTION_SPECS
from exporter.commands.action_command import spec_help, spec_option_values, spec_options
from exporter.commands.common_options import SQLITE_VERSION, acting_options, database_options
from exporter.commands.database_argument import resolve_target
from exporter.commands.run_action import run_action

SPEC = ACTION_SPECS["checkpoint"]


@click.command(help=spec_help(SPEC))
@database_options
@spec_options(SPEC)
@click.option(
    "--owner-sqlite",
    type=SQLITE_VERSION,
    metavar="VERSION",
    help="The application's SQLite; 3.51.3 and newer are safe.",
)
@acting_options
def checkpoint(
    db: str,
    config_file: str | None,
    state: Path | None,
    owner_sqlite: str | None,
    dry_run: bool,
    as_json: bool,
    **given: Option,
) -> None:
    """Checkpoint, with the application's SQLite version where it is given."""
    target = resolve_target(db, config_file, state)
    if owner_sqlite is not None:
        target = replace(target, owner_sqlite=owner_sqlite)
    request = Request("checkpoint", target.name, options=spec_option_values(SPEC, given))
    sys.exit(run_action(target, request, dry_run=dry_run, as_json=as_json))
