"""The options that every command takes that goes through the door."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

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
