"""Restores a backup: to another path, into the live database, or in place of a missing or malformed one. Never automatic.

Runbook: docs/runbook.md#procedure-restore. The backup is proved first, and what is there is backed up first. A live
database gets the content through SQLite's backup API in one step, so that its applications see the old rows or the new ones.
"""

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import apsw

from actions.backups.content_proof import has_same_rows, prove_contents
from actions.backups.publish import (
    create_partial_file,
    make_scratch_folder,
    publish_file,
    remove_orphaned_partials,
    sync_file,
)
from actions.backups.restore_live import change_page_size, restore_live
from actions.backups.restore_loss import find_table_losses
from actions.backups.restore_swap import copy_ownership, require_no_open_files, swap_in_restored
from actions.backups.select import (
    load_backup,
    open_plain_backup,
    prove_backup,
    require_same_source,
    select_newest_intact,
)
from actions.backups.store import BackupStore, SelectedBackup, open_store
from actions.backups.take import backup_bytes_needed, take_backup
from actions.model.context import ActionContext
from actions.model.errors import Failed, Refused, Unverified
from actions.model.options import ActionOption
from actions.model.plan import Done, Figure, Plan
from actions.spec import ActionSpec
from actions.sqlite.disk_space import explain_full_disk, require_free_space
from collectors.access.connection import open_immutable, open_read_only

SPEC = ActionSpec(
    name="restore",
    summary="Restore a backup; by default the newest verified one, never a safety copy.",
    details="With --in-place the losses are printed first, and on a terminal you must confirm.",
    options={
        "backup": ActionOption(
            "path", "The backup; the newest verified one by default.", by_person=True, positional=True
        ),
        "to": ActionOption("path", "Restore to this path, where no file may exist.", by_person=True),
        "in_place": ActionOption("flag", "Replace the content of the database itself.", by_person=True),
        "application_stopped": ActionOption(
            "flag", "You confirm that no application has the database open.", by_person=True
        ),
    },
    lane="long",
    automatic=False,
    needs_database=False,
    backup_directory="required",
    checks_own_space=True,
    remote=False,  # what replaces a database wants its operator at the machine
    writes_pages=False,
)

RestoreWay = Literal["to", "live", "missing", "malformed"]
# Bytes that the one step writes per second, for predicting only (1 GB took 1.5 s).
STEP_RATE = 600e6


def plan(context: ActionContext) -> Plan:
    """Select and prove the backup, choose the way, and describe what would be lost. Raises ActionError."""
    if context.automatic:
        raise Refused(
            "a restore is never automatic", reason="automatic", next_step="a person runs `queuekeeper restore`"
        )
    backup, damaged = _select_proved(context)
    way = _choose_way(context)
    lost = _describe_losses(context, backup) if way == "live" else ()
    _require_disk_space(context, backup, way)
    return Plan(
        steps=tuple(_plan_steps(context, backup, way)),
        figures={
            "backup": backup.reference,
            "way": way,
            "snapshot_time": backup.manifest.snapshot_time,
            "lost": "; ".join(lost),
            "passed_over": "; ".join(damaged),
        },
        stall=backup.plain_bytes / STEP_RATE if way == "live" else 0.0,
        warnings=(*damaged, *lost),
    )


def run(context: ActionContext, plan: Plan) -> Done:
    """Restore; until the last step the database is unchanged. Raises ActionError, apsw.Error, OSError."""
    started = time.monotonic()
    backup = load_backup(context, str(plan.figures["backup"]))
    way: RestoreWay = plan.figures["way"]  # type: ignore[assignment] # plan() put it there
    destination = _destination_path(context, way)
    place = _copy_directory(context, way)
    remove_orphaned_partials(place)
    context.emit_phase("restore")
    figures: dict[str, Figure] = {"backup": backup.reference, "way": way, "lost": plan.figures["lost"]}
    with (
        explain_full_disk(place, 2 * backup.plain_bytes, "the restore"),
        _make_private_copy(context, backup, place, destination.name) as plain,
    ):
        if way == "to":
            sync_file(plain)
            publish_file(plain, destination)
        elif way == "live":
            figures["safety_backup"] = _take_safety_copy(context, backup)
            with explain_full_disk(destination.parent, backup.plain_bytes, "the restore"):
                _restore_into_live(context, backup, plain)
        else:
            require_no_open_files(context)
            copy_ownership(plain, context.target.path)
            figures["moved_aside"] = ", ".join(str(path) for path in swap_in_restored(context, plain))
    figures["seconds"] = round(time.monotonic() - started, 4)
    return Done(f"restored {backup.name} to {destination}{_passed_over(plan)}", figures)


def _select_proved(context: ActionContext) -> tuple[SelectedBackup, tuple[str, ...]]:
    """The backup, proved now, and what is wrong with the newer ones that were passed over. A named one, or none."""
    given = context.options.get("backup")
    if given is None:
        return select_newest_intact(context)
    backup = load_backup(context, str(given))
    require_same_source(context, backup)
    prove_backup(context, backup)
    return backup, ()


def _passed_over(plan: Plan) -> str:
    """That this is not the newest backup, and why, for the message of the run."""
    damaged = plan.figures.get("passed_over")
    return f"; it is not the newest: {damaged}" if damaged else ""


def _choose_way(context: ActionContext) -> RestoreWay:
    to, target = context.options.get("to"), context.target.path
    if to is not None:
        if any(Path(f"{to}{suffix}").exists() for suffix in ("", "-wal", "-shm", "-journal")):
            raise Refused(
                f"{to} or its sidecars exist", reason="exists", next_step="choose another path, or use --in-place"
            )
        return "to"
    if not context.options.get("in_place"):
        raise Refused("no destination is given", reason="no_destination", next_step="give --to PATH or --in-place")
    if not target.exists():
        return "missing"
    if not _is_readable(context):
        return "malformed"
    return (
        "malformed" if context.options.get("application_stopped") and not _passes_integrity_check(context) else "live"
    )


def _passes_integrity_check(context: ActionContext) -> bool:
    """Whether the database passes SQLite's check; one that does not can be moved aside, but not be backed up."""
    with open_read_only(context.target.path) as database:
        try:
            return bool(database.execute("PRAGMA integrity_check(1)").get == "ok")
        except apsw.CorruptError:
            return False


def _copy_directory(context: ActionContext, way: RestoreWay) -> Path:
    """Where the private copy is made: in the directory of its final name; never beside a live database."""
    return make_scratch_folder(context) if way == "live" else _destination_path(context, way).parent


def _require_disk_space(context: ActionContext, backup: SelectedBackup, way: RestoreWay) -> None:
    """Raises Refused when a disk lacks space: a live database's WAL takes the restored pages, its store the safety copy."""
    reserve = context.target.limits.disk_reserve
    require_free_space(_copy_directory(context, way), 2 * backup.plain_bytes, reserve, "the restore")
    if way == "live":
        require_free_space(context.target.path.parent, backup.plain_bytes, reserve, "the restore")
        _safety_store(context, backup).require_space(backup_bytes_needed(context), reserve, "the safety backup")


def _is_readable(context: ActionContext) -> bool:
    """Whether SQLite can read it at all; damage deep inside is no reason to swap files under an application."""
    header = context.raw.read_database_header(context.target.path)
    if header is None or not header.valid:
        return False  # without opening it, which would make sidecars
    try:
        with open_read_only(context.target.path) as database:
            database.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except (apsw.NotADBError, apsw.CorruptError):
        return False
    return True


def _destination_path(context: ActionContext, way: RestoreWay) -> Path:
    return Path(str(context.options["to"])).absolute() if way == "to" else context.target.path


def _describe_losses(context: ActionContext, backup: SelectedBackup) -> tuple[str, ...]:
    with (
        open_plain_backup(context, backup, backup.store.draft_directory) as plain,
        open_immutable(plain) as content,
        open_read_only(context.target.path) as live,
    ):
        try:
            return tuple(loss.as_sentence() for loss in find_table_losses(live, content, backup.manifest.row_counts))
        except apsw.CorruptError as error:
            raise _damaged_source_error(context, error) from error


def _plan_steps(context: ActionContext, backup: SelectedBackup, way: RestoreWay) -> Iterator[str]:
    age = max(0.0, context.now() - backup.manifest.snapshot_time)
    if way == "live":
        yield "take a safety backup of what is there"
        yield f"write {backup.name} into {context.target.path} in one step: every change of the last {age:.0f} s is lost"
    elif way == "to":
        yield f"write {backup.name} to {_destination_path(context, way)}"
    else:
        yield f"move what is left of {context.target.path} aside" if way == "malformed" else "move stale sidecars aside"
        yield f"put {backup.name} there"


@contextmanager
def _make_private_copy(context: ActionContext, backup: SelectedBackup, place: Path, name: str) -> Iterator[Path]:
    """Copy the backup to a private plain file in `place` for the block, and prove it again there."""
    with create_partial_file(place, name) as copy:
        with (
            open_plain_backup(context, backup, place) as plain,
            plain.open("rb") as source,
            copy.open("wb") as file,
        ):
            while block := source.read(16 * 1024 * 1024):
                file.write(block)
                context.emit_progress("restored bytes", file.tell(), backup.plain_bytes)
                context.stop.raise_if_requested()
        prove_contents(copy, backup.expected_contents)
        yield copy


def _safety_store(context: ActionContext, backup: SelectedBackup) -> BackupStore:
    """The store of the database; else the one that this backup lies in, never the directory of the live database."""
    return backup.store if context.target.backup is None else open_store(context, "--from")


def _take_safety_copy(context: ActionContext, backup: SelectedBackup) -> str:
    store = _safety_store(context, backup)
    store.prepare_location()
    try:
        return take_backup(context, store, "safety", kind="safety").reference
    except Unverified as error:
        raise _damaged_source_error(context, error) from error


def _damaged_source_error(context: ActionContext, error: Exception) -> Unverified:
    return Unverified(
        f"what is there cannot be backed up before it is replaced: {error}",
        reason="damaged_source",
        next_step="stop the application, then give --application-stopped: the damaged files are moved aside instead; what the "
        f"backup lacks, queuekeeper salvage {shlex.quote(str(context.target.path))} --to NEW_FILE may bring over",
    )


def _restore_into_live(context: ActionContext, backup: SelectedBackup, plain: Path) -> None:
    with open_read_only(context.target.path) as live:
        page_size = int(live.pragma("page_size"))
    if page_size != backup.manifest.page_size:
        change_page_size(plain, page_size)
        if not has_same_rows(plain, backup.expected_contents):
            raise Failed(
                "the backup changed while its page size was changed", reason="page_size", next_step="restore with --to"
            )
    context.stop.raise_if_requested()
    context.emit_phase("restore_step")
    restore_live(context, plain)
