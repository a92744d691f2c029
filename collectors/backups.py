"""Which backups there are, and how old the newest proved one is. Reads the backup folder only, never the live file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from collectors.manifest import Manifest, ManifestError, is_of, manifest_path, read_manifest
from collectors.metric import Metric, Sample, Since
from collectors.reading.look import Look
from collectors.target import Target

NAME = "backups"
NEEDS_DATABASE = False

LAST_SUCCESS = Metric(
    "sqlite_backup_last_success_timestamp_seconds",
    "Snapshot time of the newest verified backup, in seconds since the epoch (its manifest).",
)
AGE = Metric("sqlite_backup_age_seconds", "Seconds since the snapshot of the newest verified backup (its manifest).")
LAST_VERIFIED = Metric(
    "sqlite_backup_last_verified_timestamp_seconds",
    "When the content of a backup was last proved, in seconds since the epoch (manifests).",
)
LAST_SIZE = Metric("sqlite_backup_last_size_bytes", "Size in bytes of the newest verified backup (its manifest).")
LAST_DURATION = Metric(
    "sqlite_backup_last_duration_seconds",
    "Seconds from the snapshot to the end of the newest verified backup (its manifest).",
)
COUNT = Metric(
    "sqlite_backups",
    "Backups in the folder: verified, unverified (no manifest, another database's, never proved), failed (damaged).",
    ("state",),
    fold="sum",
)
SIZES = Metric("sqlite_backups_size_bytes", "Bytes of all backups in this state (stat).", ("state",), fold="sum")
METRICS = (LAST_SUCCESS, AGE, LAST_VERIFIED, LAST_SIZE, LAST_DURATION, COUNT, SIZES)

State = Literal["verified", "unverified", "failed"]
STATES: tuple[State, ...] = ("verified", "unverified", "failed")
# Name of a file's change: modification time, size and inode, of the backup and of its manifest.
Signature = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Backup:
    """One file. `manifest` is None without a readable one."""

    path: Path
    size: int
    state: State
    manifest: Manifest | None
    signature: Signature


@dataclass(frozen=True, slots=True)
class Backups:
    """What lies in the folder. `configured` is false where no place for backups is known."""

    configured: bool = False
    found: Mapping[str, Backup] = field(default_factory=dict)

    @property
    def newest(self) -> Manifest | None:
        """The verified backup with the newest snapshot."""
        return max(self.verified(), key=lambda manifest: manifest.snapshot_time, default=None)

    def verified(self) -> Iterator[Manifest]:
        """The manifests of all verified backups."""
        return (b.manifest for b in self.found.values() if b.state == "verified" and b.manifest is not None)


def read(look: Look, previous: Backups | None) -> Backups:
    """List the folder; a manifest that did not change is not read again. Raises OSError."""
    if look.target.backup is None:
        return Backups()
    before = previous.found if previous else {}
    folder = look.target.backup.folder(look.target.name)
    found = (_backup(path, look.target, before.get(path.name)) for path in _files(folder))
    return Backups(configured=True, found={backup.path.name: backup for backup in found if backup is not None})


def samples(reading: Backups) -> Iterator[Sample]:
    """Counts always, times only when there is a verified backup."""
    if not reading.configured:
        return
    for state in STATES:
        sizes = [backup.size for backup in reading.found.values() if backup.state == state]
        yield COUNT(len(sizes), state)
        yield SIZES(sum(sizes), state)
    newest = reading.newest
    if newest is None:
        return
    yield LAST_SUCCESS(newest.snapshot_time)
    yield AGE(Since(newest.snapshot_time))
    yield LAST_VERIFIED(max(manifest.verified_time or 0.0 for manifest in reading.verified()))
    yield LAST_SIZE(newest.bytes)
    yield LAST_DURATION(max(0.0, newest.finished_time - newest.snapshot_time))


def listed(target: Target) -> tuple[Backup, ...]:
    """The backups of a target now, oldest name first, for those who act on them. Raises OSError."""
    if target.backup is None:
        return ()
    found = (_backup(path, target, None) for path in _files(target.backup.folder(target.name)))
    return tuple(backup for backup in found if backup is not None)


def _files(folder: Path) -> list[Path]:
    """The published backups; partial files start with a dot. A folder that is not made yet holds none."""
    if not folder.is_dir():
        return []
    return sorted(
        p for p in folder.iterdir() if p.name.startswith("queue_backup_") and p.name.endswith((".db", ".db.zst"))
    )


def _backup(path: Path, target: Target, before: Backup | None) -> Backup | None:
    """None for a file that was removed while we looked."""
    try:
        size, signature = path.stat().st_size, _signature(path) + _signature(manifest_path(path))
    except FileNotFoundError:
        return None
    if before is not None and before.signature == signature:
        return before
    state, manifest = _judge(path, size, target)
    return Backup(path, size, state, manifest, signature)


def _judge(path: Path, size: int, target: Target) -> tuple[State, Manifest | None]:
    try:
        manifest = read_manifest(manifest_path(path))
    except FileNotFoundError:
        return "unverified", None
    except ManifestError:
        return "failed", None
    if not is_of(manifest, target):
        return "unverified", manifest
    if manifest.bytes != size:
        return "failed", manifest
    return ("unverified" if manifest.verified_time is None else "verified"), manifest


def _signature(path: Path) -> Signature:
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino
