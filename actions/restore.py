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

from actions.backups.compression import plain_file
from actions.backups.content_proof import immutable, prove, same_rows
from actions.backups.publish import backup_name, partial_file, publish, remove_leftovers, sync_file
from actions.backups.restore_live import change_page_size, restore_live
from actions.backups.restore_loss import losses
from actions.backups.restore_swap import give_owner, require_nobody, swap_in
from actions.backups.scratch import scratch_folder
from actions.backups.select import Chosen, check_source, named, newest_verified, no_backup, prove_chosen
from actions.backups.take import bytes_needed, make_folder, take_backup
from actions.model.context import Work
from actions.model.errors import Failed, Refused, Unverified
from actions.model.options import OptionKind
from actions.model.plan import Done, Figure, Plan
from actions.sqlite.disk_space import nearest_existing, require_free, writing_to
from collectors.access.connection import read_only

NAME = "restore"
LONG = True
AUTOMATIC = False
MAY_BE_MISSING = True
WINDOWED = False
DESTRUCTIVE = False
OPTIONS = {
    "backup": OptionKind("path", "the backup; by default the newest verified one", by_person=True),
    "to": OptionKind("path", "where to; nothing may be there", by_person=True),
    "in_place": OptionKind("flag", "replace the content of the database", by_person=True),
    "application_stopped": OptionKind("flag", "no application has the database open", by_person=True),
}

Way = Literal["to", "live", "missing", "malformed"]
# Bytes written per second by the one step, for predicting only (1 GB took 1.5 s).
STEP_RATE = 600e6


def plan(work: Work) -> Plan:
    """Choose and prove the backup, choose the way, and say what would be lost. Raises ActionError."""
    if work.automatic:
        raise Refused(
            "a restore is never automatic", reason="automatic", next_step="a person runs `queuekeeper restore`"
        )
    chosen = _chosen(work)
    check_source(work, chosen)
    prove_chosen(work, chosen)
    way = _way(work)
    lost = _lost(work, chosen) if way == "live" else ()
    _require_room(work, chosen, way)
    return Plan(
        steps=tuple(_steps(work, chosen, way)),
        figures={
            "backup": str(chosen.path),
            "way": way,
            "snapshot_time": chosen.manifest.snapshot_time,
            "lost": "; ".join(lost),
        },
        stall=chosen.plain_bytes / STEP_RATE if way == "live" else 0.0,
        warnings=lost,
    )


def run(work: Work, plan: Plan) -> Done:
    """Restore. Raises ActionError, apsw.Error, OSError; until the last step nothing that was there has changed."""
    started = time.monotonic()
    chosen = named(Path(str(plan.figures["backup"])))
    way: Way = plan.figures["way"]  # type: ignore[assignment] # it is what plan() put there
    destination = _destination(work, way)
    place = _place(work, way)
    remove_leftovers(place)
    work.phase("restore")
    figures: dict[str, Figure] = {"backup": str(chosen.path), "way": way, "lost": plan.figures["lost"]}
    with (
        writing_to(place, 2 * chosen.plain_bytes, "the restore"),
        _private_copy(work, chosen, place, destination.name) as plain,
    ):
        if way == "to":
            sync_file(plain)
            publish(plain, destination)
        elif way == "live":
            figures["safety_backup"] = str(_safety_copy(work, chosen))
            with writing_to(destination.parent, chosen.plain_bytes, "the restore"):
                _into_live(work, chosen, plain)
        else:
            require_nobody(work)
            give_owner(plain, work.target.path)
            figures["moved_aside"] = ", ".join(str(path) for path in swap_in(work, plain))
    figures["seconds"] = round(time.monotonic() - started, 4)
    return Done(f"restored {chosen.path.name} to {destination}", figures)


def _chosen(work: Work) -> Chosen:
    given = work.options.get("backup")
    chosen = named(Path(str(given))) if given is not None else newest_verified(work)
    if chosen is None:
        raise no_backup(work)
    return chosen


def _way(work: Work) -> Way:
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
    return "malformed" if work.options.get("application_stopped") and not _is_whole(work) else "live"


def _is_whole(work: Work) -> bool:
    """Whether it passes its own check; one that does not can be moved aside, but not be backed up as it is."""
    with read_only(work.target.path) as database:
        try:
            return bool(database.execute("PRAGMA integrity_check(1)").get == "ok")
        except apsw.CorruptError:
            return False


def _place(work: Work, way: Way) -> Path:
    """Where the private copy lies: beside what it becomes by its name; for a live database nothing appears beside it."""
    return scratch_folder(work) if way == "live" else _destination(work, way).parent


def _require_room(work: Work, chosen: Chosen, way: Way) -> None:
    """Raises Refused. A live database's directory takes the restored pages in its WAL; the safety copy has its own place."""
    reserve = work.target.limits.disk_reserve
    require_free(_place(work, way), 2 * chosen.plain_bytes, reserve, "the restore")
    if way == "live":
        require_free(work.target.path.parent, chosen.plain_bytes, reserve, "the restore")
        require_free(nearest_existing(_safety_folder(work, chosen)), bytes_needed(work), reserve, "the safety backup")


def _is_readable(work: Work) -> bool:
    """Whether SQLite can read it at all; damage deep inside is no reason to swap files under an application."""
    header = work.raw.database_header(work.target.path)
    if header is None or not header.valid:
        return False  # without opening it, which would make sidecars
    try:
        with read_only(work.target.path) as database:
            database.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except (apsw.NotADBError, apsw.CorruptError):
        return False
    return True


def _destination(work: Work, way: Way) -> Path:
    return Path(str(work.options["to"])).absolute() if way == "to" else work.target.path


def _lost(work: Work, chosen: Chosen) -> tuple[str, ...]:
    with (
        plain_file(work, chosen.path, chosen.plain_bytes, chosen.path.parent) as plain,
        immutable(plain) as backup,
        read_only(work.target.path) as live,
    ):
        try:
            return tuple(loss.sentence() for loss in losses(live, backup, chosen.manifest.row_counts))
        except apsw.CorruptError as error:
            raise _damaged(error) from error


def _steps(work: Work, chosen: Chosen, way: Way) -> Iterator[str]:
    age = max(0.0, work.now() - chosen.manifest.snapshot_time)
    if way == "live":
        yield "take a safety backup of what is there"
        yield f"write {chosen.path.name} into {work.target.path} in one step: every change of the last {age:.0f} s is lost"
    elif way == "to":
        yield f"write {chosen.path.name} to {_destination(work, way)}"
    else:
        yield f"move what is left of {work.target.path} aside" if way == "malformed" else "move stale sidecars aside"
        yield f"put {chosen.path.name} there"


@contextmanager
def _private_copy(work: Work, chosen: Chosen, place: Path, name: str) -> Iterator[Path]:
    """The backup as a private plain file in `place`, proved again there."""
    with partial_file(place, name) as copy:
        with (
            plain_file(work, chosen.path, chosen.plain_bytes, place) as plain,
            plain.open("rb") as source,
            copy.open("wb") as file,
        ):
            while block := source.read(16 * 1024 * 1024):
                file.write(block)
                work.progress("restored bytes", file.tell(), chosen.plain_bytes)
                work.stop.check()
        prove(copy, chosen.contents)
        yield copy


def _safety_folder(work: Work, chosen: Chosen) -> Path:
    """Where backups go; else where this one lies, never beside the live database."""
    place = work.target.backup
    return place.folder(work.target.name) if place is not None else chosen.path.parent


def _safety_copy(work: Work, chosen: Chosen) -> Path:
    folder = _safety_folder(work, chosen)
    make_folder(folder)
    remove_leftovers(folder)
    try:
        return take_backup(work, folder, backup_name(work.target.name, "safety", work.now()), kind="safety").path
    except Unverified as error:
        raise _damaged(error) from error


def _damaged(error: Exception) -> Unverified:
    return Unverified(
        f"what is there cannot be backed up before it is replaced: {error}",
        reason="damaged_source",
        next_step="stop the application, then give --application-stopped: the damaged files are moved aside instead",
    )


def _into_live(work: Work, chosen: Chosen, plain: Path) -> None:
    with read_only(work.target.path) as live:
        page_size = int(live.pragma("page_size"))
    if page_size != chosen.manifest.page_size:
        change_page_size(plain, page_size)
        if not same_rows(plain, chosen.contents):
            raise Failed(
                "the backup changed while its page size was changed", reason="page_size", next_step="restore with --to"
            )
    work.stop.check()
    work.phase("restore_step")
    restore_live(work, plain)
