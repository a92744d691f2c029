"""Proves a backup: its checksum, its integrity, and that it holds what its manifest says the source held.

Runbook: docs/runbook.md#queuebackupneververified. Nothing appears beside the file.
"""

from dataclasses import replace
from pathlib import Path

from actions.backups.publish import MANIFEST_BYTES, write_private_file
from actions.backups.select import (
    SelectedBackup,
    load_backup,
    no_backup_error,
    prove_backup,
    require_same_source,
    select_newest_verified,
)
from actions.model.context import ActionContext
from actions.model.options import ActionOption
from actions.model.plan import Done, Plan
from actions.spec import ActionSpec
from actions.sqlite.disk_space import explain_full_disk
from collectors.backup_catalog.catalog import find_backups
from collectors.backup_catalog.manifest import encode_manifest, manifest_path

SPEC = ActionSpec(
    name="verify",
    summary="Prove a backup's content against its manifest; by default the newest one.",
    options={
        "backup": ActionOption("path", "The backup; the newest one by default.", by_person=True, positional=True),
    },
    lane="long",
    needs_database=False,
    backup_directory="required",
    checks_own_space=True,
    command_group="backups",
)


def plan(work: ActionContext) -> Plan:
    """Find the backup. Raises Refused, Unverified when it has no readable manifest."""
    chosen = _select_backup(work)
    return Plan(
        steps=(f"prove {chosen.path} against its manifest",),
        figures={"path": str(chosen.path), "bytes": chosen.path.stat().st_size},
    )


def run(work: ActionContext, plan: Plan) -> Done:
    """Raises Unverified. A success is written into the manifest as the time of the newest proof."""
    chosen = load_backup(Path(str(plan.figures["path"])))
    require_same_source(work, chosen)
    prove_backup(work, chosen)
    with explain_full_disk(chosen.path.parent, MANIFEST_BYTES, "the manifest"):
        write_private_file(
            manifest_path(chosen.path), encode_manifest(replace(chosen.manifest, verified_time=work.now()))
        )
    rows = sum(chosen.manifest.row_counts.values())
    return Done(
        f"{chosen.path.name} is proved", {"path": str(chosen.path), "bytes": chosen.manifest.bytes, "rows": rows}
    )


def _select_backup(work: ActionContext) -> SelectedBackup:
    """The one named; else the newest by its time, verified or not: what is newest must be good."""
    given = work.options.get("backup")
    if given is not None:
        return load_backup(Path(str(given)))
    select_newest_verified(work)  # for its refusal where no place is known
    found = max(find_backups(work.target), key=lambda backup: backup.path.stat().st_mtime, default=None)
    if found is None:
        raise no_backup_error(work)
    return load_backup(found.path)
