"""Gathers what the guards decide upon, for one run."""

import errno
import os
import shutil
from pathlib import Path

import apsw

from actions.runner.guards import AutomaticInputs, GuardInputs, NameInputs
from actions.runner.protocol import Job
from actions.spec import ActionSpec
from actions.store.content_seen import load_content_memory
from actions.store.database import translate_store_errors
from actions.store.pause import pause_reason
from collectors import storage
from collectors.access.open_database import open_database
from collectors.access.rights import may_give_away
from collectors.access.second_name import find_name_problem
from collectors.backup_catalog.order import believed_snapshot_time, newest_verified
from collectors.backup_catalog.store import find_backups
from collectors.owner import is_vulnerable_version
from collectors.poll import poll_database, remembered_snapshot
from collectors.raw_reader.client import RawReader, RawReaderUnavailable


def gather_guard_inputs(job: Job, spec: ActionSpec, store: apsw.Connection, now: float, raw: RawReader) -> GuardInputs:
    """What the guards look at, as it is now. Raises OSError, StoreUnavailable."""
    with translate_store_errors(job.state):
        pause = pause_reason(store)
    owner = _owner_status(job.target.path) if hasattr(os, "geteuid") and not _makes_new_file(job) else None
    return GuardInputs(
        command=spec.command,
        action=spec.name,
        database=job.request.database,
        user=os.geteuid() if hasattr(os, "geteuid") else None,
        owner=None if owner is None else owner.st_uid,
        state_free=shutil.disk_usage(job.state).free,
        paused=pause,
        linked_sqlite_vulnerable=is_vulnerable_version(apsw.sqlite_lib_version()),
        linked_sqlite=apsw.sqlite_lib_version(),
        database_free=None if spec.checks_own_space else shutil.disk_usage(job.target.path.parent).free,
        disk_reserve=job.target.limits.disk_reserve,
        content_lost=_find_content_loss(job, spec, store, raw, now),
        reserved_bytes=_reserved_bytes(job, spec, raw),
        automatic=_automatic_inputs(job, spec, now) if job.request.is_automatic else None,
        gives_files_away=owner is not None and may_give_away(owner.st_uid, owner.st_gid),
        names=_name_inputs(job.target.path, raw, without_sqlite=spec.name == "salvage")
        if _touches_database(job, spec)
        else None,
    )


def _find_content_loss(job: Job, spec: ActionSpec, store: apsw.Connection, raw: RawReader, now: float) -> str:
    """What of the database's content is gone, in words, where that forbids this run; else empty. Raises StoreUnavailable."""
    heeded = spec.heeds_content_loss == "always" or (
        spec.heeds_content_loss == "automatic" and job.request.is_automatic
    )
    if not heeded:
        return ""
    with translate_store_errors(job.state):
        memory = load_content_memory(store, job.request.database)
    snapshot = poll_database(
        job.target, remembered_snapshot(job.target, memory), now, raw, only=frozenset({storage.NAME})
    )
    reading = snapshot.readings.get(storage.NAME)
    loss = reading.content.great_loss if isinstance(reading, storage.StorageReading) else None
    return "" if loss is None else loss.words


def _reserved_bytes(job: Job, spec: ActionSpec, raw: RawReader) -> int:
    """The bytes of each page that SQLite leaves to an extension, where this run would write pages; 0 where not known."""
    if not spec.writes_pages and not job.request.options.get("in_place"):
        return 0
    with open_database(job.target, raw) as opened:  # the file's header may be older than the WAL
        if opened.connection is not None:
            return opened.connection.reserve_bytes("main")
        return opened.header.reserved if opened.header is not None and opened.header.valid else 0


def _touches_database(job: Job, spec: ActionSpec) -> bool:
    """Whether it reads or changes the database file itself: what works without one does so only when it is told to."""
    return spec.needs_database or bool(job.request.options.get("in_place"))


def _name_inputs(path: Path, raw: RawReader, *, without_sqlite: bool) -> NameInputs | None:
    try:
        header = raw.read_database_header(path)
        if header is not None and not header.valid:
            return (
                None  # no database is there: a restore, which replaces it, looks for processes that have the file open
            )
        wal = header is not None and header.wal
        problem = find_name_problem(path, raw, wal=wal, acting=True)
    except OSError as error:
        if error.errno != errno.EIO or not without_sqlite:
            raise
        return None  # the disk does not give it: a salvage reads around that, and never writes there
    except RawReaderUnavailable as error:
        return NameInputs("raw_reader", f"which names {path} has cannot be seen now: {error}", "run it again")
    return None if problem is None else NameInputs(problem.word, problem.message, problem.cure, problem.pid)


def _automatic_inputs(job: Job, spec: ActionSpec, now: float) -> AutomaticInputs:
    backups = find_backups(job.target) if spec.needs_fresh_backup else ()
    believed = believed_snapshot_time(backups, now)
    return AutomaticInputs(
        now=now,
        needs_window=spec.needs_window,
        window=job.window,
        fresh_backup=job.fresh_backup if spec.needs_fresh_backup else None,
        backup_age=None if believed is None else max(0.0, now - believed),
        has_backup=newest_verified(backups, now) is not None,
    )


def _makes_new_file(job: Job) -> bool:
    """Whether it restores to a new path where no database is: then no application has files that could be locked."""
    return job.request.options.get("to") is not None and not job.target.path.exists()


def _owner_status(path: Path) -> os.stat_result:
    """The stat of the database file, whose owner counts; where there is none, of its directory."""
    try:
        return path.stat()
    except FileNotFoundError:
        return path.parent.stat()
