"""Runs one action for the person at the terminal, with the same runner as the agent: a child, the lock, the history."""

import json
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from actions.model.events import Event
from actions.model.outcome import EXIT_CODES, Outcome
from actions.model.request import Option, Request
from actions.runner.manual import plan_only, run_manually
from actions.runner.spawn import RunningAction
from actions.store.database import StoreUnavailable, default_state_directory
from actions.store.runs import Run
from collectors.target import Target
from exporter.commands.terminal import escape_control_characters, unwrap_terminal
from exporter.text.run import requester_in_words
from exporter.text.units import figures_in_words


def run_action(target: Target, request: Request, *, dry_run: bool, as_json: bool) -> int:
    """Run the action, or only plan it; print the result and return the exit code of its outcome."""
    state = target.state or default_state_directory()

    def follow(child: RunningAction) -> list[Event]:
        return _follow_child(child, quiet=as_json)

    # The result is printed outside of the context: an error of a terminal that is gone is no error of the run.
    if dry_run:
        with _errors_as_one_line():
            planned = plan_only(target, state, request, follow)
        return _print_plan(planned, as_json)
    with _errors_as_one_line():
        ended = run_manually(target, state, request, follow)
    return _print_result(ended, as_json)


def plan_for_consent(target: Target, request: Request, *, as_json: bool) -> Event:
    """The plan that a person confirms before the run. When there is none, print why and exit."""
    with _errors_as_one_line():
        events = plan_only(target, target.state or default_state_directory(), request)
    planned = next((event for event in events if event.kind == "planned"), None)
    if planned is None:
        sys.exit(_print_plan(events, as_json))
    return planned


@contextmanager
def _errors_as_one_line() -> Iterator[None]:
    try:
        yield
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"no process could be started: {error}; nothing was done") from error


def options_given(**options: Option) -> Mapping[str, Option]:
    """The options that were given, without those that are None or False."""
    return {name: value for name, value in options.items() if value is not None and value is not False}


def _follow_child(child: RunningAction, *, quiet: bool) -> list[Event]:
    """Collect the child's events and show its progress; Ctrl-C tells it to stop at its next safe point."""
    events: list[Event] = []

    def request_stop(_signal: int, _frame: FrameType | None) -> None:
        child.stop()

    # Imported here: it is a fifth of what the command line imports, and the agent never draws a bar.
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    before = signal.signal(signal.SIGINT, request_stop)
    try:
        console = Console(file=unwrap_terminal(sys.stderr), markup=False, emoji=False)
        with Progress(console=console, transient=True, disable=quiet or not sys.stderr.isatty()) as bars:
            bar = bars.add_task("", total=None)
            for event in child.read_events():
                events.append(event)
                if event.kind == "progress":
                    bars.update(
                        bar, description=escape(escape_control_characters(event.message)), **_progress_amounts(event)
                    )
        _, last_line = child.wait_for_exit()
        if last_line:
            click.echo(last_line, err=True)
    finally:
        signal.signal(signal.SIGINT, before)
    return events


def _progress_amounts(event: Event) -> dict[str, Any]:
    return {"completed": event.figures.get("done"), "total": event.figures.get("total")}


def _print_plan(events: list[Event], as_json: bool) -> int:
    ended = next((event for event in reversed(events) if event.kind == "ended"), None)
    if ended is None:
        raise click.ClickException("the plan could not be made; run it again, and report it if it fails again")
    outcome = Outcome(str(ended.figures["outcome"]))
    if as_json:
        click.echo(json.dumps({"dry_run": True, "message": ended.message, **ended.figures}, indent=2))
    else:
        failed = EXIT_CODES[outcome] != 0
        words = f"{outcome}: {ended.message}" if failed else ended.message
        click.echo(_with_next_step(words, ended.figures.get("next_step")), err=failed)
        for line in figures_in_words({k: v for k, v in ended.figures.items() if k not in ("outcome", "next_step")}):
            click.echo(f"  {line}")
    return EXIT_CODES[outcome]


def _print_result(ended: Run, as_json: bool) -> int:
    outcome = Outcome(ended.outcome or Outcome.INTERRUPTED)
    if as_json:
        click.echo(json.dumps(_result_fields(ended), indent=2))
    else:
        words = _with_next_step(f"{outcome}: {ended.message}", ended.next_step)
        click.echo(words, err=EXIT_CODES[outcome] != 0)
        for line in figures_in_words(ended.figures):
            click.echo(f"  {line}")
    return EXIT_CODES[outcome]


def _with_next_step(words: str, next_step: object) -> str:
    """The words and the next step in one line: output is mailed, logged and searched by lines."""
    return f"{words}; next: {next_step}" if next_step else words


def _result_fields(ended: Run) -> dict[str, object]:
    return {
        "run": ended.id,
        "database": ended.database,
        "action": ended.action,
        "outcome": ended.outcome,
        "reason": ended.reason,
        "message": ended.message,
        "next_step": ended.next_step,
        "plan": list(ended.plan.steps) if ended.plan else [],
        "figures": dict(ended.figures),
        "requested_by": requester_in_words(ended),
        "record_hash": ended.record_hash,
        "seconds": ended.seconds,
    }
