"""`queuekeeper checkpoint DB`: copies the write-ahead log back into the database."""

import sys
from dataclasses import replace
from pathlib import Path

import click

from actions.model.request import Request
from exporter.commands.common_options import SQLITE_VERSION, acting_options, database_options
from exporter.commands.database_argument import resolve_target
from exporter.commands.run_action import options_given, run_action

MODES = ("auto", "passive", "full", "restart", "truncate")


@click.command()
@database_options
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="auto",
    show_default=True,
    help="The kind of checkpoint; auto chooses by the state of the log.",
)
@click.option(
    "--owner-sqlite",
    type=SQLITE_VERSION,
    metavar="VERSION",
    help="The application's SQLite; 3.51.3 and newer are safe.",
)
@acting_options
def checkpoint(
    db: str,
    config_file: str | None,
    state: Path | None,
    mode: str,
    owner_sqlite: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Copy the write-ahead log back into the database.

    Unless the application's SQLite is known to be free of the WAL-reset bug, only `auto` and `truncate` are allowed.
    """
    target = resolve_target(db, config_file, state)
    if owner_sqlite is not None:
        target = replace(target, owner_sqlite=owner_sqlite)
    request = Request("checkpoint", target.name, options=options_given(mode=mode))
    sys.exit(run_action(target, request, dry_run=dry_run, as_json=as_json))
