"""Proves a backup: its checksum, its integrity, and that it holds what its manifest says its source held.

Runbook: docs/runbook.md#queuebackupneververified. Nothing appears beside the file.
"""

from actions.backups.proof_record import write_intact
from actions.backups.select import describe_unchecked, load_backup, no_backup_error, prove_backup, require_same_source
from actions.backups.store import MANIFEST_BYTES, SelectedBackup, open_store
from actions.model.context import ActionContext
from actions.model.options import ActionOption
from actions.model.plan import Done, Figure, Plan
from actions.spec import ActionSpec
from actions.sqlite.disk_space import explain_full_disk
from collectors.backup_catalog.catalog import Backup
from collectors.backup_catalog.manifest import belongs_to
from collectors.backup_catalog.order import is_future_time, order_newest_first

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
    writes_pages=False,
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
    """Prove the backup, and write what that shows into its manifest. Raises Unverified, Failed."""
    backup = load_backup(context, str(plan.figures["path"]))
    require_same_source(context, backup)
    prove_backup(context, backup)
    with explain_full_disk(backup.store.draft_directory, MANIFEST_BYTES, "the manifest"):
        write_intact(context, backup)
    figures: dict[str, Figure] = {
        "path": backup.reference,
        "bytes": backup.manifest.bytes,
        "rows": sum(backup.manifest.row_counts.values()),
        "unchecked": "; ".join(backup.manifest.unchecked),
    }
    return Done(f"{backup.name} is proved{describe_unchecked(backup.manifest)}", figures)


def _select_backup(context: ActionContext) -> SelectedBackup:
    """The one named; else the newest, verified or not: what is newest must be good."""
    given = context.options.get("backup")
    if given is not None:
        return load_backup(context, str(given))
    backups = open_store(context, "--from").list_backups().backups.values()
    own = [b for b in backups if b.manifest is None or belongs_to(b.manifest, context.target)]
    newest = _newest_written(order_newest_first(own, context.now()), context.now())
    if newest is None:
        raise no_backup_error(context)
    return load_backup(context, newest.reference)


def _newest_written(newest_first: list[Backup], now: float) -> Backup | None:
    """The newest; one whose manifest cannot be read has no place in the order, and comes before what is older than its file."""
    placed = next((backup for backup in newest_first if backup.manifest is not None), None)
    for backup in newest_first:
        is_newer = placed is None or backup.modified_time > placed.modified_time
        if backup.manifest is None and is_newer and not is_future_time(backup.modified_time, now):
            return backup
    return placed
