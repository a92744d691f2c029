"""Restores a backup: to another path, into the live database, or in place of a missing or malformed one. Never automatic.

Runbook: docs/runbook.md#procedure-restore. The backup is proved first, and what is there is backed up first. A live
database gets the content through SQLite's backup API in one step, so that its applications see the old rows or the new ones.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import apsw

from actions.backups.content_proof import has_same_rows, prove_contents
from actions.backups.file_settings import require_recorded_fields
from actions.backups.publish import create_partial_file, publish_file, remove_orphaned_partials, sync_file
from actions.backups.select import load_backup, open_plain_backup, plain_directory
from actions.backups.store import SelectedBackup
from actions.backups.take import take_backup
from actions.model.context import ActionContext
from actions.model.errors import Failed, Refused, Unverified
from actions.model.options import ActionOption
from actions.model.plan import ACCEPTED_FIGURE, Done, Figure, Plan
from actions.restores.live import change_page_size, describe_live_settings, restore_live
from actions.restores.losses import find_table_losses
from actions.restores.places import (
    RestoreWay,
    copy_directory,
    destination_path,
    require_places,
    safety_store,
)
from actions.restores.settings import put_back_settings, wanted_settings
from actions.restores.source import describe_source, select_restorable
from actions.restores.swap import require_no_open_files, swap_in_restored
from actions.restores.way import choose_way, damaged_source_error, require_whole_source
from actions.spec import ActionSpec
from actions.sqlite.disk_space import explain_full_disk
from collectors.access.connection import open_immutable, open_read_only

SPEC = ActionSpec(
    name="restore",
    summary="Restore a backup; by default the newest verified one, never a safety copy.",
    details="With --in-place the losses are printed first, and on a terminal you must confirm. Where the database is not "
    "on this host, leave DB out: --from DIR --to PATH takes the copy of the database whose backups DIR holds.",
    options={
        "backup": ActionOption(
            "path", "The backup; the newest verified one by default.", by_person=True, positional=True
        ),
        "to": ActionOption("path", "Restore to this path, where no file may exist.", by_person=True),
        "in_place": ActionOption("flag", "Replace the content of the database itself.", by_person=True),
        "application_stopped": ActionOption(
            "flag", "You confirm that no application has the database open.", by_person=True
        ),
        "source": ActionOption(
            "text", "Whose backup, where --from has those of several databases: its path or its name.", by_person=True
        ),
        "safety_to": ActionOption(
            "path", "Where the copy of what is replaced goes; beside the backups by default.", by_person=True
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

# Bytes that the one step writes per second, for predicting only (1 GB took 1.5 s).
STEP_RATE = 600e6


def plan(context: ActionContext) -> Plan:
    """Select and prove the backup, choose the way, and describe what would be lost. Raises ActionError."""
    if context.automatic:
        raise Refused(
            "a restore is never automatic", reason="automatic", next_step="a person runs `queuekeeper restore`"
        )
    way = choose_way(context)
    backup, damaged = select_restorable(context, way)
    require_places(context, backup, way)
    if way in ("missing", "malformed"):
        require_no_open_files(context)
    lost = _describe_losses(context, backup) if way == "live" else ()
    doubts = require_whole_source(context) if way == "live" else ()
    return Plan(
        steps=tuple(_plan_steps(context, backup, way)),
        figures={
            "backup": backup.reference,
            "source": backup.manifest.source.path,
            "way": way,
            "snapshot_time": backup.manifest.snapshot_time,
            "lost": "; ".join(lost),
            "passed_over": "; ".join(damaged),
        },
        stall=backup.plain_bytes / STEP_RATE if way == "live" else 0.0,
        warnings=(*damaged, *lost, *doubts),
    )


def run(context: ActionContext, plan: Plan) -> Done:
    """Restore; until the last step the database is unchanged. Raises ActionError, apsw.Error, OSError."""
    started = time.monotonic()
    backup = load_backup(context, str(plan.figures["backup"]))
    way: RestoreWay = plan.figures["way"]  # type: ignore[assignment] # plan() put it there
    place = copy_directory(context, way)
    remove_orphaned_partials(place)
    context.emit_phase("restore")
    figures: dict[str, Figure] = {name: plan.figures[name] for name in ("backup", "source", "way", "lost")}
    with (
        explain_full_disk(place, 2 * backup.plain_bytes, "the restore"),
        _make_private_copy(context, backup, place, destination_path(context, way).name) as plain,
    ):
        figures.update(_write_restored(context, backup, plain, way))
    figures["seconds"] = round(time.monotonic() - started, 4)
    if way != "to":
        figures[ACCEPTED_FIGURE] = context.now()  # what the database holds is what a person wanted
    return Done(_result_sentence(context, backup, way, figures) + _passed_over(plan), figures)


def _passed_over(plan: Plan) -> str:
    """That this is not the newest backup, and why, for the message of the run."""
    damaged = plan.figures.get("passed_over")
    return f"; it is not the newest: {damaged}" if damaged else ""


def _write_restored(
    context: ActionContext, backup: SelectedBackup, plain: Path, way: RestoreWay
) -> Mapping[str, Figure]:
    """Bring the proved private copy to its destination; the figures of what was done."""
    if way == "live":
        _fit_page_size(context, backup, plain)
        safety = _take_safety_copy(context, backup)
        with explain_full_disk(context.target.path.parent, backup.plain_bytes, "the restore"):
            return {"safety_backup": safety, **_restore_into_live(context, backup, plain)}
    if way != "to":
        require_no_open_files(context)
    settings = put_back_settings(plain, wanted_settings(context, backup, replaces=way != "to")).as_figures()
    prove_contents(plain, backup.expected_contents)
    require_recorded_fields(plain, backup.manifest)
    if way == "to":
        sync_file(plain)
        publish_file(plain, destination_path(context, way))
        return settings
    moved = swap_in_restored(context, plain)
    return {"moved_aside": ", ".join(str(path) for path in moved), **settings}


def _result_sentence(
    context: ActionContext, backup: SelectedBackup, way: RestoreWay, figures: Mapping[str, Figure]
) -> str:
    not_kept = figures.get("not_kept")
    end = f"; not as before: {not_kept}" if not_kept else ""
    source = describe_source(context, backup)
    return f"restored {backup.name}{source}{',' if source else ''} to {destination_path(context, way)}{end}"


def _describe_losses(context: ActionContext, backup: SelectedBackup) -> tuple[str, ...]:
    with (
        open_plain_backup(context, backup, plain_directory(context, backup)) as plain,
        open_immutable(plain) as content,
        open_read_only(context.target.path) as live,
    ):
        try:
            return tuple(loss.as_sentence() for loss in find_table_losses(live, content, backup.manifest.row_counts))
        except apsw.CorruptError as error:
            raise damaged_source_error(context, error) from error


def _plan_steps(context: ActionContext, backup: SelectedBackup, way: RestoreWay) -> Iterator[str]:
    age = backup.age_at(context.now())
    lost = "since it was taken (its time is in the future)" if age is None else f"of the last {age:.0f} s"
    source = describe_source(context, backup)
    if way == "live":
        yield f"take a safety backup of what is there to {safety_store(context, backup).location}"
        yield f"write {backup.name} into {context.target.path} in one step: every change {lost} is lost"
    elif way == "to":
        yield f"write {backup.name}{source}{',' if source else ''} to {destination_path(context, way)}"
    else:
        yield f"move what is left of {context.target.path} aside" if way == "malformed" else "move stale sidecars aside"
        yield f"put {backup.name}{source}{',' if source else ''} there"


@contextmanager
def _make_private_copy(context: ActionContext, backup: SelectedBackup, place: Path, name: str) -> Iterator[Path]:
    """Copy the backup to a private plain file in `place` for the block."""
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
        yield copy


def _take_safety_copy(context: ActionContext, backup: SelectedBackup) -> str:
    store = safety_store(context, backup)
    store.prepare_location()
    try:
        return take_backup(context, store, "safety", kind="safety").reference
    except Unverified as error:
        raise damaged_source_error(context, error) from error


def _fit_page_size(context: ActionContext, backup: SelectedBackup, plain: Path) -> None:
    """Prove the private copy, with the page size of the live file, which cannot change."""
    prove_contents(plain, backup.expected_contents)
    with open_read_only(context.target.path) as live:
        page_size = int(live.pragma("page_size"))
    if page_size != backup.manifest.page_size:
        change_page_size(plain, page_size)
        if not has_same_rows(plain, backup.expected_contents):
            raise Failed(
                "the backup changed while its page size was changed", reason="page_size", next_step="restore with --to"
            )
    require_recorded_fields(plain, backup.manifest)


def _restore_into_live(context: ActionContext, backup: SelectedBackup, plain: Path) -> Mapping[str, Figure]:
    context.stop.raise_if_requested()
    context.emit_phase("restore_step")
    restore_live(context, plain)
    return describe_live_settings(context, backup.manifest)
