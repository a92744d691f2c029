"""The options that every command takes that goes through the door."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from exporter.config.sizes import parse_duration

Command = Callable[..., Any]


config_file_option = click.option(
    "--config.file",
    "config_file",
    envvar="QUEUEKEEPER_CONFIG",
    type=click.Path(path_type=Path),
    required=True,
    help="The configuration; `queuekeeper config example` prints one.",
)


def database_options(command: Command) -> Command:
    """DB, --config.file, --state: which database, and where our history of it lives."""
    for decorate in (
        click.option("--state", type=click.Path(path_type=Path), help="Where our history lives, for a bare path."),
        click.option(
            "--config.file",
            "config_file",
            envvar="QUEUEKEEPER_CONFIG",
            type=click.Path(),
            help="Makes DB a configured name.",
        ),
        click.argument("db"),
    ):
        command = decorate(command)
    return command


def acting_options(command: Command) -> Command:
    """--dry-run and --json, for what changes something."""
    for decorate in (
        click.option(
            "--json", "as_json", is_flag=True, help="One JSON object with documented fields (docs/commands.md)."
        ),
        click.option("--dry-run", is_flag=True, help="Print the plan and change nothing."),
    ):
        command = decorate(command)
    return command


class DurationParam(click.ParamType[float]):
    """A time on the command line: `300s`, `5m`, `26h`, `7d`; 0 needs no unit."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        try:
            return 0.0 if value == "0" else parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = DurationParam()


class SqliteVersionParam(click.ParamType[str]):
    """Three numbers, as `SELECT sqlite_version()` of the application says them."""

    name = "version"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text itself."""
        if not re.fullmatch(r"\d+\.\d+\.\d+", str(value)):
            self.fail(f"{value!r} is not a version; write three numbers, like 3.51.3", param, ctx)
        return str(value)


SQLITE_VERSION = SqliteVersionParam()
