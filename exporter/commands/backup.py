"""`queuekeeper backup DB`: takes a backup; and the options that say where backups are."""

import sys
from dataclasses import replace
from pathlib import Path

import click

from actions.model.request import Request
from collectors.target import BackupSettings, Target
from exporter.commands.common_options import acting_options, database_options
from exporter.commands.database_argument import UsageProblem, resolve_target
from exporter.commands.run_action import options_given, run_action


@click.command()
@database_options
@click.option("--name", help="A word that becomes part of the file name: letters, digits, - and _.")
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
    name: str | None,
    directory: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take a backup while writers go on, verify its content, publish it with its manifest."""
    target = with_backup_directory(resolve_target(db, config_file, state), directory)
    request = Request("backup", target.name, options=options_given(name=name))
    sys.exit(run_action(target, request, dry_run=dry_run, as_json=as_json))


def with_backup_directory(target: Target, directory: Path | None) -> Target:
    """The target with its backups directly in this directory; unchanged when `directory` is None."""
    if directory is None:
        return target
    return replace(target, backup=BackupSettings(directory.absolute(), own_folder=False))


def with_existing_backup_directory(target: Target, directory: Path | None) -> Target:
    """Like `with_backup_directory`, for reading: the directory must exist. Raises UsageProblem."""
    if directory is not None and not directory.is_dir():
        raise UsageProblem(f"{directory} not found; --from names the directory where the backups are")
    return with_backup_directory(target, directory)
