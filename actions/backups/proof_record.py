"""Writes into the manifest of a backup what a proof of it showed: that it is intact, or that it is damaged.

Only what was read counts. An error of reading (EIO, EACCES, no memory) shows neither, so nothing is written then.
"""

from dataclasses import replace

import apsw
import zstandard

from actions.backups.store import SelectedBackup
from actions.model.context import ActionContext
from actions.model.errors import Unverified

# What SQLite and zstd raise for content that is wrong; every other cause of an Unverified is an error of reading it.
_DAMAGE_CAUSES = (apsw.CorruptError, apsw.NotADBError, zstandard.ZstdError)


def shows_damage(error: Unverified) -> bool:
    """Whether a proof that failed like this shows that the backup is damaged, and not only that it could not be read."""
    return error.__cause__ is None or isinstance(error.__cause__, _DAMAGE_CAUSES)


def write_intact(context: ActionContext, backup: SelectedBackup) -> None:
    """Date the proof that just succeeded, and take back a damage recorded before. Raises OSError."""
    manifest = replace(backup.manifest, verified_time=context.now(), damaged_time=None, damage="")
    backup.store.write_manifest(backup.reference, manifest)


def record_intact(context: ActionContext, backup: SelectedBackup) -> bool:
    """Like `write_intact`; whether it could be written."""
    try:
        write_intact(context, backup)
    except OSError:
        return False
    return True


def record_damage(context: ActionContext, backup: SelectedBackup, why: str) -> bool:
    """Record that the backup is damaged, and how: it counts as failed from now on; whether it could be written.

    Its `verified_time` is withdrawn: a version that does not know of damage must not take it for a good one.
    """
    manifest = replace(backup.manifest, verified_time=None, damaged_time=context.now(), damage=why)
    return _try_writing(replace(backup, manifest=manifest))


def withdraw_verification(backup: SelectedBackup) -> bool:
    """Record that nothing proves the backup any longer; whether it could be written."""
    return _try_writing(replace(backup, manifest=replace(backup.manifest, verified_time=None)))


def _try_writing(backup: SelectedBackup) -> bool:
    """The caller's own result is told also where the store cannot be written."""
    try:
        backup.store.write_manifest(backup.reference, backup.manifest)
    except OSError:
        return False
    return True
