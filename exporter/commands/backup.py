"""`queuekeeper backup DB`: the action's command, with --to for the directory."""

import sys
from pathlib import Path

import click

from actions.model.request import Option, Request
from actions.runner.catalogue import ACTION_SPECS
from exporter.commands.action_command import spec_help, spec_option_values, spec_options
from exporter.commands.common_options import acting_options, database_options, with_backup_directory
from exporter.commands.database_argument import resolve_target
from exporter.commands.run_action import run_action

SPEC = ACTION_SPECS["backup"]


@click.command(help=spec_help(SPEC))
@database_options
@spec_options(SPEC)
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path),
    help="The directory for the backup file; no folder is made below it.",
)
@acting_options
def backup(
    db: str,
    config_file: str | None,
    state: Path | None,
    directory: Path | None,
    dry_run: bool,
    as_json: bool,
    **given: Option,
) -> None:
    """Take a backup into the configured directory, or into --to."""
    target = with_backup_directory(resolve_target(db, config_file, state), directory)
    request = Request("backup", target.name, options=spec_option_values(SPEC, given))
    sys.exit(run_action(target, request, dry_run=dry_run, as_json=as_json))
