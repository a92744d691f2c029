"""`QueueBackup`: backups from Python, by the names of the original queue utilities, over the same door as everything else."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from actions.model.request import Option
from actions.python_api.door_call import call
from actions.store.database import default_state_directory
from collectors.backup_catalog.catalog import Backup, find_backups
from collectors.backup_catalog.manifest import ManifestError, belongs_to, manifest_path, read_manifest
from collectors.target import BackupSettings, Target

MIB = 1024 * 1024


class QueueBackupError(Exception):
    """A backup, a proof or a restore that did not succeed; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class BackupInfo:
    """One backup. `created_at`: of its snapshot where a manifest tells it, else of the file; UTC."""

    path: Path
    size_bytes: int
    created_at: datetime

    @property
    def size_mb(self) -> float:
        """The size in MiB, for people."""
        return self.size_bytes / MIB

    @classmethod
    def from_path(cls, path: Path | str) -> "BackupInfo":
        """The backup in this file. Raises QueueBackupError when there is none."""
        place = Path(path)
        try:
            found = place.stat()
        except FileNotFoundError:
            raise QueueBackupError(f"{place} not found") from None
        try:
            created = read_manifest(manifest_path(place)).snapshot_time
        except (OSError, ManifestError):
            created = found.st_mtime
        return cls(place, found.st_size, datetime.fromtimestamp(created, UTC))


class QueueBackup:
    """Backups of one database in one directory (default: `backups` beside it), which is created. Safe from any thread."""

    def __init__(self, path: Path | str, backup_dir: Path | str | None = None, state: Path | None = None) -> None:
        real = Path(path).resolve()
        if not real.exists():
            raise QueueBackupError(f"{path} not found")
        directory = Path(backup_dir).absolute() if backup_dir is not None else real.parent / "backups"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise QueueBackupError(f"cannot create {directory}: {error.strerror}") from error
        place = BackupSettings(directory, own_folder=False)
        self._target = Target(name=real.stem, path=real, backup=place, state=state or default_state_directory())

    def create_backup(self, name: str | None = None) -> Path:
        """Take and prove a backup beside live writers; where it is. Raises QueueBackupError."""
        ended = call(self._target, "backup", _given(name=name), QueueBackupError)
        return Path(str(ended.figures["path"]))

    def verify_backup(self, backup: Path | str) -> bool:
        """True when the backup is proved. Raises QueueBackupError when it is not."""
        call(self._target, "verify", {"backup": str(Path(backup).absolute())}, QueueBackupError)
        return True

    def restore_backup(self, backup: Path | str, target: Path | str | None = None) -> Path:
        """Restore to `target`, where nothing may be, or (None) into the database itself. Raises QueueBackupError."""
        where: dict[str, Option] = {"in_place": True} if target is None else {"to": str(Path(target).absolute())}
        call(self._target, "restore", {"backup": str(Path(backup).absolute()), **where}, QueueBackupError)
        return self._target.path if target is None else Path(target)

    def list_backups(self) -> list[BackupInfo]:
        """The backups of this database, newest first."""
        return [info for info, _ in self._own()]

    def get_latest_backup(self) -> BackupInfo | None:
        """The newest one that is not a safety copy, or None."""
        return next((info for info, backup in self._own() if not backup.is_safety), None)

    def cleanup_old_backups(self, keep_count: int = 10) -> int:
        """Keep the newest `keep_count`; how many were deleted. Raises QueueBackupError."""
        if keep_count < 1:
            raise QueueBackupError("keep_count must be at least 1: the newest verified backup is never deleted")
        ended = call(self._target, "prune", {"keep_last": keep_count}, QueueBackupError)
        return int(ended.figures.get("deleted") or 0)

    def _own(self) -> list[tuple[BackupInfo, Backup]]:
        """Newest first, by what one look found: another thread may delete any of them meanwhile."""
        own = [
            (BackupInfo(backup.path, backup.size, datetime.fromtimestamp(backup.manifest.snapshot_time, UTC)), backup)
            for backup in find_backups(self._target)
            if backup.manifest is not None and belongs_to(backup.manifest, self._target)
        ]
        return sorted(own, key=lambda found: found[0].created_at, reverse=True)


def _given(**options: Option) -> dict[str, Option]:
    return {name: value for name, value in options.items() if value is not None}
