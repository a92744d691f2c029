"""Where a restore writes, and whether it can: checked when it is planned, so that a dry run promises what the run can do.

The places may lie on one file system, so their needs are added there, phase by phase.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from actions.backups.publish import make_scratch_folder
from actions.backups.store import BackupStore, SelectedBackup, open_folder_store, open_store
from actions.backups.take import backup_bytes_needed
from actions.backups.writable import require_existing_folder, require_writable_file, require_writable_folder
from actions.model.context import ActionContext
from actions.sqlite.disk_space import require_free_space
from collectors.access.file_facts import nearest_existing_directory

RestoreWay = Literal["to", "live", "missing", "malformed"]


@dataclass(frozen=True, slots=True)
class SpaceNeed:
    """Bytes that a phase needs in a directory."""

    directory: Path
    needed: int


def destination_path(context: ActionContext, way: RestoreWay) -> Path:
    """What the restored file is called in the end."""
    return Path(str(context.options["to"])).absolute() if way == "to" else context.target.path


def copy_directory(context: ActionContext, way: RestoreWay) -> Path:
    """Where the private copy is made: in the directory of its final name; never beside a live database."""
    return make_scratch_folder(context) if way == "live" else destination_path(context, way).parent


def safety_store(context: ActionContext, backup: SelectedBackup) -> BackupStore:
    """Where the safety copy goes: the folder that was named for it, else the store of the database.

    Without either the one that this backup lies in; never the directory of the live database.
    """
    folder = context.options.get("safety_to")
    if folder is not None:
        return open_folder_store(context, Path(str(folder)))
    return backup.store if context.target.backup is None else open_store(context, "--from")


def require_places(context: ActionContext, backup: SelectedBackup, way: RestoreWay) -> None:
    """Raises Refused where a directory is missing or cannot be written, or where a disk lacks space."""
    destination = destination_path(context, way)
    require_existing_folder(destination.parent, str(destination))
    require_writable_folder(copy_directory(context, way), "the private copy")
    if way == "live":
        require_writable_file(context.target.path, "the restored content")
        safety_store(context, backup).require_writable("the safety copy", "name another folder: --safety-to DIR")
    _require_space(context, backup, way)


def _require_space(context: ActionContext, backup: SelectedBackup, way: RestoreWay) -> None:
    """Raises Refused when a disk lacks space: a live database's WAL takes the restored pages, its store the safety copy."""
    reserve, plain, place = context.target.limits.disk_reserve, backup.plain_bytes, copy_directory(context, way)
    _require_together([SpaceNeed(place, 2 * plain)], reserve)
    if way != "live":
        return
    store, beside = safety_store(context, backup), context.target.path.parent
    safety = backup_bytes_needed(context)
    store.require_space(safety, reserve, "the safety backup")
    safety_folder = nearest_existing_directory(Path(store.location))
    _require_together([SpaceNeed(place, plain), SpaceNeed(safety_folder, safety)], reserve)
    _require_together([SpaceNeed(place, plain), SpaceNeed(safety_folder, safety), SpaceNeed(beside, plain)], reserve)


def _require_together(needs: Iterable[SpaceNeed], reserve: int) -> None:
    """Raises Refused unless all of them fit at the same time, each file system counted once."""
    by_device: dict[int, list[SpaceNeed]] = defaultdict(list)
    for need in needs:
        by_device[os.stat(need.directory).st_dev].append(need)  # noqa: PTH116
    for here in by_device.values():
        require_free_space(here[-1].directory, sum(need.needed for need in here), reserve, "the restore")
