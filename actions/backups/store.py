"""The backup store of a database, the side that writes: what an action may do with it, and which kind a database has.

The side that reads is collectors/backup_catalog/store.py. The one kind today is a local directory (local_directory.py);
another kind is one more module beside it, chosen here.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from actions.backups.content_proof import DatabaseContents
from actions.backups.local_directory import LocalDirectoryStore
from actions.model.context import ActionContext
from actions.model.errors import Refused
from collectors.backup_catalog.local_directory import configured_place, place_of
from collectors.backup_catalog.manifest import Manifest
from collectors.backup_catalog.names import reference_name
from collectors.backup_catalog.order import is_future_time
from collectors.backup_catalog.store import BackupCatalog

# Room for a manifest; one of a few hundred tables is smaller.
MANIFEST_BYTES = 64 * 1024


class BackupStore(BackupCatalog, Protocol):
    """The backups of one database, to be changed. Implemented by LocalDirectoryStore, which documents each method."""

    @property
    def draft_directory(self) -> Path: ...
    def prepare_location(self) -> int: ...
    def require_space(self, needed: int, reserve: int, what: str) -> None: ...
    def require_writable(self, what: str, next_step: str) -> None: ...
    def create_draft(self, name: str) -> AbstractContextManager[Path]: ...
    def publish_draft(self, draft: Path, name: str) -> str: ...
    def write_manifest(self, reference: str, manifest: Manifest) -> None: ...
    def orphaned_manifests(self) -> list[str]: ...
    def delete_backup(self, reference: str) -> int: ...
    def sync_deletions(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SelectedBackup:
    """A backup that an action works with: its store, what options and messages call it, and its manifest."""

    store: BackupStore
    reference: str
    manifest: Manifest

    @property
    def name(self) -> str:
        """Its file name, for messages."""
        return reference_name(self.reference)

    @property
    def expected_contents(self) -> DatabaseContents:
        """What its database must hold."""
        manifest = self.manifest
        return DatabaseContents(manifest.page_size, manifest.pages, manifest.schema_sha256, manifest.row_counts)

    def age_at(self, now: float) -> float | None:
        """Seconds since its snapshot; None where that lies in the future, since a clock was wrong."""
        if is_future_time(self.manifest.snapshot_time, now):
            return None
        return max(0.0, now - self.manifest.snapshot_time)

    @property
    def plain_bytes(self) -> int:
        """Its size as a database file, in bytes."""
        return self.manifest.page_size * self.manifest.pages


def open_store(context: ActionContext, option: str) -> BackupStore:
    """The store of the target. Raises Refused where no place is known; `option` of the command line names one."""
    settings = context.target.backup
    if settings is None:
        raise Refused(
            "no backup directory is known",
            reason="no_directory",
            next_step=f"give {option} DIR, or backup.directory in the configuration",
        )
    return LocalDirectoryStore(context.target, *configured_place(context.target, settings))


def open_store_of(context: ActionContext, reference: str) -> BackupStore:
    """The store that the backup of this reference lies in, whether it is the configured one or not."""
    return LocalDirectoryStore(context.target, *place_of(reference))


def open_folder_store(context: ActionContext, folder: Path) -> BackupStore:
    """The store of the target directly in this directory, which a person named."""
    return LocalDirectoryStore(context.target, folder)
