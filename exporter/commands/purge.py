"""`queuekeeper purge DB`: deletes old finished tasks."""

import sys
from pathlib import Path

import click

from actions.model.request import Request
from exporter.commands.common_options import DURATION, acting_options, database_options
from exporter.commands.database_argument import resolve_target
from exporter.commands.run_action import options_given, run_action


@click.command()
@database_options
@click.option("--older-than", type=DURATION, metavar="7d", help="Only tasks that ended at least this long ago.")
@click.option("--limit", type=click.IntRange(min=1), help="At most this many tasks.")
@click.option(
    "--free-idempotency-keys",
    is_flag=True,
    help="Also delete tasks with an idempotency key, which then may be used again.",
)
@click.option("--workers-stopped", is_flag=True, help="You confirm that no worker is running.")
@acting_options
def purge(
    db: str,
    config_file: str | None,
    state: Path | None,
    older_than: float | None,
    limit: int | None,
    free_idempotency_keys: bool,
    workers_stopped: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete finished tasks that are old enough, in short transactions."""
    target = resolve_target(db, config_file, state)
    options = options_given(
        older_than=older_than,
        limit=limit,
        free_idempotency_keys=free_idempotency_keys,
        workers_stopped=workers_stopped,
    )
    sys.exit(run_action(target, Request("purge", target.name, options=options), dry_run=dry_run, as_json=as_json))
