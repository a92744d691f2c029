"""`QueueBackup`: take, verify, restore, list and prune the backups of a database from Python."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from queuekeeper.child_call import (
    DatabaseReference,
    Options,
    RunAnswer,
    ask_child,
    existing_file,
    path_argument,
    run_action,
)

_MIB = 1024 * 1024
# The end of the year 9999, the last one of `datetime`, in seconds since the epoch.
_MAX_TIME = 253_402_300_800


class QueueBackupError(Exception):
    """A backup, a verification or a restore did not succeed; the message says why, and the next step."""


@dataclass(frozen=True, slots=True)
class BackupInfo:
    """One backup file. `created_at` (UTC): the time of its snapshot by the manifest, or else the time of the file."""

    path: Path
    size_bytes: int
    created_at: datetime

    @property
    def size_mb(self) -> float:
        """The size in MiB."""
        return self.size_bytes / _MIB

    @classmethod
    def from_path(cls, path: Path | str) -> "BackupInfo":
        """The backup in this file. Raises QueueBackupError when there is no such file."""
        file = Path(path) if isinstance(path, str | Path) else path_argument(path, QueueBackupError)
        status = existing_file(file, QueueBackupError).stat()
        created = _read_snapshot_time(file)
        return cls(file, status.st_size, datetime.fromtimestamp(status.st_mtime if created is None else created, UTC))


def _read_snapshot_time(backup: Path) -> float | None:
    """The snapshot time in the manifest beside this backup, in seconds since the epoch; None without a readable one.

    The only place outside the backup store that knows where a manifest is: to start a process for this one number would
    cost more than all else. A test holds the name to the store's.
    """
    name = backup.name.removesuffix(".zst").removesuffix(".db") + ".manifest.json"
    try:
        manifest = json.loads(backup.with_name(name).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    value = manifest.get("snapshot_time") if isinstance(manifest, dict) and manifest.get("format", 1) == 1 else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MAX_TIME:
        return None
    return float(value)


class QueueBackup:
    """Backups of one database in one directory, which is created. Safe to call from any thread.

    `backup_dir`: by default the directory `backups` beside the database. `state`: the directory of the history, by default the
    one of the command line. Every method raises QueueBackupError.
    """

    def __init__(self, path: Path | str, backup_dir: Path | str | None = None, state: Path | str | None = None) -> None:
        real = existing_file(path, QueueBackupError)
        default = real.parent / "backups"
        directory = default if backup_dir is None else path_argument(backup_dir, QueueBackupError)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise QueueBackupError(f"cannot create {directory}: {error.strerror}") from error
        history = None if state is None else path_argument(state, QueueBackupError)
        self._database = DatabaseReference(real, history, backup_directory=directory)

    def create_backup(self, name: str | None = None, *, full: bool = False) -> Path:
        """Take and verify a backup beside live writers; returns its path. `name` becomes part of the file's name.

        `full`: compare every page with what SQLite reads in the source, and record the digest of all content.
        """
        options: Options = {"full": full} if name is None else {"full": full, "name": name}
        return Path(str(self._run_action("backup", options).figures["path"]))

    def verify_backup(self, backup: Path | str) -> bool:
        """True when the content of the backup equals its manifest. Raises QueueBackupError when it does not."""
        self._run_action("verify", {"backup": str(path_argument(backup, QueueBackupError))})
        return True

    def restore_backup(self, backup: Path | str, target: Path | str | None = None) -> Path:
        """Restore to `target`, where no file may be, or (None) into the database itself; returns the restored path."""
        source = str(path_argument(backup, QueueBackupError))
        if target is None:
            self._run_action("restore", {"backup": source, "in_place": True})
            return self._database.path
        self._run_action("restore", {"backup": source, "to": str(path_argument(target, QueueBackupError))})
        return Path(target)

    def list_backups(self) -> list[BackupInfo]:
        """The backups of this database, newest first: in the order in which they were taken, whatever a clock said."""
        return [backup for backup, _ in self._list_with_use()]

    def get_latest_backup(self) -> BackupInfo | None:
        """The newest backup that was not proved damaged and is no safety copy of a restore, or None."""
        return next((backup for backup, is_usable in self._list_with_use() if is_usable), None)

    def cleanup_old_backups(self, keep_count: int = 10) -> int:
        """Keep the newest `keep_count` backups and delete the others; returns how many were deleted.

        What stays is read again first: for one that is damaged an older one stays.
        """
        if not isinstance(keep_count, int) or keep_count < 1:
            raise QueueBackupError("keep_count must be at least 1: the newest verified backup is never deleted")
        return int(self._run_action("prune", {"keep_last": keep_count}).figures.get("deleted") or 0)

    def _run_action(self, action: str, options: Options) -> RunAnswer:
        return run_action(self._database, action, options, QueueBackupError)

    def _list_with_use(self) -> list[tuple[BackupInfo, bool]]:
        """(backup, whether a restore may take it unasked), newest first."""
        rows = ask_child("backups", self._database, QueueBackupError)["backups"]
        return [
            (
                BackupInfo(Path(row["path"]), row["bytes"], datetime.fromtimestamp(row["snapshot_time"], UTC)),
                not row["is_safety"] and not row["is_damaged"],
            )
            for row in rows
        ]
