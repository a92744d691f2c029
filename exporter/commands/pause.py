"""`queuekeeper pause` and `resume`: the kill switch. It lives in our history, so it survives restarts."""

import getpass
import json
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import click

from actions.history.settings import pause as set_pause
from actions.history.settings import paused
from actions.history.settings import resume as end_pause
from actions.history.store import StoreUnavailable, history
from exporter.commands.database import resolve_history
from exporter.commands.door_options import Command
from exporter.units import moment


def _options(command: Command) -> Command:
    for decorate in (
        click.option("--json", "as_json", is_flag=True, help="One JSON object: paused, why."),
        click.option("--state", type=click.Path(path_type=Path), help="Where the history lives."),
        click.option(
            "--config.file", "config_file", envvar="QUEUEKEEPER_CONFIG", type=click.Path(), help="Whose history."
        ),
    ):
        command = decorate(command)
    return command


@click.command()
@click.option("--reason", default="", help="Said wherever something is refused because of it.")
@_options
def pause(reason: str, config_file: str | None, state: Path | None, as_json: bool) -> None:
    """Stop every action from starting, of the agent and of the command line, until `queuekeeper resume`."""
    why = f"by {getpass.getuser()} at {moment(time.time())}" + (f": {reason}" if reason else "")

    def change(store: apsw.Connection) -> str:
        if (before := paused(store)) is not None:
            return f"actions were paused already ({before})"
        set_pause(store, why)
        return f"actions are paused ({why}); what runs already goes on to its end; resume with: queuekeeper resume"

    _change(config_file, state, change, as_json)


@click.command()
@_options
def resume(config_file: str | None, state: Path | None, as_json: bool) -> None:
    """Let actions start again, those too that were suspended because they did not help; what waits starts at once."""

    def change(store: apsw.Connection) -> str:
        before = paused(store)
        lifted = end_pause(store)
        words = "actions were not paused" if before is None else f"actions may start again (they were paused {before})"
        return f"{words}; {lifted} suspensions are lifted" if lifted else words

    _change(config_file, state, change, as_json)


def _change(
    config_file: str | None, state: Path | None, change: Callable[[apsw.Connection], str], as_json: bool
) -> None:
    _, directory = resolve_history(None, config_file, state)
    try:
        with history(directory) as store:
            words = change(store)
            why = paused(store)
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps({"paused": why is not None, "why": why or ""}) if as_json else words)
