"""`queuekeeper pause`, `resume` and `cancel` stop actions and let them start again.

The pause is stored in the history, so it survives restarts.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import apsw
import click

from actions.model.errors import Refused
from actions.model.outcome import EXIT_CODES, Outcome
from actions.model.requester import process_requester
from actions.runner.pause_and_cancel import cancel_run as cancel_run
from actions.runner.pause_and_cancel import pause_actions, wait_for_runs
from actions.store.database import StoreUnavailable, state_store
from actions.store.pause import clear_pause as end_pause
from actions.store.pause import pause_reason
from actions.store.runs import Run, load_run
from exporter.commands.common_options import DURATION, Command, json_option
from exporter.commands.database_argument import UsageProblem, resolve_history_scope
from exporter.text.run import run_line
from exporter.text.units import format_time

wait_option = click.option(
    "--wait",
    type=DURATION,
    default="1s",
    show_default=True,
    metavar="1s",
    help="The longest wait for running actions to reach a safe point.",
)


def _history_options(command: Command) -> Command:
    for decorate in (
        json_option,
        click.option("--state", type=click.Path(path_type=Path), help="The directory of the history."),
        click.option(
            "--config.file",
            "config_file",
            envvar="QUEUEKEEPER_CONFIG",
            type=click.Path(),
            help="The configuration, whose state directory has the history.",
        ),
    ):
        command = decorate(command)
    return command


@click.command()
@click.option("--reason", default="", help="Shown with every action that is refused because of the pause.")
@wait_option
@_history_options
def pause(reason: str, wait: float, config_file: str | None, state: Path | None, as_json: bool) -> None:
    """Stop every action, of the agent and of the command line, until `queuekeeper resume`.

    No action starts any more; running actions are told at once to stop at their next safe point.
    """
    who, now = process_requester(), time.time()
    why = f"by {who} at {format_time(now)}" + (f": {reason}" if reason else "")
    with _open_history(config_file, state) as store:
        before = pause_actions(store, why, who, now)
        settled = wait_for_runs(store, wait)
    if as_json:
        stopped, finishing = _run_summaries(settled.ended), _run_summaries(settled.finishing)
        click.echo(json.dumps({"paused": True, "why": before or why, "stopped": stopped, "finishing": finishing}))
        return
    if before is None:
        click.echo(f"actions are paused ({why}); resume with: queuekeeper resume")
    else:
        click.echo(f"actions were paused already ({before})")
    for run in settled.ended:
        click.echo(f"  ended: {run_line(run)}")
    for run in settled.finishing:
        click.echo(f"  still finishing: #{run.id} {run.database} {run.action}; it stops at its next safe point")


@click.command()
@_history_options
def resume(config_file: str | None, state: Path | None, as_json: bool) -> None:
    """Let actions start again, also those that are suspended because they did not help; pending runs start at once."""
    with _open_history(config_file, state) as store:
        before = pause_reason(store)
        lifted = end_pause(store, process_requester(), time.time())
    if as_json:
        click.echo(json.dumps({"paused": False, "why": "", "suspensions_lifted": lifted}))
    else:
        words = "actions were not paused" if before is None else f"actions may start again (they were paused {before})"
        click.echo(f"{words}; {lifted} suspensions are lifted" if lifted else words)


@click.command()
@click.argument("run_id", metavar="RUN", type=click.IntRange(1, 2**63 - 1))
@wait_option
@_history_options
def cancel(run_id: int, wait: float, config_file: str | None, state: Path | None, as_json: bool) -> None:
    """End run RUN (its number in `queuekeeper history`): at once while it is pending, otherwise at its next safe point."""
    with _open_history(config_file, state) as store:
        try:
            cancel_run(store, run_id, process_requester(), time.time())
        except KeyError:
            raise UsageProblem(f"there is no run {run_id}; `queuekeeper history` shows their numbers") from None
        except Refused as error:
            click.echo(f"refused: {error}; next: {error.next_step}", err=True)
            raise click.exceptions.Exit(EXIT_CODES[Outcome.REFUSED]) from error
        wait_for_runs(store, wait, only=run_id)
        run = load_run(store, run_id)
    ended = run.state == "ended"
    if as_json:
        click.echo(json.dumps({**_run_summaries((run,))[0], "ended": ended}))
    elif ended:
        click.echo(run_line(run))
    else:
        click.echo(f"run {run_id} ({run.database} {run.action}) is asked to stop at its next safe point")


@contextmanager
def _open_history(config_file: str | None, state: Path | None) -> Iterator[apsw.Connection]:
    _, directory = resolve_history_scope(None, config_file, state)
    try:
        with state_store(directory) as store:
            yield store
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from error


def _run_summaries(runs: Sequence[Run]) -> list[dict[str, object]]:
    return [
        {"run": run.id, "database": run.database, "action": run.action, "state": run.state, "outcome": run.outcome}
        for run in runs
    ]
