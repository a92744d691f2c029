"""`queuekeeper restore [DB] [BACKUP] (--to PATH | --in-place)`: the action's command, which shows and asks first.

Without DB, or where DB is not on this host, the folder of backups (--from) tells what there is to restore to another path.
"""

import sys
from dataclasses import replace
from pathlib import Path

import click

from actions.model.request import Option, Request
from actions.runner.catalogue import ACTION_SPECS
from collectors.backup_catalog.store import is_described_backup
from collectors.target import Target
from exporter.commands.action_command import spec_help, spec_option_values, spec_options
from exporter.commands.common_options import (
    acting_options,
    from_option,
    optional_database_options,
    with_existing_backup_directory,
)
from exporter.commands.database_argument import UsageProblem, resolve_missing_target, resolve_new_target
from exporter.commands.run_action import plan_for_consent, run_action

SPEC = ACTION_SPECS["restore"]


@click.command(help=spec_help(SPEC))
@optional_database_options
@from_option
@spec_options(SPEC)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation before --in-place.")
@acting_options
def restore(
    db: str | None,
    config_file: str | None,
    state: Path | None,
    directory: Path | None,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    **given: Option,
) -> None:
    """Restore to another path, or in place after showing what would be lost."""
    in_place = bool(given["in_place"])
    if (given["to"] is None) == (not in_place):
        raise UsageProblem("say where to restore: either --to PATH or --in-place")
    db, directory = _sort_arguments(db, directory, given)
    target = with_existing_backup_directory(_resolve_restored(db, config_file, state, directory, given), directory)
    request = Request("restore", target.name, options=spec_option_values(SPEC, given))
    if in_place and not dry_run:
        request = _confirm_restore(target, request, yes=yes, as_json=as_json)
    sys.exit(run_action(target, request, dry_run=dry_run, as_json=as_json))


def _sort_arguments(db: str | None, directory: Path | None, given: dict[str, Option]) -> tuple[str | None, Path | None]:
    """(DB, folder of backups): a lone argument that is a backup with its manifest names the backup, whose folder is known."""
    if db is None or given["backup"] is not None or not is_described_backup(db):
        return db, directory
    given["backup"] = db
    return None, directory or Path(db).absolute().parent


def _resolve_restored(
    db: str | None, config_file: str | None, state: Path | None, directory: Path | None, given: dict[str, Option]
) -> Target:
    """The database that is restored. One that is not on this host has no place here but the new path. Raises UsageProblem."""
    if db is not None:
        try:
            return resolve_missing_target(db, config_file, state)
        except UsageProblem:
            if directory is None or given["to"] is None or Path(db).exists():
                raise
    if directory is None or given["to"] is None:
        raise UsageProblem("name the database, or give --from DIR (its backups) and --to PATH")
    given["source"] = given["source"] or db
    return resolve_new_target(str(given["to"]), state)


def _confirm_restore(target: Target, request: Request, *, yes: bool, as_json: bool) -> Request:
    """The confirmed request. It names the backup that was shown, in case a newer one appears before the run."""
    planned = plan_for_consent(target, request, as_json=as_json)
    if planned.figures.get("way") != "live":
        click.echo(f"restoring the copy of {planned.figures.get('source')}", err=True)
    for line in filter(None, str(planned.figures.get("passed_over") or "").split("; ")):
        click.echo(f"passed over: {line}", err=True)
    losses = str(planned.figures.get("lost") or "")
    for line in losses.split("; ") if losses else ():
        click.echo(f"would be lost: {line}", err=True)
    if planned.figures.get("way") == "live" and not yes and sys.stdin.isatty():
        click.confirm("Replace the content of the live database?", abort=True, err=True)
    return replace(request, options={**request.options, "backup": str(planned.figures["backup"])})
