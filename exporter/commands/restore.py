"""`queuekeeper restore DB [BACKUP] (--to PATH | --in-place)`."""

import sys
from pathlib import Path

import click

from actions.run.request import Request
from exporter.commands.backup import with_backups_in
from exporter.commands.database import UsageProblem, resolve_missing
from exporter.commands.door_options import acting_options, database_options
from exporter.commands.run_action import options_given, run_action, warnings_of


@click.command()
@database_options
@click.argument("backup_file", metavar="[BACKUP]", required=False)
@click.option("--from", "directory", type=click.Path(path_type=Path), help="Where the backups are.")
@click.option("--to", type=click.Path(path_type=Path), help="Restore to this path; nothing may be there.")
@click.option("--in-place", is_flag=True, help="Replace the content of the database itself.")
@click.option("--application-stopped", is_flag=True, help="Your word that no application has the database open.")
@click.option("--yes", is_flag=True, help="Do not ask before --in-place.")
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
    """Bring a backup back; by default the newest verified one, never a safety copy.

    With --in-place, what would be lost is printed first, and a terminal is asked.
    """
    if (to is None) == (not in_place):
        raise UsageProblem("say where to restore: either --to PATH or --in-place")
    target = with_backups_in(resolve_missing(db, config_file, state), directory)
    options = options_given(
        backup=None if backup_file is None else str(Path(backup_file).absolute()),
        to=None if to is None else str(to.absolute()),
        in_place=in_place,
        application_stopped=application_stopped,
    )
    request = Request("restore", target.name, options=options)
    if in_place and not dry_run:
        _show_losses(warnings_of(target, request), yes=yes)
    sys.exit(run_action(target, request, dry_run=dry_run, as_json=as_json))


def _show_losses(lost: tuple[str, ...], *, yes: bool) -> None:
    for line in lost:
        click.echo(f"would be lost: {line}", err=True)
    if lost and not yes and sys.stdin.isatty():
        click.confirm("Replace the content of the live database?", abort=True, err=True)
