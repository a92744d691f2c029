"""The backup store of a database, the side that reads: what every kind of store offers, and which kind a database has.

The one kind today is a local directory (local_directory.py); another kind is one more module beside it, chosen here.
Outside the stores a backup is known by its reference; who needs its bytes opens them with `open_local`.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from collectors.backup_catalog.catalog import Backup, CatalogListing
from collectors.backup_catalog.local_directory import LocalDirectoryCatalog, configured_place, manifest_path
from collectors.backup_catalog.local_sources import find_sources
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


@dataclass(frozen=True, slots=True)
class NamedFolder:
    """A folder of backups that a person named. `sources`: the verified backups, newest first, by their database's path."""

    location: str
    sources: Mapping[str, Sequence[Backup]]


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


def open_named_folder(target: Target, now: float) -> NamedFolder | None:
    """The backups of every database in the folder that a person named for this one; None where the folder is configured."""
    settings = target.backup
    if settings is None or settings.own_folder:
        return None
    return NamedFolder(str(settings.directory), find_sources(settings.directory, now))


def is_backup_with_manifest(path: Path) -> bool:
    """Whether a path that a person gave is a backup of ours with its manifest beside it."""
    return is_own_name(path.name) and manifest_path(path).exists()
