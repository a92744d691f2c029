"""`queuekeeper history [DB]`: prints the recorded runs, and verifies that they are as they were recorded."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import apsw
import click

from actions.store.chain import ChainEntry, newest_pauses
from actions.store.chain_check import ChainReport, verify_chain
from actions.store.database import StoreUnavailable, history_file, translate_store_errors
from actions.store.database import state_store as open_store
from actions.store.runs import Run, count_runs, newest_runs
from exporter.commands.database_argument import UsageProblem, resolve_history_scope
from exporter.text.chain import pause_fields, pause_line, report_fields, report_lines
from exporter.text.run import run_fields, run_line

Result = TypeVar("Result")


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
@click.option("--pauses", is_flag=True, help="Print who paused and resumed all actions, instead of runs.")
@click.option(
    "--verify",
    is_flag=True,
    help="Verify that no run was changed, deleted or inserted since queuekeeper recorded it; exit 1 when one was.",
)
@click.option(
    "--head", metavar="HASH", help="With --verify: a hash printed or logged before, which must be in the chain."
)
@click.option("--json", "as_json", is_flag=True, help="A JSON array, newest first; with --verify an object.")
def history(
    db: str | None,
    config_file: str | None,
    state: Path | None,
    limit: int,
    pauses: bool,
    verify: bool,
    head: str | None,
    as_json: bool,
) -> None:
    """Print who or what requested each action, what it did, and whether it helped; newest last."""
    name, directory = resolve_history_scope(db, config_file, state)
    if head is not None and not verify:
        raise UsageProblem("--head is for --verify; give both")
    if verify:
        _verify_history(directory, name, _checked_head(head), as_json)
    elif pauses:
        _print_pauses(directory, limit, as_json)
    else:
        _print_runs(directory, name, limit, as_json)


def _print_runs(directory: Path, name: str | None, limit: int, as_json: bool) -> None:
    runs: Sequence[Run] = _read_history(directory, lambda store: newest_runs(store, name, limit), ())
    if as_json:
        click.echo(json.dumps([run_fields(run) for run in runs], indent=2))
        return
    if not runs:
        click.echo(f"no runs yet{f' of {name}' if name else ''} in {directory}")
    for run in reversed(runs):
        click.echo(run_line(run))


def _print_pauses(directory: Path, limit: int, as_json: bool) -> None:
    entries: Sequence[ChainEntry] = _read_history(directory, lambda store: newest_pauses(store, limit), ())
    if as_json:
        click.echo(json.dumps([pause_fields(entry) for entry in entries], indent=2))
        return
    if not entries:
        click.echo(f"actions were never paused, as {directory} says")
    for entry in reversed(entries):
        click.echo(pause_line(entry))


def _verify_history(directory: Path, name: str | None, head: str, as_json: bool) -> None:
    """Print whether the history is whole. The chain is one for all databases, so all of it is verified for any of them."""
    report = _read_history(directory, lambda store: verify_chain(store, head), ChainReport.of_no_history(head))
    if as_json:
        click.echo(json.dumps(report_fields(report), indent=2))
    else:
        own = None if name is None else _read_history(directory, lambda store: count_runs(store, name), 0)
        for line in report_lines(report, own):
            click.echo(line, err=bool(report.faults))
    if report.faults:
        raise click.exceptions.Exit(1)


def _checked_head(head: str | None) -> str:
    if head and not re.fullmatch("[0-9a-f]{64}", head.lower()):
        raise UsageProblem(
            "--head takes the 64 hexadecimal digits of a hash, as `queuekeeper history --verify` prints them"
        )
    return (head or "").lower()


def _read_history(directory: Path, read: Callable[[apsw.Connection], Result], without_history: Result) -> Result:
    if not history_file(directory).exists():
        return without_history
    try:
        with open_store(directory) as store, translate_store_errors(directory):
            return read(store)
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from error
