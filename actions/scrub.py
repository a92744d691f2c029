"""Reads all backups of a database again, as they are stored, and compares each with its manifest.

Runbook: docs/runbook.md#queuebackupdamaged. A proof of its making says what a backup was; only reading it again says what
it is. The result is written into each manifest: a damaged one counts as failed, and a prune relies on a recent scrub.
"""

import time
from collections import Counter
from contextlib import suppress

from actions.backups.store import BackupStore, SelectedBackup, open_store
from actions.backups.stored_bytes import CopyVerdict, check_stored_copy
from actions.model.context import ActionContext
from actions.model.errors import Failed, NothingToDo, Unverified
from actions.model.plan import Done, Figure, Plan
from actions.spec import ActionSpec
from collectors.backup_catalog.catalog import Backup
from collectors.backup_catalog.manifest import belongs_to
from collectors.backup_catalog.order import order_newest_first

SPEC = ActionSpec(
    name="scrub",
    summary="Read all backups again and compare each with its manifest; one that is damaged counts as failed from then on.",
    details="It reads gently and can be stopped at any time. Schedule it weekly: a prune relies on what it proved.",
    lane="long",
    needs_database=False,
    backup_directory="required",
    checks_own_space=True,
    writes_pages=False,
    heeds_content_loss="never",
    command_group="backups",
)


def plan(context: ActionContext) -> Plan:
    """List what is to be read. Raises Refused without a place, NothingToDo without a backup."""
    store = open_store(context, "--from")
    backups = _own_backups(context, store)
    if not backups:
        raise NothingToDo(f"there is no backup of {context.target.path} to read", reason="no_backup", next_step="")
    return Plan(
        steps=tuple(f"read {backup.name}" for backup in backups),
        figures={"copies": len(backups), "bytes": sum(backup.size for backup in backups), "directory": store.location},
    )


def run(context: ActionContext, plan: Plan) -> Done:  # noqa: ARG001 what lies there now is read
    """Read each copy. Raises Unverified when one is damaged, Failed when one could not be read; always after all."""
    store = open_store(context, "--from")
    with suppress(OSError):  # what killed runs left may stay where nothing can be removed: reading needs no room
        store.prepare_location()
    backups = _own_backups(context, store)
    started = time.monotonic()
    total, done = sum(backup.size for backup in backups), 0
    verdicts: list[CopyVerdict] = []
    context.emit_phase("scrub")
    for backup in backups:
        verdicts.append(_check_backup(context, store, backup))
        done += backup.size
        context.emit_progress("bytes read again", done, total)
    figures = _result_figures(verdicts, time.monotonic() - started)
    _require_all_intact(verdicts, figures)
    return Done(f"all {len(verdicts)} backups were read again and are intact", figures)


def _own_backups(context: ActionContext, store: BackupStore) -> list[Backup]:
    """The backups of this database, newest first. Another tool's have no manifest to be compared with."""
    listed = order_newest_first(store.list_backups().backups.values(), context.now())
    return [backup for backup in listed if _is_own(context, backup)]


def _is_own(context: ActionContext, backup: Backup) -> bool:
    if backup.manifest is None:
        return backup.state == "failed"
    return belongs_to(backup.manifest, context.target)


def _check_backup(context: ActionContext, store: BackupStore, backup: Backup) -> CopyVerdict:
    if backup.manifest is None:
        return CopyVerdict(backup.name, "damaged", backup.damage)
    return check_stored_copy(context, SelectedBackup(store, backup.reference, backup.manifest))


def _result_figures(verdicts: list[CopyVerdict], seconds: float) -> dict[str, Figure]:
    count = Counter(verdict.state for verdict in verdicts)
    return {
        "copies": len(verdicts),
        "intact": count["intact"],
        "damaged": count["damaged"],
        "unreadable": count["unreadable"],
        "not_recorded": sum(not verdict.recorded for verdict in verdicts),
        "bytes": sum(verdict.bytes_read for verdict in verdicts),
        "seconds": round(seconds, 4),
        "report": "; ".join(verdict.as_sentence() for verdict in verdicts),
    }


def _require_all_intact(verdicts: list[CopyVerdict], figures: dict[str, Figure]) -> None:
    """Raises Unverified, Failed."""
    damaged = [verdict.as_sentence() for verdict in verdicts if verdict.state == "damaged"]
    unreadable = [verdict.as_sentence() for verdict in verdicts if verdict.state == "unreadable"]
    if damaged:
        raise Unverified(
            f"{len(damaged)} of {len(verdicts)} backups are damaged: {'; '.join((*damaged, *unreadable))}",
            reason="damaged",
            next_step="take a new backup, check the disk they lie on; see docs/runbook.md#queuebackupdamaged",
            figures=figures,
        )
    if unreadable:
        raise Failed(
            f"{len(unreadable)} of {len(verdicts)} backups could not be read: {'; '.join(unreadable)}",
            reason="unreadable",
            next_step="mend what keeps them from being read (owner, mode, disk), then run it again",
            figures=figures,
        )
