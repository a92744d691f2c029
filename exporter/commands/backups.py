"""`queuekeeper backups ...`: what was kept, and whether it can be trusted."""

import sys
from pathlib import Path

import click

from actions.run.request import Request
from exporter.commands.backup import with_backups_in
from exporter.commands.database import resolve
from exporter.commands.door_options import acting_options, database_options
from exporter.commands.run_action import options_given, run_action


@click.group()
def backups() -> None:
    """Look at the backups of a database."""


@backups.command()
@database_options
@click.argument("backup_file", metavar="[BACKUP]", required=False)
@click.option("--from", "directory", type=click.Path(path_type=Path), help="Where the backups are.")
@acting_options
def verify(
    db: str,
    config_file: str | None,
    state: Path | None,
    backup_file: str | None,
    directory: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Prove a backup's content against its manifest; by default the newest one."""
    target = with_backups_in(resolve(db, config_file, state), directory)
    request = Request("verify", target.name, options=options_given(backup=backup_file))
    sys.exit(run_action(target, request, dry_run=dry_run, as_json=as_json))
