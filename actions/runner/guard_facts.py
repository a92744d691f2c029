"""Gathers what the guards decide upon, for one run."""

import os
import shutil
from pathlib import Path

import apsw

from actions.runner.guards import AutomaticInputs, GuardInputs
from actions.runner.protocol import Job
from actions.spec import ActionSpec
from actions.store.database import translate_store_errors
from actions.store.pause import pause_reason
from collectors.backup_catalog.store import find_newest_verified
from collectors.owner import is_vulnerable_version
from collectors.target import Target


def gather_guard_inputs(job: Job, spec: ActionSpec, store: apsw.Connection, now: float) -> GuardInputs:
    """What the guards look at, as it is now. Raises OSError, StoreUnavailable."""
    with translate_store_errors(job.state):
        pause = pause_reason(store)
    return GuardInputs(
        command=spec.command,
        action=spec.name,
        database=job.request.database,
        user=os.geteuid() if hasattr(os, "geteuid") else None,
        owner=_owner_uid(job.target.path) if hasattr(os, "geteuid") and not _makes_new_file(job) else None,
        state_free=shutil.disk_usage(job.state).free,
        paused=pause,
        linked_sqlite_vulnerable=is_vulnerable_version(apsw.sqlite_lib_version()),
        linked_sqlite=apsw.sqlite_lib_version(),
        database_free=None if spec.checks_own_space else shutil.disk_usage(job.target.path.parent).free,
        disk_reserve=job.target.limits.disk_reserve,
        automatic=_automatic_inputs(job, spec, now) if job.request.is_automatic else None,
    )


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


def _makes_new_file(job: Job) -> bool:
    """Whether it restores to a new path where no database is: then no application has files that could be locked."""
    return job.request.options.get("to") is not None and not job.target.path.exists()


def _owner_uid(path: Path) -> int:
    """The user who owns the database file; where there is none, the owner of its directory."""
    try:
        return path.stat().st_uid
    except FileNotFoundError:
        return path.parent.stat().st_uid
