"""`queuekeeper integrity DB`: checks the database or its newest verified backup for damage."""

import sys
from pathlib import Path

import click

from actions.model.request import Request
from exporter.commands.backup import with_existing_backup_directory
from exporter.commands.common_options import DURATION, acting_options, database_options
from exporter.commands.database_argument import resolve_target
from exporter.commands.run_action import options_given, run_action


@click.command()
@database_options
@click.option("--full", is_flag=True, help="Also compare every index with its table: about ten times the work.")
@click.option("--on-backup", is_flag=True, help="Check the newest verified backup, even when the live file is small.")
@click.option("--from", "directory", type=click.Path(path_type=Path), help="Where the backups are.")
@click.option(
    "--longest-read", type=DURATION, metavar="10s", help="The longest that one read of the live file may last."
)
@acting_options
def integrity(
    db: str,
    config_file: str | None,
    state: Path | None,
    full: bool,
    on_backup: bool,
    directory: Path | None,
    longest_read: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Check DB for damage; when it is too large to be read while workers go on, check its newest verified backup.

    A failure is remembered until a --full check of the same target succeeds.
    """
    target = with_existing_backup_directory(resolve_target(db, config_file, state), directory)
    options = options_given(full=full, on_backup=on_backup, longest_read=longest_read)
    sys.exit(run_action(target, Request("integrity", target.name, options=options), dry_run=dry_run, as_json=as_json))
