"""The backup store of a database, the side that reads: what every kind of store offers, and which kind a database has.

The one kind today is a local directory (local_directory.py); another kind is one more module beside it, chosen here.
Outside the stores a backup is known by its reference; who needs its bytes opens them with `open_local`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from collectors.backup_catalog.catalog import Backup, CatalogListing
from collectors.backup_catalog.local_directory import (
    LocalDirectoryCatalog,
    configured_place,
    find_described,
    manifest_path,
)
from collectors.backup_catalog.manifest import Manifest
from collectors.backup_catalog.names import is_own_name
from collectors.target import Target


class BackupCatalog(Protocol):
    """The backups of one database, to be read. Implemented by LocalDirectoryCatalog, which documents each method."""

    @property
    def location(self) -> str: ...
    def reference_of(self, name: str) -> str: ...
    def list_backups(self, before: CatalogListing | None = None, now: float = 0.0) -> CatalogListing: ...
    def has_backup(self, reference: str) -> bool: ...
    def stored_size(self, reference: str) -> int: ...
    def read_manifest(self, reference: str) -> Manifest: ...
    def open_local(self, reference: str) -> AbstractContextManager[Path]: ...
    def space_directory(self, now: float) -> Path | None: ...


def open_catalog(target: Target) -> BackupCatalog | None:
    """The catalog of a database; None where no place for its backups is known."""
    return None if target.backup is None else LocalDirectoryCatalog(target, *configured_place(target, target.backup))


def find_backups(target: Target) -> tuple[Backup, ...]:
    """The backups of a database now, by name; none where no place for them is known. Raises OSError."""
    catalog = open_catalog(target)
    backups = () if catalog is None else catalog.list_backups().backups.values()
    return tuple(sorted(backups, key=lambda backup: backup.name))


def backup_location(target: Target) -> str | None:
    """Where the backups of a database go, for people; None where no place is known."""
    catalog = open_catalog(target)
    return None if catalog is None else catalog.location


def find_described_backups(location: str) -> Iterator[Backup]:
    """The backups of any database at this place that have a manifest, judged by it alone: their databases are not here."""
    return find_described(Path(location))


def is_described_backup(reference: str) -> bool:
    """Whether this names a backup of ours with its manifest beside it."""
    return is_own_name(Path(reference).name) and manifest_path(Path(reference)).exists()
