"""Gathers what the guards decide upon, for one run."""

import os
import shutil
from pathlib import Path

import apsw

from actions.registry import Action
from actions.runner.guards import AutomaticInputs, GuardInputs
from actions.runner.protocol import Job
from actions.store.database import translate_store_errors
from actions.store.pause import pause_reason
from collectors.backup_catalog.store import find_newest_verified
from collectors.owner import is_vulnerable_version
from collectors.target import Target

# These see to their room themselves, give some back, or write nothing beside the database. Every other action writes to
# the WAL; one that is added is guarded until it is named here.
_CHECKS_OWN_SPACE = frozenset({"backup", "checkpoint", "drill", "integrity", "prune", "restore", "vacuum", "verify"})


def gather_guard_inputs(job: Job, action: Action, store: apsw.Connection, now: float) -> GuardInputs:
    """The facts now. Raises OSError, StoreUnavailable."""
    with translate_store_errors(job.state):
        since = pause_reason(store)
    return GuardInputs(
        action=action.NAME,
        database=job.request.database,
        user=os.geteuid() if hasattr(os, "geteuid") else None,
        owner=_owner_uid(job.target.path) if hasattr(os, "geteuid") else None,
        state_free=shutil.disk_usage(job.state).free,
        paused=since,
        linked_sqlite_vulnerable=is_vulnerable_version(apsw.sqlite_lib_version()),
        linked_sqlite=apsw.sqlite_lib_version(),
        database_free=None if action.NAME in _CHECKS_OWN_SPACE else shutil.disk_usage(job.target.path.parent).free,
        disk_reserve=job.target.limits.disk_reserve,
        automatic=_automatic_inputs(job, action, now) if job.request.is_automatic else None,
    )


def _automatic_inputs(job: Job, action: Action, now: float) -> AutomaticInputs:
    return AutomaticInputs(
        now=now,
        windowed=action.WINDOWED,
        window=job.window,
        fresh_backup=job.fresh_backup if action.DESTRUCTIVE else None,
        backup_age=_newest_backup_age(job.target, now) if action.DESTRUCTIVE else None,
    )


def _newest_backup_age(target: Target, now: float) -> float | None:
    newest = find_newest_verified(target)
    return None if newest is None or newest.manifest is None else now - newest.manifest.snapshot_time


def _owner_uid(path: Path) -> int:
    """Whose the database is; of a missing one, whose its directory is."""
    try:
        return path.stat().st_uid
    except FileNotFoundError:
        return path.parent.stat().st_uid
