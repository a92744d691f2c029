"""Restores the newest verified backup into scratch, checks the queue in it, and measures: the proof that restoring works.

Measured are the time it takes (RTO) and the age of what would be lost (RPO). The live database is not touched.
Runbook: docs/runbook.md#procedure-restore-drill.
"""

import time
from dataclasses import replace
from pathlib import Path

import apsw

from actions.backups.publish import create_partial_file, make_scratch_folder, remove_orphaned_partials, sync_file
from actions.backups.queue_check import check_queue_rows
from actions.backups.select import (
    describe_unchecked,
    load_backup,
    no_backup_error,
    open_plain_backup,
    prove_backup,
    require_same_source,
    select_newest_verified,
)
from actions.model.context import ActionContext
from actions.model.errors import Unverified
from actions.model.plan import Done, Plan
from actions.spec import ActionSpec
from actions.sqlite.disk_space import explain_full_disk, require_free_space
from collectors.backup_catalog.names import plain_name
from collectors.poll import poll_database

SPEC = ActionSpec(
    name="drill",
    summary="Restore the newest verified backup to a temporary file, check the queue in it, measure its duration and its age.",
    lane="long",
    needs_database=False,
    backup_directory="required",
    checks_own_space=True,
    command_group="backups",
    writes_pages=False,
    heeds_content_loss="never",
)

_BLOCK = 16 * 1024 * 1024


def plan(context: ActionContext) -> Plan:
    """Select the backup and check the free space. Raises Refused."""
    backup = select_newest_verified(context)
    if backup is None:
        raise no_backup_error(context)
    scratch = make_scratch_folder(context)
    require_free_space(scratch, backup.plain_bytes, context.target.limits.disk_reserve, "the restored copy")
    return Plan(
        steps=(f"restore {backup.name} into {scratch}", "check it as a queue", "remove it"),
        figures={"path": backup.reference, "bytes": backup.plain_bytes},
    )


def run(context: ActionContext, plan: Plan) -> Done:
    """Restore, check and measure. Raises Unverified when what was restored is not a healthy queue."""
    backup = load_backup(context, str(plan.figures["path"]))
    require_same_source(context, backup)
    scratch = make_scratch_folder(context)
    remove_orphaned_partials(scratch)
    started = time.monotonic()
    prove_backup(context, backup)
    with (
        explain_full_disk(scratch, backup.plain_bytes, "the restored copy"),
        create_partial_file(scratch, plain_name(backup.name)) as restored,
    ):
        with open_plain_backup(context, backup, scratch) as plain:
            _copy_restored(context, plain, restored)
        sync_file(restored)
        seconds = time.monotonic() - started
        tasks, notes = _check_queue(context, restored)
    age = backup.age_at(context.now())
    lost = "what changed since then (its time is in the future)" if age is None else f"the last {age:.0f} s"
    return Done(
        f"{backup.name} restores in {seconds:.1f} s; restoring it now would lose {lost}{describe_unchecked(backup.manifest)}",
        {
            "path": backup.reference,
            "restore_seconds": round(seconds, 4),
            "data_age_seconds": None if age is None else round(age, 1),
            "tasks": tasks,
            "notes": "; ".join(notes),
            "unchecked": "; ".join(backup.manifest.unchecked),
        },
    )


def _copy_restored(context: ActionContext, plain: Path, restored: Path) -> None:
    done, total = 0, plain.stat().st_size
    with plain.open("rb") as source, restored.open("wb") as destination:
        while block := source.read(_BLOCK):
            destination.write(block)
            done += len(block)
            context.emit_progress("restored bytes", done, total)
            context.stop.raise_if_requested()


def _check_queue(context: ActionContext, restored: Path) -> tuple[int, tuple[str, ...]]:
    """Open it as the application would, write to it, and read the queue in it.

    Returns how many tasks it holds, and what may be the application's own doing, in words.
    """
    database = apsw.Connection(str(restored), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        notes = check_queue_rows(context, database, None, None).notes
        database.execute("BEGIN IMMEDIATE; CREATE TABLE queuekeeper_drill (x); ROLLBACK").fetchall()
    except apsw.Error as error:
        raise _drill_error(restored, f"SQLite says: {error}") from error
    finally:
        database.close()
    return _count_tasks(context, restored), notes


def _count_tasks(context: ActionContext, restored: Path) -> int:
    """Count tasks with the collectors that watch the live queue: what they can read here, they can read after a restore."""
    copy = replace(
        context.target, path=restored, backup=None, limits=replace(context.target.limits, read_rollback=60.0)
    )
    snapshot = poll_database(copy, None, context.now(), context.raw, only=frozenset({"tasks", "leases"}))
    for name, result in snapshot.collectors.items():
        if not result.success:
            raise _drill_error(restored, f"its {name} cannot be read: {result.message}")
    return int(sum(sample.value_at(context.now()) for sample in snapshot.samples_of("sqlite_queue_tasks")))


def _drill_error(restored: Path, why: str) -> Unverified:
    return Unverified(
        f"{restored.name} was restored and is no healthy queue: {why}",
        reason="drill",
        next_step="look at the application's data; take a new backup when it is repaired",
    )
