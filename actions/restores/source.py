"""Chooses the backup that is restored: of this database, or of one that is not here, whose folder of backups is.

On a new host, or at a new path, no manifest names the database that is asked for. A folder that a person names (`--from`)
then counts as it is: with backups of one database that one is taken, of several it must be said which. To another path that
is safe; in the place of a missing database only the backup that a person names is.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePath

from actions.backups.select import first_intact, load_backup, no_backup_error, prove_backup, select_verified
from actions.backups.store import SelectedBackup, open_store_of
from actions.model.context import ActionContext
from actions.model.errors import Refused, Unverified
from collectors.backup_catalog.catalog import Backup
from collectors.backup_catalog.manifest import belongs_to
from collectors.backup_catalog.names import MANIFEST_SUFFIX
from collectors.backup_catalog.order import verified_newest_first
from collectors.backup_catalog.store import backup_location, find_described_backups

SHOWN_SOURCES = 8


def select_restorable(context: ActionContext, way: str) -> tuple[SelectedBackup, tuple[str, ...]]:
    """The backup, proved now, and what is wrong with the newer ones that were passed over.

    It is the one that was named, else the newest intact one of this database, else of the only database in the folder.
    Raises ActionError.
    """
    given = context.options.get("backup")
    if given is not None:
        backup = load_backup(context, str(given))
        require_restorable_source(context, backup, way)
        prove_backup(context, backup)
        return backup, ()
    own = [] if context.options.get("source") else select_verified(context)
    candidates = own or _select_elsewhere(context)
    if not candidates:
        raise _empty_folder_error(context) or no_backup_error(context)
    return first_intact(context, candidates)


def is_of_other_database(context: ActionContext, backup: SelectedBackup) -> bool:
    """Whether it is a backup of a database of another path or name than the one that is asked for."""
    return not belongs_to(backup.manifest, context.target)


def require_restorable_source(context: ActionContext, backup: SelectedBackup, way: str) -> None:
    """Raises Unverified for another database's backup, unless nothing is there that it could replace."""
    if not is_of_other_database(context, backup):
        return
    path = context.target.path
    if way == "to" and (not path.exists() or context.options.get("source")):
        return
    if way == "missing":
        return
    way_out = f"queuekeeper restore --from {PurePath(backup.reference).parent} --source {backup.manifest.source.path} --to PATH"
    raise Unverified(
        f"{backup.name} is a backup of {backup.manifest.source.path}, not of {path}",
        reason="foreign_source",
        next_step=f"name the right database or the right backup; to a new path: {way_out}; in place of {path}: move that "
        f"away, then queuekeeper restore {path} {backup.reference} --in-place",
    )


def describe_source(context: ActionContext, backup: SelectedBackup) -> str:
    """Whose copy it is, as a part of a sentence; empty when it is the database's own."""
    return f", a backup of {backup.manifest.source.path}" if is_of_other_database(context, backup) else ""


def _select_elsewhere(context: ActionContext) -> list[SelectedBackup]:
    """The verified backups, newest first, of the one database whose backups are in the folder that was named."""
    settings, location = context.target.backup, backup_location(context.target)
    if settings is None or settings.own_folder or location is None:
        return []
    sources = _find_sources(location, context.now())
    names = _candidate_sources(context, sources, location)
    if len(names) > 1:
        raise _source_error(location, sources, f"has verified backups of {len(names)} databases")
    selected = [
        SelectedBackup(open_store_of(context, backup.reference), backup.reference, backup.manifest)
        for backup in (sources[names[0]] if names else ())
        if backup.manifest is not None
    ]
    if selected:
        _require_choice_in_place(context, selected[0])
    return selected


def _candidate_sources(context: ActionContext, sources: Mapping[str, list[Backup]], location: str) -> tuple[str, ...]:
    """The databases that can be meant: the one that was named, the target's own, or those in the place of a missing one."""
    wanted = context.options.get("source")
    if wanted is not None:
        names = _matching_sources(sources, str(wanted))
        if not names:
            raise _source_error(location, sources, f"has no verified backup of {wanted}")
        return names
    path = context.target.path
    own = tuple(name for name, backups in sources.items() if _is_of_target(context, backups[0]))
    if own or path.exists():
        return own
    is_named = str(path) != str(context.options.get("to"))
    return (_matching_sources(sources, str(path)) if is_named else ()) or tuple(sources)


def _empty_folder_error(context: ActionContext) -> Refused | None:
    """The error where no database was named, so that none can be backed up; None where one was."""
    location = backup_location(context.target)
    if location is None or str(context.target.path) != str(context.options.get("to")):
        return None
    return Refused(
        f"{location} has no verified backup of any database",
        reason="no_backup",
        next_step=f"name the folder of the backups with --from; each backup needs its {MANIFEST_SUFFIX} beside it",
    )


def _require_choice_in_place(context: ActionContext, backup: SelectedBackup) -> None:
    """Raises Refused where another database's copy would become the database itself: a person must have named it."""
    named = context.options.get("to") is not None or context.options.get("source") is not None
    if not named and is_of_other_database(context, backup):
        path = context.target.path
        raise Refused(
            f"there is no verified backup of {path}; the newest there is of {backup.manifest.source.path}",
            reason="foreign_source",
            next_step=f"when that is the right one, name it: queuekeeper restore {path} {backup.reference} --in-place",
        )


def _find_sources(location: str, now: float) -> Mapping[str, list[Backup]]:
    """The verified backups of each database, newest first, by the path in its manifest."""
    backups: dict[str, list[Backup]] = defaultdict(list)
    for backup in find_described_backups(location):
        if backup.manifest is not None:
            backups[backup.manifest.source.path].append(backup)
    ordered = {source: verified_newest_first(each, now) for source, each in sorted(backups.items())}
    return {source: each for source, each in ordered.items() if each}


def _matching_sources(sources: Mapping[str, list[Backup]], wanted: str) -> tuple[str, ...]:
    """The databases of this path; else those of this name, or of a file of this name."""
    if wanted in sources:
        return (wanted,)
    name = PurePath(wanted).name
    return tuple(source for source, backups in sources.items() if name in _source_names(source, backups[0]))


def _is_of_target(context: ActionContext, backup: Backup) -> bool:
    return backup.manifest is not None and belongs_to(backup.manifest, context.target)


def _source_names(source: str, backup: Backup) -> set[str]:
    configured = "" if backup.manifest is None else backup.manifest.source.database
    return {PurePath(source).name, PurePath(source).stem, configured, PurePath(configured).name} - {""}


def _source_error(location: str, sources: Mapping[str, list[Backup]], what: str) -> Refused:
    shown = ", ".join(list(sources)[:SHOWN_SOURCES]) or "none"
    more = ", ..." if len(sources) > SHOWN_SOURCES else ""
    return Refused(
        f"{location} {what}; there are: {shown}{more}",
        reason="several_sources" if sources else "no_backup",
        next_step="say which with --source PATH, or name the BACKUP itself",
    )
