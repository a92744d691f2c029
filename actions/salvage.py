"""Salvages a damaged database: what can be read of it goes into one new file, and the damaged one is not touched.

Runbook: docs/runbook.md#procedure-salvage. Never automatic: its result wants a person to compare it with the newest backup.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from actions.backups.publish import create_partial_file, publish_file, remove_orphaned_partials, sync_file
from actions.model.context import ActionContext
from actions.model.errors import Blocked, Failed, Refused, Unverified
from actions.model.options import ActionOption
from actions.model.plan import Done, Plan
from actions.restores.swap import require_no_open_files
from actions.salvaging.damaged_file import NotDatabase, open_damaged_file
from actions.salvaging.private_copy import copy_damaged_files, source_bytes
from actions.salvaging.prove_result import prove_result
from actions.salvaging.rebuild import Rebuilt, rebuild_database
from actions.salvaging.result_words import backup_step, describe_result
from actions.salvaging.schema_rows import detect_encoding, read_schema
from actions.salvaging.table_report import describe_damage
from actions.spec import ActionSpec
from actions.sqlite.disk_space import explain_full_disk, require_free_space

SPEC = ActionSpec(
    name="salvage",
    summary="Bring what can be read of a damaged database into a new file.",
    details="The damaged file and what lies beside it are only read. Rows whose table is unknown are kept apart in the table "
    "lost_and_found. Stop the application first. When a verified backup is new enough, restore that instead.",
    options={
        "to": ActionOption("path", "The new file, where no file may exist.", by_person=True),
    },
    lane="long",
    automatic=False,
    backup_directory="optional",
    checks_own_space=True,
    remote=False,  # it names a file of the machine, and its result wants its operator there
    writes_pages=False,
    heeds_content_loss="never",
)


def plan(context: ActionContext) -> Plan:
    """Look at the damaged file without SQLite, and say what is readable of its schema. Raises ActionError, OSError."""
    if context.automatic:
        raise Refused(
            "a salvage is never automatic", reason="automatic", next_step="a person runs `queuekeeper salvage`"
        )
    destination = _require_destination(context)
    needed = _require_disk_space(context, destination)
    try:
        with open_damaged_file(context.target.path) as opened:
            file = detect_encoding(opened)
            schema = read_schema(file)
    except NotDatabase as error:
        raise _not_database_error(context, error) from error
    tables = [entry.name for entry in schema.entries if entry.kind == "table"]
    return Plan(
        steps=(
            f"copy {context.target.path} with its WAL or journal to a private file in {destination.parent}",
            f"bring over {len(tables)} tables of {file.layout.pages} pages, row by row",
            f"check the new file and give it the name {destination}",
        ),
        figures={
            "to": str(destination),
            "pages": file.layout.pages,
            "page_bytes": file.layout.page_size,
            "tables": ", ".join(tables),
            "needed_bytes": needed,
        },
        warnings=(*describe_damage(file, schema.broken), *_warn_of_users(context)),
    )


def run(context: ActionContext, plan: Plan) -> Done:
    """Copy, rebuild, check, publish. Raises ActionError, apsw.Error, OSError."""
    started = time.monotonic()
    destination = Path(str(plan.figures["to"]))
    place = destination.parent
    remove_orphaned_partials(place)
    needed = 2 * source_bytes(context.target.path)
    with (
        explain_full_disk(place, needed, "the salvage"),
        create_partial_file(place, "salvage-source") as copy,
        create_partial_file(place, "salvage") as rebuilt_file,
    ):
        context.emit_phase("copy")
        facts = copy_damaged_files(
            context.target.path, copy, lambda done: _pause(context, "copied bytes", done, needed // 2)
        )
        context.emit_phase("salvage")
        rebuilt = _rebuild(context, copy, rebuilt_file)
        context.emit_phase("verify")
        proof = prove_result(rebuilt_file)
        if proof.problem:
            raise Unverified(
                f"what was built of {context.target.path} does not pass SQLite's check: {proof.problem}",
                reason="content",
                next_step=f"{backup_step(context)}; and report this: it is a fault of queuekeeper",
            )
        sync_file(rebuilt_file)
        context.stop.raise_if_requested()
        publish_file(rebuilt_file, destination)
    rebuilt = replace(rebuilt, problems=(*rebuilt.problems, *proof.notes, *_warn_of_users(context)))
    figures = {**describe_result(context, destination, rebuilt, facts), "seconds": round(time.monotonic() - started, 4)}
    kept_rows = sum(table.rows for table in rebuilt.tables)
    lost = sum(table.missing for table in rebuilt.tables)
    return Done(f"salvaged {kept_rows} rows of {context.target.path} to {destination}; {lost} are lost", figures)


def _warn_of_users(context: ActionContext) -> Iterator[str]:
    """A copy of a file that is written to may mix two moments; SQLite's locks would not help with a damaged one."""
    try:
        require_no_open_files(context)
    except Blocked as error:
        pid = error.figures.get("pid")
        user = "a process" if pid is None else f"pid {pid}"
        yield f"{user} has the database open: stop the application first, or its changes meanwhile may be missing or mixed"
    except Refused as error:
        yield f"{error}; stop the application first"


def _rebuild(context: ActionContext, copy: Path, rebuilt_file: Path) -> Rebuilt:
    try:
        with open_damaged_file(copy) as opened:
            file = detect_encoding(opened)
            pages = file.layout.pages
            return rebuild_database(file, rebuilt_file, lambda done: _pause(context, "salvaged pages", done, pages))
    except NotDatabase as error:
        raise _not_database_error(context, error) from error


def _pause(context: ActionContext, what: str, done: int, total: int) -> None:
    context.emit_progress(what, done, max(done, total))
    context.stop.raise_if_requested()


def _require_destination(context: ActionContext) -> Path:
    """Where the new file goes. Raises Refused where a file is, or where it would be taken for a part of a database."""
    to = context.options.get("to")
    if to is None:
        raise Refused("no destination is given", reason="no_destination", next_step="give --to PATH")
    destination = Path(os.path.realpath(Path(str(to)).parent)) / Path(str(to)).name
    if not destination.parent.is_dir():
        raise Refused(
            f"{destination.parent} is no directory", reason="no_directory", next_step="make it, or choose another path"
        )
    source = context.target.path
    if any(destination == source.with_name(source.name + suffix) for suffix in ("-wal", "-shm", "-journal")):
        raise Refused(
            f"{destination} would be taken for a part of {source}", reason="exists", next_step="choose another path"
        )
    for suffix in ("", "-wal", "-shm", "-journal"):
        if os.path.lexists(f"{destination}{suffix}"):
            raise Refused(f"{destination}{suffix} exists", reason="exists", next_step="choose another path")
    return destination


def _require_disk_space(context: ActionContext, destination: Path) -> int:
    """The bytes that are needed for the copy and for the new file. Raises Refused when the disk lacks them."""
    needed = 2 * source_bytes(context.target.path)
    require_free_space(destination.parent, needed, context.target.limits.disk_reserve, "the salvage")
    return needed


def _not_database_error(context: ActionContext, error: NotDatabase) -> Failed:
    return Failed(
        f"{context.target.path} holds nothing of a SQLite database: {error}; it may be encrypted, or be another file",
        reason="not_a_database",
        next_step=f"check the path; {backup_step(context)}",
    )
