"""`queuekeeper analyze DB` and `queuekeeper optimize DB`: statistics for SQLite's query planner."""

import sys
from pathlib import Path

import click

from actions.model.request import Request
from exporter.commands.common_options import DURATION, acting_options, database_options
from exporter.commands.database_argument import resolve_target
from exporter.commands.run_action import options_given, run_action

stall_option = click.option(
    "--stall",
    type=DURATION,
    metavar="2s",
    help="How long the write lock may be held at a time; limits.write_lock by default.",
)


@click.command()
@database_options
@click.option("--table", help="Only this table.")
@stall_option
@acting_options
def analyze(
    db: str,
    config_file: str | None,
    state: Path | None,
    table: str | None,
    stall: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Gather the query planner's statistics of all tables, in short write transactions while workers go on."""
    target = resolve_target(db, config_file, state)
    request = Request("analyze", target.name, options=options_given(table=table, stall=stall))
    sys.exit(run_action(target, request, dry_run=dry_run, as_json=as_json))


@click.command()
@database_options
@stall_option
@acting_options
def optimize(
    db: str, config_file: str | None, state: Path | None, stall: float | None, dry_run: bool, as_json: bool
) -> None:
    """Gather statistics only of the tables that SQLite itself says need it (PRAGMA optimize)."""
    target = resolve_target(db, config_file, state)
    request = Request("optimize", target.name, options=options_given(stall=stall))
    sys.exit(run_action(target, request, dry_run=dry_run, as_json=as_json))
