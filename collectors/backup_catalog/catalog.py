"""Which files are backups of a database, and what each of them is worth. Never touches a database.

Ours have a manifest beside them. What somebody else's job put there (`cp`, `.backup`, VACUUM INTO) is listed too, as
unverified: nobody proved it, and it is never deleted.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Literal

from collectors.backup_catalog.manifest import Manifest, ManifestError, belongs_to, manifest_path, read_manifest
from collectors.target import BackupSettings, Target

BackupState = Literal["verified", "unverified", "failed"]
BACKUP_STATES: tuple[BackupState, ...] = ("verified", "unverified", "failed")
# Name of a file's change: modification time, size and inode, of the backup and of its manifest.
Signature = tuple[int, ...]

_OWN_NAME = re.compile(r"queue_backup_.*\.db(\.zst)?")
_FOREIGN_NAME = re.compile(r".*\.(db|sqlite[^.]*)")
_SIDECAR_SUFFIXES = ("-wal", "-shm", "-journal")
# Two changes of a directory within one tick of a clock show as one (inode(7)): only an older time stamp is trusted.
SETTLED_AFTER = 2.0


@dataclass(frozen=True, slots=True)
class Backup:
    """One file. `manifest` is None without a readable one."""

    path: Path
    size: int
    state: BackupState
    manifest: Manifest | None
    signature: Signature

    @property
    def is_safety(self) -> bool:
        """Taken before a restore: it holds what somebody chose to leave behind."""
        return self.manifest is not None and self.manifest.kind == "safety"


@dataclass(frozen=True, slots=True)
class FolderListing:
    """The backups in one directory, and the state of the directory in which they were found; () is never the same."""

    paths: tuple[Path, ...] = ()
    directory: Signature = ()


def find_backups(target: Target) -> tuple[Backup, ...]:
    """The backups of a target now, oldest name first, for those who act on them. Raises OSError."""
    listings = {folder: list_folder(folder, target, None, 0.0) for folder in backup_folders(target)}
    return tuple(sorted(assess_backups(target, listings, {}), key=lambda backup: backup.path.name))


def newest_verified(target: Target) -> Backup | None:
    """The proved backup with the newest snapshot, safety copies left out. Raises OSError."""
    proved = [backup for backup in find_backups(target) if backup.state == "verified" and not backup.is_safety]
    return max(proved, key=lambda backup: backup.manifest.snapshot_time if backup.manifest else 0.0, default=None)


def backup_folders(target: Target) -> tuple[Path, ...]:
    """Where backups of this database may lie: its own folder, and the one above it, where another's job may put some."""
    if target.backup is None:
        return ()
    own = target.backup.database_folder(target.name)
    return (own, target.backup.directory) if own != target.backup.directory else (own,)


def list_folder(folder: Path, target: Target, before: FolderListing | None, now: float) -> FolderListing:
    """The backups of this database in one directory; `before` when the directory did not change. Raises OSError.

    A folder that is not made yet holds none. `now`: seconds since the epoch.
    """
    try:
        found = folder.stat()
    except FileNotFoundError:
        return FolderListing()
    settled = 0 < found.st_mtime < now - SETTLED_AFTER
    signature = (found.st_mtime_ns, found.st_ino, found.st_dev) if settled else ()
    if before is not None and before.directory and before.directory == signature:
        return before
    own = target.backup is not None and _is_own_folder(folder, target, target.backup)
    return FolderListing(tuple(sorted(p for p in folder.iterdir() if _is_backup_name(p, target, own))), signature)


def assess_backups(
    target: Target, listings: Mapping[Path, FolderListing], before: Mapping[Path, Backup]
) -> Iterator[Backup]:
    """What each file is worth; one whose stat and whose manifest's stat are as `before` is not read again."""
    for found in listings.values():
        for path in found.paths:
            backup = _assess_file(path, target, before.get(path))
            if backup is not None:
                yield backup


def _is_own_folder(folder: Path, target: Target, place: BackupSettings) -> bool:
    return place.own_folder and folder == place.database_folder(target.name)


def _is_backup_name(path: Path, target: Target, own: bool) -> bool:
    """Whether to list this name. Beside other databases' files, a stranger's counts when it names this database."""
    name = path.name
    if name.startswith(".") or name.endswith(_SIDECAR_SUFFIXES) or path == target.path:
        return False
    if _OWN_NAME.fullmatch(name):
        return own or target.backup is None or not target.backup.own_folder
    return bool(_FOREIGN_NAME.fullmatch(name)) and (own or _mentions_database(name, target))


def _mentions_database(name: str, target: Target) -> bool:
    words = "|".join(re.escape(word) for word in {target.path.stem, Path(target.name).name})
    return bool(re.search(rf"(?<![^\W_])({words})(?![^\W_])", name))


def _assess_file(path: Path, target: Target, before: Backup | None) -> Backup | None:
    """None for what was removed while we looked, or is no file, or is the database itself under another name."""
    try:
        found = path.stat()
        signature = _file_signature(path) + _file_signature(manifest_path(path))
    except FileNotFoundError:
        return None
    if before is not None and before.signature == signature:
        return before
    if not S_ISREG(found.st_mode) or _is_live_database(found, target):
        return None
    state, manifest = _assess_manifest(path, found.st_size, target)
    return Backup(path, found.st_size, state, manifest, signature)


def _is_live_database(found: os.stat_result, target: Target) -> bool:
    """By what was found already: a file may be deleted while we look."""
    try:
        return os.path.samestat(found, target.path.stat())
    except FileNotFoundError:
        return False


def _assess_manifest(path: Path, size: int, target: Target) -> tuple[BackupState, Manifest | None]:
    try:
        manifest = read_manifest(manifest_path(path))
    except FileNotFoundError:
        return "unverified", None
    except ManifestError:
        return "failed", None
    if not belongs_to(manifest, target):
        return "unverified", manifest
    if manifest.bytes != size:
        return "failed", manifest
    return ("unverified" if manifest.verified_time is None else "verified"), manifest


def _file_signature(path: Path) -> Signature:
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino
