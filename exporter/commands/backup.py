"""`queuekeeper backup DB`."""

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
@click.option("--name", help="A word for the file's name: letters, digits, - and _.")
@click.option("--to", "directory", type=click.Path(path_type=Path), help="Where to; used as it is.")
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
    """Take a backup beside live writers, prove its content, publish it with its manifest."""
    target = with_backup_directory(resolve_target(db, config_file, state), directory)
    request = Request("backup", target.name, options=options_given(name=name))
    sys.exit(run_action(target, request, dry_run=dry_run, as_json=as_json))


def with_backup_directory(target: Target, directory: Path | None) -> Target:
    """The target, with its backups in a directory named on the command line, used as it is."""
    if directory is None:
        return target
    return replace(target, backup=BackupSettings(directory.absolute(), own_folder=False))


def with_existing_backup_directory(target: Target, directory: Path | None) -> Target:
    """The same, of a directory that must be there to be read. Raises UsageProblem."""
    if directory is not None and not directory.is_dir():
        raise UsageProblem(f"{directory} not found; --from names the directory where the backups are")
    return with_backup_directory(target, directory)
