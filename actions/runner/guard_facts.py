"""Gathers what the guards decide upon, for one run."""

import os
import shutil
from pathlib import Path

import apsw

from actions.registry import Action
from actions.runner.guards import Automatic, Facts
from actions.runner.protocol import Job
from actions.store.database import recording
from actions.store.pause import paused
from collectors.backup_catalog.catalog import newest_verified
from collectors.owner import vulnerable
from collectors.target import Target

# These see to their room themselves, give some back, or write nothing beside the database. Every other action writes to
# the WAL; one that is added is guarded until it is named here.
_OWN_ROOM = frozenset({"backup", "checkpoint", "drill", "integrity", "prune", "restore", "vacuum", "verify"})


def gather(job: Job, action: Action, store: apsw.Connection, now: float) -> Facts:
    """The facts now. Raises OSError, StoreUnavailable."""
    with recording(job.state):
        since = paused(store)
    return Facts(
        action=action.NAME,
        database=job.request.database,
        user=os.geteuid() if hasattr(os, "geteuid") else None,
        owner=_owner(job.target.path) if hasattr(os, "geteuid") else None,
        state_free=shutil.disk_usage(job.state).free,
        paused=since,
        linked_sqlite_vulnerable=vulnerable(apsw.sqlite_lib_version()),
        linked_sqlite=apsw.sqlite_lib_version(),
        database_free=None if action.NAME in _OWN_ROOM else shutil.disk_usage(job.target.path.parent).free,
        disk_reserve=job.target.limits.disk_reserve,
        automatic=_automatic(job, action, now) if job.request.automatic else None,
    )


def _automatic(job: Job, action: Action, now: float) -> Automatic:
    return Automatic(
        now=now,
        windowed=action.WINDOWED,
        window=job.window,
        fresh_backup=job.fresh_backup if action.DESTRUCTIVE else None,
        backup_age=_backup_age(job.target, now) if action.DESTRUCTIVE else None,
    )


def _backup_age(target: Target, now: float) -> float | None:
    newest = newest_verified(target)
    return None if newest is None or newest.manifest is None else now - newest.manifest.snapshot_time


def _owner(path: Path) -> int:
    """Whose the database is; of a missing one, whose its directory is."""
    try:
        return path.stat().st_uid
    except FileNotFoundError:
        return path.parent.stat().st_uid
