"""Reads a stored backup again and compares it with its manifest, gently: block by block, with rests, at a low priority.

It is read from the disk and not from the page cache, which may hold what the disk has lost; and it leaves the cache to the
application (posix_fadvise(2), POSIX_FADV_DONTNEED).
"""

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from actions.backups.proof_record import record_damage, record_intact, shows_damage
from actions.backups.select import prove_backup_contents
from actions.backups.store import SelectedBackup
from actions.model.context import ActionContext
from actions.model.errors import Unverified
from actions.sqlite.low_priority import lower_priority

BLOCK = 8 * 1024 * 1024
# After each block the disk is left alone for as long as reading it took, and no longer than this, in seconds.
LONGEST_REST = 0.1

SHOWN_DIGITS = 12

CopyState = Literal["intact", "damaged", "unreadable"]


@dataclass(frozen=True, slots=True)
class CopyVerdict:
    """What reading one stored backup again showed. `unreadable` is no proof of damage and none of health.

    `why`: what is wrong, in words. `bytes_read`: of the stored file. `recorded`: it is written in its manifest.
    """

    name: str
    state: CopyState
    why: str = ""
    bytes_read: int = 0
    recorded: bool = True

    def as_sentence(self) -> str:
        """The verdict in words, for people."""
        unrecorded = "" if self.recorded else " (its manifest could not be written)"
        return f"{self.name}: {self.state}{f' ({self.why})' if self.why else ''}{unrecorded}"


def check_stored_copy(context: ActionContext, backup: SelectedBackup) -> CopyVerdict:
    """Read a backup as it is stored, and record in its manifest what that shows. Raises Cancelled, Interrupted.

    The checksum says whether it is what was proved when it was taken. One that counts as proved no longer is proved whole.
    """
    try:
        why, size = _compare_stored(context, backup)
    except OSError as error:
        return CopyVerdict(backup.name, "unreadable", error.strerror or str(error))
    if not why and backup.manifest.verified_time is None:
        return _prove_again(context, backup, size)
    if why:
        return CopyVerdict(backup.name, "damaged", why, size, record_damage(context, backup, why))
    return CopyVerdict(backup.name, "intact", "", size, record_intact(context, backup))


def _compare_stored(context: ActionContext, backup: SelectedBackup) -> tuple[str, int]:
    """What differs from the manifest, empty when nothing does; and the bytes that were read. Raises OSError."""
    with backup.store.open_local(backup.reference) as stored:
        size = stored.stat().st_size
        if size != backup.manifest.bytes:
            return f"it has {size} bytes, its manifest says {backup.manifest.bytes}", 0
        digest = hashlib.sha256()
        with lower_priority():
            for block in _read_paced(context, stored):
                digest.update(block)
    if digest.hexdigest() == backup.manifest.sha256:
        return "", size
    is_now, was = digest.hexdigest()[:SHOWN_DIGITS], backup.manifest.sha256[:SHOWN_DIGITS]
    return f"its bytes changed: its SHA-256 is {is_now}..., its manifest says {was}...", size


def _prove_again(context: ActionContext, backup: SelectedBackup, size: int) -> CopyVerdict:
    try:
        prove_backup_contents(context, backup)
    except Unverified as error:
        if not shows_damage(error):
            return CopyVerdict(backup.name, "unreadable", str(error), size)
        return CopyVerdict(backup.name, "damaged", str(error), size, record_damage(context, backup, str(error)))
    except OSError as error:
        return CopyVerdict(backup.name, "unreadable", error.strerror or str(error), size)
    return CopyVerdict(backup.name, "intact", "", size, record_intact(context, backup))


def _read_paced(context: ActionContext, stored: Path) -> Iterator[bytes]:
    """The blocks of a file, each from the disk; it may be stopped between any two."""
    with stored.open("rb", buffering=0) as file:
        _forget_cached(file.fileno())
        while True:
            context.stop.raise_if_requested()
            started = time.monotonic()
            block = file.read(BLOCK)
            if not block:
                return
            yield block
            _forget_cached(file.fileno())
            context.stop.wait_for_stop(min(LONGEST_REST, time.monotonic() - started))


def _forget_cached(descriptor: int) -> None:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
