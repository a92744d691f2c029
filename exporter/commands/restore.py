"""`queuekeeper restore DB [BACKUP] (--to PATH | --in-place)`: restores a backup."""

import sys
from dataclasses import replace
from pathlib import Path

import click

from actions.model.request import Request
from collectors.target import Target
from exporter.commands.backup import with_existing_backup_directory
from exporter.commands.common_options import acting_options, database_options
from exporter.commands.database_argument import UsageProblem, resolve_missing_target
from exporter.commands.run_action import options_given, plan_for_consent, run_action


@click.command()
@database_options
@click.argument("backup_file", metavar="[BACKUP]", required=False)
@click.option("--from", "directory", type=click.Path(path_type=Path), help="Where the backups are.")
@click.option("--to", type=click.Path(path_type=Path), help="Restore to this path, where no file may exist.")
@click.option("--in-place", is_flag=True, help="Replace the content of the database itself.")
@click.option("--application-stopped", is_flag=True, help="You confirm that no application has the database open.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation before --in-place.")
@acting_options
def restore(
    db: str,
    config_file: str | None,
    state: Path | None,
    backup_file: str | None,
    directory: Path | None,
    to: Path | None,
    in_place: bool,
    application_stopped: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Restore a backup; by default the newest verified one, never a safety copy.

    With --in-place the losses are printed first, and on a terminal you must confirm.
    """
    if (to is None) == (not in_place):
        raise UsageProblem("say where to restore: either --to PATH or --in-place")
    target = with_existing_backup_directory(resolve_missing_target(db, config_file, state), directory)
    options = options_given(
        backup=None if backup_file is None else str(Path(backup_file).absolute()),
        to=None if to is None else str(to.absolute()),
        in_place=in_place,
        application_stopped=application_stopped,
    )
    request = Request("restore", target.name, options=options)
    if in_place and not dry_run:
        request = _confirm_restore(target, request, yes=yes, as_json=as_json)
    sys.exit(run_action(target, request, dry_run=dry_run, as_json=as_json))


def _confirm_restore(target: Target, request: Request, *, yes: bool, as_json: bool) -> Request:
    """The confirmed request. It names the backup that was shown, in case a newer one appears before the run."""
    planned = plan_for_consent(target, request, as_json=as_json)
    lost = str(planned.figures.get("lost") or "")
    for line in lost.split("; ") if lost else ():
        click.echo(f"would be lost: {line}", err=True)
    if planned.figures.get("way") == "live" and not yes and sys.stdin.isatty():
        click.confirm("Replace the content of the live database?", abort=True, err=True)
    return replace(request, options={**request.options, "backup": str(planned.figures["backup"])})
