"""`queuekeeper history [DB]`: prints the recorded runs."""

import json
from pathlib import Path

import click

from actions.store.database import StoreUnavailable, history_file
from actions.store.database import state_store as open_store
from actions.store.runs import Run, newest_runs
from exporter.commands.database_argument import resolve_history_scope
from exporter.text.run import run_fields, run_line


@click.command()
@click.argument("db", required=False)
@click.option(
    "--config.file",
    "config_file",
    envvar="QUEUEKEEPER_CONFIG",
    type=click.Path(),
    help="The configuration, whose state directory has the history.",
)
@click.option("--state", type=click.Path(path_type=Path), help="The directory of the history.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most this many runs.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array, newest first.")
def history(db: str | None, config_file: str | None, state: Path | None, limit: int, as_json: bool) -> None:
    """Print why each action ran, what it did, and whether it helped; newest last."""
    name, directory = resolve_history_scope(db, config_file, state)
    runs = _read_runs(directory, name, limit)
    if as_json:
        click.echo(json.dumps([run_fields(run) for run in runs], indent=2))
        return
    if not runs:
        click.echo(f"no runs yet{f' of {name}' if name else ''} in {directory}")
    for run in reversed(runs):
        click.echo(run_line(run))


def _read_runs(directory: Path, name: str | None, limit: int) -> list[Run]:
    if not history_file(directory).exists():
        return []
    try:
        with open_store(directory) as store:
            return newest_runs(store, name, limit)
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from error
