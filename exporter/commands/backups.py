"""`queuekeeper backups list|verify|prune|drill DB`: which backups exist, and whether they can be restored."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from actions.model.request import Request
from collectors.backup_catalog.catalog import Backup
from collectors.backup_catalog.store import backup_location, find_backups
from collectors.target import Target
from exporter.commands.backup import with_existing_backup_directory
from exporter.commands.common_options import acting_options, database_options
from exporter.commands.database_argument import UsageProblem, resolve_missing_target
from exporter.commands.run_action import options_given, run_action
from exporter.text.units import format_size, format_time

Command = Callable[..., Any]


@click.group()
def backups() -> None:
    """List, verify, prune and drill the backups of a database."""


def backup_options(command: Command) -> Command:
    """Add DB and --from to a command."""
    where = click.option("--from", "directory", type=click.Path(path_type=Path), help="Where the backups are.")
    return database_options(where(command))


@backups.command("list")
@backup_options
@click.option("--json", "as_json", is_flag=True, help="A JSON array, newest first.")
def list_backups(db: str, config_file: str | None, state: Path | None, directory: Path | None, as_json: bool) -> None:
    """List the backups of DB, newest first, and say which of them are verified."""
    target = _resolve_backup_target(db, config_file, state, directory)
    if target.backup is None:
        raise UsageProblem("no backup directory is known; give --from DIR, or backup.directory in the configuration")
    rows = sorted(find_backups(target), key=lambda backup: backup.snapshot_time, reverse=True)
    if as_json:
        click.echo(json.dumps([_backup_fields(backup) for backup in rows], indent=2))
        return
    if not rows:
        click.echo(f"no backups in {backup_location(target)}")
    for backup in rows:
        kind = "" if backup.manifest is None else f" {backup.manifest.kind}"
        click.echo(
            f"{format_time(backup.snapshot_time)} {backup.state:10} {format_size(backup.size):>10}{kind} {backup.reference}"
        )


@backups.command()
@backup_options
@click.argument("backup_file", metavar="[BACKUP]", required=False)
@acting_options
def verify(
    db: str,
    config_file: str | None,
    state: Path | None,
    directory: Path | None,
    backup_file: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Verify a backup's content against its manifest; by default the newest one."""
    chosen = None if backup_file is None else str(Path(backup_file).absolute())
    _run_backup_action(
        _resolve_backup_target(db, config_file, state, directory), "verify", dry_run, as_json, backup=chosen
    )


@backups.command()
@backup_options
@click.option("--keep-last", type=click.IntRange(min=1), help="Keep the newest N, instead of the configured rules.")
@acting_options
def prune(
    db: str,
    config_file: str | None,
    state: Path | None,
    directory: Path | None,
    keep_last: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete the backups that no retention rule keeps; never the newest verified backup."""
    _run_backup_action(
        _resolve_backup_target(db, config_file, state, directory), "prune", dry_run, as_json, keep_last=keep_last
    )


@backups.command()
@backup_options
@acting_options
def drill(
    db: str, config_file: str | None, state: Path | None, directory: Path | None, dry_run: bool, as_json: bool
) -> None:
    """Restore the newest verified backup to a temporary file, check the queue in it, measure its duration and its age."""
    _run_backup_action(_resolve_backup_target(db, config_file, state, directory), "drill", dry_run, as_json)


def _resolve_backup_target(db: str, config_file: str | None, state: Path | None, directory: Path | None) -> Target:
    return with_existing_backup_directory(resolve_missing_target(db, config_file, state), directory)


def _run_backup_action(target: Target, action: str, dry_run: bool, as_json: bool, **options: str | int | None) -> None:
    request = Request(action, target.name, options=options_given(**options))
    sys.exit(run_action(target, request, dry_run=dry_run, as_json=as_json))


def _backup_fields(backup: Backup) -> dict[str, object]:
    manifest = backup.manifest
    return {
        "path": backup.reference,
        "state": backup.state,
        "bytes": backup.size,
        "snapshot_time": backup.snapshot_time,
        "kind": None if manifest is None else manifest.kind,
        "verified_time": None if manifest is None else manifest.verified_time,
        "source": None if manifest is None else manifest.source.path,
        "rows": None if manifest is None else sum(manifest.row_counts.values()),
    }
