"""Builds the command of an action from its spec, so that a new action or option appears on the command line by itself.

An action that needs more than its spec says has a hand-made command in a file of its own; it takes the help and the
options of the spec from here.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from actions.model.options import ActionOption
from actions.model.request import Option, Request
from actions.spec import ActionSpec
from collectors.target import Target
from exporter.commands.common_options import (
    DURATION,
    acting_options,
    database_options,
    from_option,
    with_existing_backup_directory,
)
from exporter.commands.database_argument import resolve_missing_target, resolve_target
from exporter.commands.run_action import options_given, run_action

Command = Callable[..., Any]


def build_action_command(spec: ActionSpec) -> click.Command:
    """The command of this action: its options, --dry-run, --json and, where it uses backups, --from."""

    def run_command(
        db: str,
        config_file: str | None,
        state: Path | None,
        dry_run: bool,
        as_json: bool,
        directory: Path | None = None,
        **given: Option,
    ) -> None:
        target = _resolve(spec, db, config_file, state, directory)
        request = Request(spec.name, target.name, options=spec_option_values(spec, given))
        sys.exit(run_action(target, request, dry_run=dry_run, as_json=as_json))

    with_options = spec_options(spec)(acting_options(run_command))
    if spec.backup_directory != "unused":
        with_options = from_option(with_options)
    return click.command(spec.name, help=spec_help(spec))(database_options(with_options))


def spec_help(spec: ActionSpec) -> str:
    """The help of its command."""
    return "\n\n".join(filter(None, (spec.summary, spec.details)))


def spec_options(spec: ActionSpec) -> Callable[[Command], Command]:
    """Decorates a command with the options of the spec, in their order."""

    def decorate(command: Command) -> Command:
        for name, option in reversed(list(spec.options.items())):
            if option.on_command_line:
                command = _decorator(name, option)(command)
        return command

    return decorate


def spec_option_values(spec: ActionSpec, given: dict[str, Option]) -> dict[str, Option]:
    """The options of a request from what click parsed: without those left out, paths made absolute."""
    values = {name: given[name] for name, option in spec.options.items() if option.on_command_line}
    for name, option in spec.options.items():
        if option.kind == "path" and values.get(name) is not None:
            values[name] = str(Path(str(values[name])).absolute())
    return dict(options_given(**values))


def _decorator(name: str, option: ActionOption) -> Callable[[Command], Command]:
    if option.positional:
        return click.argument(name, metavar=f"[{name.upper()}]", required=False)
    return click.option(f"--{name.replace('_', '-')}", name, help=option.help, **_click_settings(option))


def _click_settings(option: ActionOption) -> dict[str, Any]:
    match option.kind:
        case "flag":
            return {"is_flag": True}
        case "count":
            return {"type": click.IntRange(min=1)}
        case "seconds":
            return {"type": DURATION, "metavar": option.example or None}
        case "word":
            default = {"default": option.default, "show_default": True} if option.default else {}
            return {"type": click.Choice(option.words), **default}
        case "path":
            return {"type": click.Path()}
    return {}


def _resolve(spec: ActionSpec, db: str, config_file: str | None, state: Path | None, directory: Path | None) -> Target:
    target = (resolve_target if spec.needs_database else resolve_missing_target)(db, config_file, state)
    return with_existing_backup_directory(target, directory)
