"""`queuekeeper requeue DB`: gives tasks with an expired lease back to the queue."""

import sys
from pathlib import Path

import click

from actions.model.request import Request
from exporter.commands.common_options import DURATION, acting_options, database_options
from exporter.commands.database_argument import resolve_target
from exporter.commands.run_action import options_given, run_action


@click.command()
@database_options
@click.option("--older-than", type=DURATION, metavar="300s", help="Only leases that expired at least this long ago.")
@click.option("--limit", type=click.IntRange(min=1), help="At most this many tasks.")
@click.option("--workers-stopped", is_flag=True, help="You confirm that no worker is running.")
@acting_options
def requeue(
    db: str,
    config_file: str | None,
    state: Path | None,
    older_than: float | None,
    limit: int | None,
    workers_stopped: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Give tasks with an expired lease back to the queue, in short transactions."""
    target = resolve_target(db, config_file, state)
    options = options_given(older_than=older_than, limit=limit, workers_stopped=workers_stopped)
    sys.exit(run_action(target, Request("requeue", target.name, options=options), dry_run=dry_run, as_json=as_json))
