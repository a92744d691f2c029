"""Brings a backup back: to another path, into the live database, or where a missing or malformed one was. Never automatic.

Runbook: docs/runbook.md#procedure-restore. The backup is proved first; what is there is backed up first; into a live
database the content goes through SQLite's backup API in one step, so that its applications see the old rows or the new
ones.
"""

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
    no_backup_error,
    open_plain_backup,
    prove_backup,
    require_same_source,
    select_newest_verified,
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
)

RestoreWay = Literal["to", "live", "missing", "malformed"]
# Bytes written per second by the one step, for predicting only (1 GB took 1.5 s).
STEP_RATE = 600e6


def plan(work: ActionContext) -> Plan:
    """Choose and prove the backup, choose the way, and say what would be lost. Raises ActionError."""
    if work.automatic:
        raise Refused(
            "a restore is never automatic", reason="automatic", next_step="a person runs `queuekeeper restore`"
        )
    chosen = _select_backup(work)
    require_same_source(work, chosen)
    prove_backup(work, chosen)
    way = _choose_way(work)
    lost = _describe_losses(work, chosen) if way == "live" else ()
    _require_disk_space(work, chosen, way)
    return Plan(
        steps=tuple(_plan_steps(work, chosen, way)),
        figures={
            "backup": chosen.reference,
            "way": way,
            "snapshot_time": chosen.manifest.snapshot_time,
            "lost": "; ".join(lost),
        },
        stall=chosen.plain_bytes / STEP_RATE if way == "live" else 0.0,
        warnings=lost,
    )


def run(work: ActionContext, plan: Plan) -> Done:
    """Restore. Raises ActionError, apsw.Error, OSError; until the last step nothing that was there has changed."""
    started = time.monotonic()
    chosen = load_backup(work, str(plan.figures["backup"]))
    way: RestoreWay = plan.figures["way"]  # type: ignore[assignment] # it is what plan() put there
    destination = _destination_path(work, way)
    place = _copy_directory(work, way)
    remove_orphaned_partials(place)
    work.emit_phase("restore")
    figures: dict[str, Figure] = {"backup": chosen.reference, "way": way, "lost": plan.figures["lost"]}
    with (
        explain_full_disk(place, 2 * chosen.plain_bytes, "the restore"),
        _make_private_copy(work, chosen, place, destination.name) as plain,
    ):
        if way == "to":
            sync_file(plain)
            publish_file(plain, destination)
        elif way == "live":
            figures["safety_backup"] = _take_safety_copy(work, chosen)
            with explain_full_disk(destination.parent, chosen.plain_bytes, "the restore"):
                _restore_into_live(work, chosen, plain)
        else:
            require_no_open_files(work)
            copy_ownership(plain, work.target.path)
            figures["moved_aside"] = ", ".join(str(path) for path in swap_in_restored(work, plain))
    figures["seconds"] = round(time.monotonic() - started, 4)
    return Done(f"restored {chosen.name} to {destination}", figures)


def _select_backup(work: ActionContext) -> SelectedBackup:
    given = work.options.get("backup")
    chosen = load_backup(work, str(given)) if given is not None else select_newest_verified(work)
    if chosen is None:
        raise no_backup_error(work)
    return chosen


def _choose_way(work: ActionContext) -> RestoreWay:
    to, target = work.options.get("to"), work.target.path
    if to is not None:
        if any(Path(f"{to}{suffix}").exists() for suffix in ("", "-wal", "-shm", "-journal")):
            raise Refused(
                f"{to} or its sidecars exist", reason="exists", next_step="choose another path, or use --in-place"
            )
        return "to"
    if not work.options.get("in_place"):
        raise Refused(
            "nothing says where to restore", reason="no_destination", next_step="give --to PATH or --in-place"
        )
    if not target.exists():
        return "missing"
    if not _is_readable(work):
        return "malformed"
    return "malformed" if work.options.get("application_stopped") and not _passes_integrity_check(work) else "live"


def _passes_integrity_check(work: ActionContext) -> bool:
    """Whether it passes its own check; one that does not can be moved aside, but not be backed up as it is."""
    with open_read_only(work.target.path) as database:
        try:
            return bool(database.execute("PRAGMA integrity_check(1)").get == "ok")
        except apsw.CorruptError:
            return False


def _copy_directory(work: ActionContext, way: RestoreWay) -> Path:
    """Where the private copy lies: beside what it becomes by its name; for a live database nothing appears beside it."""
    return make_scratch_folder(work) if way == "live" else _destination_path(work, way).parent


def _require_disk_space(work: ActionContext, chosen: SelectedBackup, way: RestoreWay) -> None:
    """Raises Refused. A live database's directory takes the restored pages in its WAL; the safety copy has its own place."""
    reserve = work.target.limits.disk_reserve
    require_free_space(_copy_directory(work, way), 2 * chosen.plain_bytes, reserve, "the restore")
    if way == "live":
        require_free_space(work.target.path.parent, chosen.plain_bytes, reserve, "the restore")
        _safety_store(work, chosen).require_space(backup_bytes_needed(work), reserve, "the safety backup")


def _is_readable(work: ActionContext) -> bool:
    """Whether SQLite can read it at all; damage deep inside is no reason to swap files under an application."""
    header = work.raw.read_database_header(work.target.path)
    if header is None or not header.valid:
        return False  # without opening it, which would make sidecars
    try:
        with open_read_only(work.target.path) as database:
            database.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except (apsw.NotADBError, apsw.CorruptError):
        return False
    return True


def _destination_path(work: ActionContext, way: RestoreWay) -> Path:
    return Path(str(work.options["to"])).absolute() if way == "to" else work.target.path


def _describe_losses(work: ActionContext, chosen: SelectedBackup) -> tuple[str, ...]:
    with (
        open_plain_backup(work, chosen, chosen.store.draft_directory) as plain,
        open_immutable(plain) as backup,
        open_read_only(work.target.path) as live,
    ):
        try:
            return tuple(loss.as_sentence() for loss in find_table_losses(live, backup, chosen.manifest.row_counts))
        except apsw.CorruptError as error:
            raise _damaged_source_error(error) from error


def _plan_steps(work: ActionContext, chosen: SelectedBackup, way: RestoreWay) -> Iterator[str]:
    age = max(0.0, work.now() - chosen.manifest.snapshot_time)
    if way == "live":
        yield "take a safety backup of what is there"
        yield f"write {chosen.name} into {work.target.path} in one step: every change of the last {age:.0f} s is lost"
    elif way == "to":
        yield f"write {chosen.name} to {_destination_path(work, way)}"
    else:
        yield f"move what is left of {work.target.path} aside" if way == "malformed" else "move stale sidecars aside"
        yield f"put {chosen.name} there"


@contextmanager
def _make_private_copy(work: ActionContext, chosen: SelectedBackup, place: Path, name: str) -> Iterator[Path]:
    """The backup as a private plain file in `place`, proved again there."""
    with create_partial_file(place, name) as copy:
        with (
            open_plain_backup(work, chosen, place) as plain,
            plain.open("rb") as source,
            copy.open("wb") as file,
        ):
            while block := source.read(16 * 1024 * 1024):
                file.write(block)
                work.emit_progress("restored bytes", file.tell(), chosen.plain_bytes)
                work.stop.raise_if_requested()
        prove_contents(copy, chosen.expected_contents)
        yield copy


def _safety_store(work: ActionContext, chosen: SelectedBackup) -> BackupStore:
    """The store of the database; else the one that this backup lies in, never the directory of the live database."""
    return chosen.store if work.target.backup is None else open_store(work, "--from")


def _take_safety_copy(work: ActionContext, chosen: SelectedBackup) -> str:
    store = _safety_store(work, chosen)
    store.prepare()
    try:
        return take_backup(work, store, "safety", kind="safety").reference
    except Unverified as error:
        raise _damaged_source_error(error) from error


def _damaged_source_error(error: Exception) -> Unverified:
    return Unverified(
        f"what is there cannot be backed up before it is replaced: {error}",
        reason="damaged_source",
        next_step="stop the application, then give --application-stopped: the damaged files are moved aside instead",
    )


def _restore_into_live(work: ActionContext, chosen: SelectedBackup, plain: Path) -> None:
    with open_read_only(work.target.path) as live:
        page_size = int(live.pragma("page_size"))
    if page_size != chosen.manifest.page_size:
        change_page_size(plain, page_size)
        if not has_same_rows(plain, chosen.expected_contents):
            raise Failed(
                "the backup changed while its page size was changed", reason="page_size", next_step="restore with --to"
            )
    work.stop.raise_if_requested()
    work.emit_phase("restore_step")
    restore_live(work, plain)
