"""Takes a backup beside live writers, proves its content, and publishes it with its manifest.

Runbook: docs/runbook.md#queuebackuptooold. A backup counts from its snapshot, not from its end, and only once proved.
"""

import re
import time
from collections.abc import Mapping
from pathlib import Path

from actions.backups.publish import backup_file_name, remove_orphaned_partials
from actions.backups.take import PublishedBackup, backup_bytes_needed, create_backup_folder, take_backup
from actions.model.context import ActionContext
from actions.model.errors import Refused
from actions.model.options import ActionOption
from actions.model.plan import Done, Figure, Plan
from actions.spec import ActionSpec
from actions.sqlite.disk_space import database_bytes, nearest_existing_directory, require_free_space
from actions.sqlite.journal import uses_rollback_journal
from collectors.target import BackupSettings

SPEC = ActionSpec(
    name="backup",
    summary="Take a backup beside live writers, prove its content, publish it with its manifest.",
    options={
        "name": ActionOption("text", "A word for the file's name: letters, digits, - and _."),
        "stall": ActionOption(
            "seconds", "The stall of the application that the operator accepts.", on_command_line=False
        ),
    },
    lane="long",
    backup_directory="required",
    checks_own_space=True,
)

# Bytes copied per second beside a writer, for predicting only; what was measured is in the result.
COPY_RATE = 300e6


def plan(work: ActionContext) -> Plan:
    """Check the place and the room. Raises Refused."""
    place = _require_backup_place(work)
    label = _file_label(work)
    size = database_bytes(work)
    rollback = uses_rollback_journal(work)
    folder = place.database_folder(work.target.name)
    require_free_space(
        nearest_existing_directory(folder), backup_bytes_needed(work), work.target.limits.disk_reserve, "the copy"
    )
    stall = size / COPY_RATE if rollback else 0.0
    if work.automatic and stall > work.target.limits.read_rollback:
        _require_accepted_stall(work, stall)
    return Plan(
        steps=(
            f"copy {size} bytes of {work.target.path} to {folder}",
            "prove the copy",
            "publish it with its manifest",
        ),
        figures={"bytes": size, "directory": str(folder), "label": label, "rollback_journal": rollback},
        stall=stall,
    )


def run(work: ActionContext, plan: Plan) -> Done:
    """Copy, prove, publish. Nothing is left under a final name unless it was proved."""
    folder = Path(str(plan.figures["directory"]))
    create_backup_folder(folder)
    removed = remove_orphaned_partials(folder)
    started = time.monotonic()
    name = backup_file_name(work.target.name, str(plan.figures["label"]), work.now())
    taken = take_backup(work, folder, name, kind="scheduled" if work.automatic else "manual")
    return Done(f"backed up to {taken.path}", _result_figures(taken, time.monotonic() - started, len(removed)))


def _require_backup_place(work: ActionContext) -> BackupSettings:
    if work.target.backup is None:
        raise Refused(
            "no backup directory is known",
            reason="no_directory",
            next_step="give --to DIR, or backup.directory in the configuration",
        )
    return work.target.backup


def _file_label(work: ActionContext) -> str:
    label = str(work.options.get("name") or "")
    if label and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", label):
        raise Refused(
            f"the name {label!r} cannot be part of a file name", reason="name", next_step="use letters, digits, - and _"
        )
    return label


def _require_accepted_stall(work: ActionContext, stall: float) -> None:
    if work.numeric_option("stall", 0.0) < stall:
        raise Refused(
            f"in rollback-journal mode every commit waits for the copy, about {stall:.2f} s",
            reason="stall",
            next_step="run it by hand at a quiet time, or switch the application to journal_mode=WAL",
        )


def _result_figures(taken: PublishedBackup, seconds: float, removed: int) -> Mapping[str, Figure]:
    copied, manifest = taken.copied, taken.manifest
    return {
        "path": str(taken.path),
        "method": copied.method,
        "note": copied.note,
        "bytes": manifest.bytes,
        "pages": manifest.pages,
        "rows": sum(manifest.row_counts.values()),
        "restarts": copied.restarts,
        "wal_growth_bytes": copied.wal_growth,
        "copy_seconds": round(copied.copy_seconds, 4),
        "prove_seconds": round(copied.prove_seconds, 4),
        "sync_seconds": round(taken.sync_seconds, 4),
        "hash_seconds": round(taken.hash_seconds, 4),
        "seconds": round(seconds, 4),
        "leftovers_removed": removed,
    }
