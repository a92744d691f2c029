"""`queuekeeper vacuum DB`: gives free pages back to the disk."""

import sys
from pathlib import Path

import click

from actions.model.request import Request
from exporter.commands.common_options import DURATION, acting_options, database_options
from exporter.commands.database_argument import resolve_target
from exporter.commands.run_action import options_given, run_action


@click.command()
@database_options
@click.option("--incremental", is_flag=True, help="Only incremental_vacuum in short transactions, never a full VACUUM.")
@click.option(
    "--free-for",
    type=DURATION,
    metavar="24h",
    help="Count only pages that have been free for this long; 0s counts all.",
)
@click.option(
    "--rowids-unused",
    is_flag=True,
    help="You confirm that no program uses the rowids of tables without INTEGER PRIMARY KEY.",
)
@acting_options
def vacuum(
    db: str,
    config_file: str | None,
    state: Path | None,
    incremental: bool,
    free_for: float | None,
    rowids_unused: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Give free pages back to the disk, in the way that disturbs the application least.

    A full VACUUM stops every writer until it is done: --dry-run prints for how long, and how much space it gives back.
    """
    target = resolve_target(db, config_file, state)
    options = options_given(incremental=incremental, free_for=free_for, rowids_unused=rowids_unused)
    sys.exit(run_action(target, Request("vacuum", target.name, options=options), dry_run=dry_run, as_json=as_json))
