"""Arguments, options and option types that several commands share."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from collectors.target import BackupSettings, Target
from exporter.commands.database_argument import UsageProblem
from exporter.config.sizes import parse_duration

Command = Callable[..., Any]

json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object with documented fields (docs/commands.md)."
)
config_file_option = click.option(
    "--config.file",
    "config_file",
    envvar="QUEUEKEEPER_CONFIG",
    type=click.Path(path_type=Path),
    required=True,
    help="The configuration; `queuekeeper config example` prints one.",
)


def database_options(command: Command) -> Command:
    """Add DB, --config.file and --state: the database, and the directory of its history."""
    return _add_database_options(command, click.argument("db"))


def optional_database_options(command: Command) -> Command:
    """The same, with a DB that may be left out."""
    return _add_database_options(command, click.argument("db", required=False))


def _add_database_options(command: Command, argument: Callable[[Command], Command]) -> Command:
    for decorate in (
        click.option(
            "--state", type=click.Path(path_type=Path), help="The directory of the history, when DB is a path."
        ),
        click.option(
            "--config.file",
            "config_file",
            envvar="QUEUEKEEPER_CONFIG",
            type=click.Path(),
            help="The configuration; DB may then be a configured name.",
        ),
        argument,
    ):
        command = decorate(command)
    return command


def acting_options(command: Command) -> Command:
    """Add --dry-run and --json to a command that runs an action."""
    for decorate in (
        json_option,
        click.option("--dry-run", is_flag=True, help="Print the plan and change nothing."),
    ):
        command = decorate(command)
    return command


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


class DurationParam(click.ParamType[float]):
    """A duration on the command line: `300s`, `5m`, `26h`, `7d`; 0 needs no unit."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The duration in seconds. Fails as click does when the text is no duration."""
        try:
            return 0.0 if value == "0" else parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = DurationParam()


class SqliteVersionParam(click.ParamType[str]):
    """A version of SQLite: three numbers, as the application's `SELECT sqlite_version()` returns them."""

    name = "version"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The version as it was given. Fails as click does when it is not three numbers."""
        if not re.fullmatch(r"\d+\.\d+\.\d+", str(value)):
            self.fail(f"{value!r} is not a version; write three numbers, like 3.51.3", param, ctx)
        return str(value)


SQLITE_VERSION = SqliteVersionParam()
