"""A backup store in local directories, the side that reads: the one module that knows where a backup's file lies.

`DIRECTORY/DATABASE/NAME` when a directory is configured; a directory given on a command line is used as it is. The side
that writes is actions/backups/local_directory.py. Nothing here touches a database.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG

from collectors.backup_catalog.catalog import Backup, BackupState, CatalogListing, assess_backup
from collectors.backup_catalog.manifest import Manifest, ManifestError, ManifestOfOtherFile, decode_manifest
from collectors.backup_catalog.names import (
    MANIFEST_SUFFIX,
    PREFIX,
    has_word,
    is_compressed_name,
    is_database_name,
    is_own_name,
    manifest_name,
    names_described_by,
)
from collectors.target import BackupSettings, Target

_SIDECAR_SUFFIXES = ("-wal", "-shm", "-journal")
# A folder of backups itself, DIRECTORY/DATABASE as it is configured, and a database whose name has a folder in it.
_DEPTHS = ("", "*/", "*/*/")
# Two changes of a directory within one tick of a clock show as one (inode(7)): only an older time stamp is trusted.
SETTLED_AFTER = 2.0
# A directory that becomes a mount point is noticed after this time at most, in seconds.
MOUNTS_CHECKED_EVERY = 60.0
# A file's modification time, size and inode; a directory's modification time, inode and device; () is never the same.
_Signature = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FolderListing:
    """The names of the backups in one directory, and the signature of the directory when they were listed."""

    names: tuple[str, ...] = ()
    directory: _Signature = ()


@dataclass(frozen=True)
class LocalDirectoryCatalog:
    """The backups of `target` in `folder`. `dedicated`: the folder holds backups of this database only.

    `upper` is the directory above a dedicated folder, where another tool may put copies; None where it is not looked at.
    """

    target: Target
    folder: Path
    dedicated: bool = False
    upper: Path | None = None

    @property
    def location(self) -> str:
        """The directory, for people and figures."""
        return str(self.folder)

    def reference_of(self, name: str) -> str:
        """What a backup of this name in this store is called by options and messages."""
        return str(self.folder / name)

    def list_backups(self, before: CatalogListing | None = None, now: float = 0.0) -> CatalogListing:
        """List the backups; directories and manifests that did not change since `before` are not read again.

        `now`: seconds since the epoch. Raises OSError.
        """
        previous = before or CatalogListing()
        cursor = previous.cursor if isinstance(previous.cursor, dict) else {}
        folders = [self.folder] if self.upper is None else [self.folder, self.upper]
        listings = {folder: self._list_folder(folder, cursor.get(folder), now) for folder in folders}
        return CatalogListing({b.reference: b for b in self._assess(listings, previous.backups)}, listings)

    def has_backup(self, reference: str) -> bool:
        """Whether there is a file of this reference."""
        return Path(reference).is_file()

    def stored_size(self, reference: str) -> int:
        """The bytes of the file as it lies there. Raises OSError."""
        return Path(reference).stat().st_size

    def read_manifest(self, reference: str) -> Manifest:
        """Read the manifest of a backup. Raises ManifestError, OSError."""
        return _read_manifest_of(Path(reference))

    @contextmanager
    def open_local(self, reference: str) -> Iterator[Path]:
        """Give a local file with the bytes of the backup as they are stored, readable inside the block."""
        yield Path(reference)

    def space_directory(self, now: float) -> Path | None:
        """A directory, perhaps not made yet, on the file system that new backups fill; None in a store that is not local.

        Databases with a common directory get that one, so that its free space is read once for all. Raises OSError.
        """
        if self.upper is None:
            return self.folder
        return _space_directory(self.folder, self.upper, int(now / MOUNTS_CHECKED_EVERY))

    def _list_folder(self, folder: Path, before: FolderListing | None, now: float) -> FolderListing:
        """A folder that is not made yet holds none; `before` when the directory did not change."""
        try:
            status = folder.stat()
        except FileNotFoundError:
            return FolderListing()
        settled = 0 < status.st_mtime < now - SETTLED_AFTER
        signature = (status.st_mtime_ns, status.st_ino, status.st_dev) if settled else ()
        if before is not None and before.directory and before.directory == signature:
            return before
        own = self.dedicated and folder == self.folder
        names = (path.name for path in folder.iterdir() if self._is_backup(path, own))
        return FolderListing(tuple(sorted(names)), signature)

    def _is_backup(self, path: Path, own: bool) -> bool:
        """Whether to list this name. Beside other databases' files, a foreign copy counts when it names this database."""
        name = path.name
        if name.startswith(".") or name.endswith(_SIDECAR_SUFFIXES) or path == self.target.path:
            return False
        if is_own_name(name):
            return own or not self.dedicated
        words = {self.target.path.stem, Path(self.target.name).name}
        return is_database_name(name) and (own or has_word(name, words))

    def _assess(self, listings: Mapping[Path, FolderListing], before: Mapping[str, Backup]) -> Iterator[Backup]:
        """What each file is worth; one whose stat and whose manifest's stat are as `before` is not read again."""
        for folder, listing in listings.items():
            for name in listing.names:
                path = folder / name
                backup = self._assess_file(path, before.get(str(path)))
                if backup is not None:
                    yield backup

    def _assess_file(self, path: Path, before: Backup | None) -> Backup | None:
        """None for what was removed since the listing, is no file, or is the database itself under another name."""
        try:
            status = path.stat()
            manifest_signature = _file_signature(manifest_path(path))
            signature = _file_signature(path) + manifest_signature
        except FileNotFoundError:
            return None
        if before is not None and before.signature == signature:
            return before
        if not S_ISREG(status.st_mode) or self._is_live_database(status):
            return None
        state, manifest = assess_backup(lambda: _read_manifest_of(path), status.st_size, self.target)
        if state == "unverified" and manifest is None and manifest_signature:
            signature = ()  # it could not be read at the moment: it is tried again at the next listing
        return Backup(path.name, str(path), status.st_size, status.st_mtime, state, manifest, signature)

    def _is_live_database(self, status: os.stat_result) -> bool:
        """By the stat taken before: a file may be deleted at any moment."""
        try:
            return os.path.samestat(status, self.target.path.stat())
        except FileNotFoundError:
            return False


def configured_place(target: Target, settings: BackupSettings) -> tuple[Path, bool, Path | None]:
    """Where backups of this database lie: `folder`, `dedicated` and `upper` of a catalog."""
    folder = settings.directory / target.name
    return (folder, True, settings.directory) if settings.own_folder else (settings.directory, False, None)


def place_of(reference: str) -> tuple[Path, bool, Path | None]:
    """The same of the directory in which this backup lies, configured or not."""
    return Path(reference).parent, False, None


def manifest_path(backup: Path) -> Path:
    """The file of a backup's manifest: SAME.manifest.json beside SAME.db or SAME.db.zst."""
    return backup.with_name(manifest_name(backup.name))


def read_manifest(path: Path) -> Manifest:
    """Read the manifest in this file. Raises ManifestError, OSError."""
    return decode_manifest(path.read_bytes())


def _read_manifest_of(backup: Path) -> Manifest:
    """Read the manifest of this file. Raises ManifestError, OSError, ManifestOfOtherFile."""
    manifest = read_manifest(manifest_path(backup))
    if (manifest.compression == "zstd") != is_compressed_name(backup.name):
        raise ManifestOfOtherFile(f"the manifest beside it is of its {manifest.compression} form, not of this file")
    return manifest


def find_described(folder: Path) -> Iterator[Backup]:
    """The backups of any database in the folder, and in those below it, that have a manifest, judged by it alone."""
    for depth in _DEPTHS:
        for manifest in sorted(folder.glob(f"{depth}{PREFIX}*{MANIFEST_SUFFIX}")):
            for name in names_described_by(manifest.name):
                yield from _judge_by_manifest(manifest.with_name(name))


def _judge_by_manifest(path: Path) -> Iterator[Backup]:
    """None where the file is gone, its size is another, or its manifest cannot be read or is not of this file."""
    try:
        manifest, status = _read_manifest_of(path), path.stat()
    except (ManifestError, ManifestOfOtherFile, OSError):
        return
    if not S_ISREG(status.st_mode) or status.st_size != manifest.bytes:
        return
    verified = manifest.verified_time is not None and manifest.damaged_time is None
    state: BackupState = "verified" if verified else "unverified"
    yield Backup(path.name, str(path), status.st_size, status.st_mtime, state, manifest)


@lru_cache(maxsize=16384)
def _space_directory(folder: Path, upper: Path, _moment: int) -> Path:
    """`upper`, unless the folder is on another file system: a mount, or a symbolic link to another disk."""
    try:
        return upper if folder.stat().st_dev == upper.stat().st_dev else folder
    except (FileNotFoundError, NotADirectoryError):  # the folder is not made yet
        return upper


def _file_signature(path: Path) -> _Signature:
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino
