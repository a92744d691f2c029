"""The directory of backups as an option of a command, in place of the configured one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from collectors.target import BackupSettings, Target
from exporter.commands.database_argument import UsageProblem

Command = Callable[..., Any]


def from_option(command: Command) -> Command:
    """Add --from to a command: where the backups are."""
    option = click.option("--from", "directory", type=click.Path(path_type=Path), help="Where the backups are.")
    decorated: Command = option(command)
    return decorated


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
