"""Proves a backup: its checksum, its integrity, and that it holds what its manifest says its source held.

Runbook: docs/runbook.md#queuebackupneververified. Nothing appears beside the file.
"""

from dataclasses import replace

from actions.backups.select import load_backup, no_backup_error, prove_backup, require_same_source
from actions.backups.store import MANIFEST_BYTES, SelectedBackup, open_store
from actions.model.context import ActionContext
from actions.model.options import ActionOption
from actions.model.plan import Done, Plan
from actions.spec import ActionSpec
from actions.sqlite.disk_space import explain_full_disk

SPEC = ActionSpec(
    name="verify",
    summary="Verify a backup's content against its manifest; by default the newest one.",
    options={
        "backup": ActionOption("path", "The backup; the newest one by default.", by_person=True, positional=True),
    },
    lane="long",
    needs_database=False,
    backup_directory="required",
    checks_own_space=True,
    command_group="backups",
    heeds_content_loss="never",
)


def plan(context: ActionContext) -> Plan:
    """Select the backup. Raises Refused, Unverified when it has no readable manifest."""
    backup = _select_backup(context)
    return Plan(
        steps=(f"prove {backup.reference} against its manifest",),
        figures={"path": backup.reference, "bytes": backup.store.stored_size(backup.reference)},
    )


def run(context: ActionContext, plan: Plan) -> Done:
    """Prove the backup; a success is written into its manifest as the time of the newest proof. Raises Unverified."""
    backup = load_backup(context, str(plan.figures["path"]))
    require_same_source(context, backup)
    prove_backup(context, backup)
    with explain_full_disk(backup.store.draft_directory, MANIFEST_BYTES, "the manifest"):
        backup.store.write_manifest(backup.reference, replace(backup.manifest, verified_time=context.now()))
    rows = sum(backup.manifest.row_counts.values())
    return Done(f"{backup.name} is proved", {"path": backup.reference, "bytes": backup.manifest.bytes, "rows": rows})


def _select_backup(context: ActionContext) -> SelectedBackup:
    """The one named; else the newest by its time, verified or not: what is newest must be good."""
    given = context.options.get("backup")
    if given is not None:
        return load_backup(context, str(given))
    backups = open_store(context, "--from").list_backups().backups.values()
    newest = max(backups, key=lambda backup: backup.modified_time, default=None)
    if newest is None:
        raise no_backup_error(context)
    return load_backup(context, newest.reference)
