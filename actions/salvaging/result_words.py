"""Says what a salvage found and what a person does next: figures and steps for the terminal, history and JSON."""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from actions.model.context import ActionContext
from actions.model.plan import Figure
from actions.salvaging.private_copy import CopyFacts
from actions.salvaging.rebuild import Rebuilt
from actions.salvaging.table_report import richer_in_backup
from collectors.backup_catalog.catalog import Backup
from collectors.backup_catalog.names import reference_name
from collectors.backup_catalog.order import newest_verified
from collectors.backup_catalog.store import backup_location, find_backups


def describe_result(context: ActionContext, destination: Path, rebuilt: Rebuilt, facts: CopyFacts) -> dict[str, Figure]:
    """The figures of a salvage: totals, a line for each table, the newest backup beside it, the next steps. Raises OSError."""
    backup = _find_newest_backup(context)
    lost_is_exact = not rebuilt.schema_broken and all(table.exact for table in rebuilt.tables)
    figures: dict[str, Figure] = {
        "to": str(destination),
        "rows_kept": sum(table.rows for table in rebuilt.tables),
        "rows_lost": sum(table.missing for table in rebuilt.tables),
        "rows_lost_is": "counted" if lost_is_exact else "estimated",
        "rows_apart": rebuilt.apart,
    }
    in_backup = {} if backup is None or backup.manifest is None else backup.manifest.row_counts
    for table in rebuilt.tables:
        figures[f"table {table.name}"] = replace(table, in_backup=in_backup.get(table.name)).in_words()
    if rebuilt.apart:
        figures["apart"] = (
            f"{rebuilt.apart} rows are in {rebuilt.apart_table}, {rebuilt.free_rows} of them from free pages (deleted rows)"
        )
    notes = [*rebuilt.damage, *rebuilt.problems, *_copy_notes(facts)]
    if notes:
        figures["notes"] = "; ".join(notes)
    figures.update(_compare_backup(rebuilt, backup))
    steps = _next_steps(context, destination, rebuilt, backup)
    figures.update({f"step {number}": step for number, step in enumerate(steps, 1)})
    return figures


def backup_step(context: ActionContext) -> str:
    """How the newest verified backup is put in the place of the damaged database."""
    place = backup_location(context.target)
    directory = "" if place is None else f" --from {shlex.quote(place)}"
    path = shlex.quote(str(context.target.path))
    return f"restore the newest verified backup: queuekeeper restore {path}{directory} --in-place"


def _find_newest_backup(context: ActionContext) -> Backup | None:
    """The newest verified backup; None where there is none or the store cannot be read: the salvage itself is done."""
    try:
        return newest_verified(find_backups(context.target), context.now())
    except OSError:
        return None


def _copy_notes(facts: CopyFacts) -> Iterator[str]:
    if facts.changed:
        yield "a process wrote to the database while it was copied: rows of two moments may be mixed; stop it and salvage again"
    if facts.unreadable:
        yield f"the disk did not give {facts.unreadable} bytes: replace it"


def _compare_backup(rebuilt: Rebuilt, backup: Backup | None) -> dict[str, Figure]:
    if backup is None or backup.manifest is None:
        return {"newest_backup": "no verified backup is known here; --from DIR names where backups are"}
    more = richer_in_backup(rebuilt.tables, backup.manifest.row_counts)
    words = ", ".join(f"{name}: {rows} rows" for name, rows in more.items())
    return {"newest_backup": reference_name(backup.reference), "backup_has_more_of": words or "no table"}


def _next_steps(context: ActionContext, destination: Path, rebuilt: Rebuilt, backup: Backup | None) -> Iterator[str]:
    path = context.target.path
    source, new, aside = (shlex.quote(str(each)) for each in (path, destination, f"{path}.damaged"))
    model = shlex.quote(f"{path}.damaged/{path.name}")
    yield f"check it: queuekeeper integrity {new}; SQLite's check has passed, the values are for you to judge"
    if rebuilt.apart:
        yield f"look into the table {rebuilt.apart_table}: what you miss may be there, its values in c0, c1, ..."
    yield "stop the application: every process that has the database open"
    if backup is not None:  # without that word a damaged file that can be opened is not moved aside
        restore = f"{backup_step(context)} --application-stopped"
        yield f"compare with the newest backup; where that is the better one, {restore}, and stop here"
    yield f"move the damaged files aside and keep them: mkdir {aside} && mv {' '.join(_existing_files(path))} {aside}/"
    owner = f"chown --reference={model} {source} && chmod --reference={model} {source}"
    yield f"put the new file there: mv {new} {source} && {owner}"
    yield f"start the application, then queuekeeper backup {source}; find out what damaged the file (disk, cable, memory)"


def _existing_files(path: Path) -> Iterator[str]:
    for suffix in ("", "-wal", "-shm", "-journal"):
        if path.with_name(path.name + suffix).exists():
            yield shlex.quote(f"{path}{suffix}")
