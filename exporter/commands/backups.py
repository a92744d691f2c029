"""`queuekeeper backups list|verify|scrub|prune|drill DB`: which backups exist, and whether they can be restored.

Only the list is written here: the actions of this group have commands that are built from their specs.
"""

import json
import time
from pathlib import Path

import click

from collectors.backup_catalog.catalog import Backup
from collectors.backup_catalog.order import is_future_time, order_newest_first
from collectors.backup_catalog.partial_names import find_leftovers, leftovers_cure
from collectors.backup_catalog.store import backup_location, find_backups
from collectors.target import Target
from exporter.commands.common_options import database_options, from_option, with_existing_backup_directory
from exporter.commands.database_argument import UsageProblem, resolve_missing_target
from exporter.commands.lazy_commands import LazyCommands
from exporter.text.units import format_size, format_time


@click.group(commands=LazyCommands({}, group="backups"))
def backups() -> None:
    """List, verify, scrub, prune and drill the backups of a database."""


@backups.command("list")
@database_options
@from_option
@click.option("--json", "as_json", is_flag=True, help="A JSON array, newest first.")
def list_backups(db: str, config_file: str | None, state: Path | None, directory: Path | None, as_json: bool) -> None:
    """List the backups of DB, newest first, and say which of them are verified."""
    target = with_existing_backup_directory(resolve_missing_target(db, config_file, state), directory)
    if target.backup is None:
        raise UsageProblem("no backup directory is known; give --from DIR, or backup.directory in the configuration")
    now = time.time()
    listed = order_newest_first(find_backups(target), now)
    _print_leftovers(target)
    if as_json:
        click.echo(json.dumps([_backup_fields(backup, now) for backup in listed], indent=2))
        return
    if not listed:
        click.echo(f"no backups in {backup_location(target)}")
    for backup in listed:
        click.echo(_backup_line(backup, now))


def _print_leftovers(target: Target) -> None:
    """Name each partial file of another host on the error output: only a person knows whether it is still written."""
    location = backup_location(target)
    leftovers = find_leftovers(target, (Path(location),) if location else ())
    for leftover in leftovers:
        size, written = format_size(leftover.size), format_time(leftover.written_at)
        click.echo(f"left by host {leftover.host}, {size}, last written {written}: {leftover.path}", err=True)
    if leftovers:
        click.echo(leftovers_cure(target), err=True)


def _backup_line(backup: Backup, now: float) -> str:
    kind = "" if backup.manifest is None else f" {backup.manifest.kind}"
    ahead = "; its time is in the future: a clock was wrong" if is_future_time(backup.snapshot_time, now) else ""
    damage = f"; {backup.damage}" if backup.damage else ""
    when, size = format_time(backup.snapshot_time), format_size(backup.size)
    return f"{when} {backup.state:10} {size:>10}{kind} {backup.reference}{ahead}{damage}{_content_remark(backup)}"


def _content_remark(backup: Backup) -> str:
    """What of its content is missing, or cannot be checked here."""
    manifest = backup.manifest
    if manifest is None:
        return ""
    lost = f"; the database had lost most of its content: {manifest.content_lost}" if manifest.content_lost else ""
    unchecked = f"; only the application can check: {', '.join(manifest.unchecked)}" if manifest.unchecked else ""
    return lost + unchecked


def _backup_fields(backup: Backup, now: float) -> dict[str, object]:
    manifest = backup.manifest
    return {
        "path": backup.reference,
        "state": backup.state,
        "bytes": backup.size,
        "sequence": None if manifest is None else manifest.sequence,
        "snapshot_time": backup.snapshot_time,
        "time_in_future": is_future_time(backup.snapshot_time, now),
        "kind": None if manifest is None else manifest.kind,
        "verified_time": None if manifest is None else manifest.verified_time,
        "damage": backup.damage,
        "damaged_time": None if manifest is None else manifest.damaged_time,
        "content_lost": "" if manifest is None else manifest.content_lost,
        "unchecked": [] if manifest is None else list(manifest.unchecked),
        "source": None if manifest is None else manifest.source.path,
        "rows": None if manifest is None else sum(manifest.row_counts.values()),
    }
