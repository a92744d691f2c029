"""Gathers what the guards decide upon, for one run."""

import os
import shutil
from pathlib import Path

import apsw

from actions.runner.guards import AutomaticInputs, GuardInputs
from actions.runner.protocol import Job
from actions.spec import ActionSpec
from actions.store.content_seen import load_content_memory
from actions.store.database import translate_store_errors
from actions.store.pause import pause_reason
from collectors import content
from collectors.backup_catalog.store import find_newest_verified
from collectors.owner import is_vulnerable_version
from collectors.poll import poll_database, remembered_snapshot
from collectors.raw_reader.client import RawReader
from collectors.target import Target


def gather_guard_inputs(
    job: Job, spec: ActionSpec, store: apsw.Connection, now: float, content_lost: str = ""
) -> GuardInputs:
    """What the guards look at, as it is now. Raises OSError, StoreUnavailable."""
    with translate_store_errors(job.state):
        pause = pause_reason(store)
    return GuardInputs(
        command=spec.command,
        action=spec.name,
        database=job.request.database,
        user=os.geteuid() if hasattr(os, "geteuid") else None,
        owner=_owner_uid(job.target.path) if hasattr(os, "geteuid") else None,
        state_free=shutil.disk_usage(job.state).free,
        paused=pause,
        linked_sqlite_vulnerable=is_vulnerable_version(apsw.sqlite_lib_version()),
        linked_sqlite=apsw.sqlite_lib_version(),
        database_free=None if spec.checks_own_space else shutil.disk_usage(job.target.path.parent).free,
        disk_reserve=job.target.limits.disk_reserve,
        content_lost=content_lost,
        automatic=_automatic_inputs(job, spec, now) if job.request.is_automatic else None,
    )


def find_content_loss(job: Job, spec: ActionSpec, store: apsw.Connection, raw: RawReader, now: float) -> str:
    """What of the database's content is gone, in words, where that forbids this run; else empty. Raises StoreUnavailable."""
    heeded = spec.heeds_content_loss == "always" or (
        spec.heeds_content_loss == "automatic" and job.request.is_automatic
    )
    if not heeded:
        return ""
    with translate_store_errors(job.state):
        memory = load_content_memory(store, job.request.database)
    snapshot = poll_database(
        job.target, remembered_snapshot(job.target, memory), now, raw, only=frozenset({content.NAME})
    )
    reading = snapshot.readings.get(content.NAME)
    loss = reading.great_loss if isinstance(reading, content.ContentReading) else None
    return "" if loss is None else loss.words


def _automatic_inputs(job: Job, spec: ActionSpec, now: float) -> AutomaticInputs:
    return AutomaticInputs(
        now=now,
        needs_window=spec.needs_window,
        window=job.window,
        fresh_backup=job.fresh_backup if spec.needs_fresh_backup else None,
        backup_age=_newest_backup_age(job.target, now) if spec.needs_fresh_backup else None,
    )


def _newest_backup_age(target: Target, now: float) -> float | None:
    newest = find_newest_verified(target)
    return None if newest is None or newest.manifest is None else now - newest.manifest.snapshot_time


def _owner_uid(path: Path) -> int:
    """The user who owns the database file; where there is none, the owner of its directory."""
    try:
        return path.stat().st_uid
    except FileNotFoundError:
        return path.parent.stat().st_uid
