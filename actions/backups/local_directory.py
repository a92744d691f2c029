"""A backup store in local directories, the side that writes. The side that reads and the paths: collectors/backup_catalog.

A backup is written as a partial file in its own directory, proved and synced there, then linked to its final name; the
manifest is written last. A final name without a manifest is an unverified backup; a partial name is what a killed run left.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from actions.backups.publish import (
    create_partial_file,
    publish_file,
    remove_orphaned_partials,
    sync_directory,
    write_private_file,
)
from actions.backups.writable import require_writable_folder
from actions.model.errors import Failed, Refused
from actions.sqlite.disk_space import require_free_space
from collectors.access.file_facts import nearest_existing_directory
from collectors.backup_catalog.local_directory import LocalDirectoryCatalog, manifest_path, read_manifest
from collectors.backup_catalog.manifest import Manifest, ManifestError, belongs_to, encode_manifest
from collectors.backup_catalog.names import MANIFEST_SUFFIX, PREFIX, is_manifest_name, is_own_name, names_described_by
from collectors.backup_catalog.partial_names import (
    LONGEST_SQLITE_PATH,
    PARTIAL,
    SHORTEST_PARTIAL_NAME,
    usable_name_length,
)


class LocalDirectoryStore(LocalDirectoryCatalog):
    """The backups of one database in `folder`, to be changed."""

    @property
    def draft_directory(self) -> Path:
        """A local directory with room for a plain copy of a backup: for drafts, and for what is decompressed."""
        return self.folder

    def prepare_location(self) -> int:
        """Create the directory, private when it is new, and remove what killed runs left; how many files. Raises Failed."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Failed(
                f"cannot create {self.folder}: {error.strerror}",
                reason="directory",
                next_step="create it for this user, or name another directory",
            ) from error
        removed = remove_orphaned_partials(self.folder)
        self._remove_placeholders(removed)
        return len(removed)

    def require_writable(self, what: str, next_step: str) -> None:
        """Raises Refused unless a file can be made there, or in the directory that the folder will be made in."""
        require_writable_folder(nearest_existing_directory(self.folder), what, next_step)

    def require_space(self, needed: int, reserve: int, what: str) -> None:
        """Raises Refused unless `needed` bytes fit and `reserve` stays free, also where the directory is not made yet."""
        require_free_space(nearest_existing_directory(self.folder), needed, reserve, what)

    @contextmanager
    def create_draft(self, name: str) -> Iterator[Path]:
        """Create a private local file in which a backup of this name is written; it is gone after the block.

        Raises Refused where SQLite could not open it, since the whole path is too long.
        """
        if usable_name_length(self.folder) < SHORTEST_PARTIAL_NAME:
            raise Refused(
                f"SQLite opens no path of more than {LONGEST_SQLITE_PATH} bytes, as files in {self.folder} would have",
                reason="name_too_long",
                next_step="name a folder nearer to the root",
            )
        with create_partial_file(self.folder, name) as draft:
            yield draft

    def publish_draft(self, draft: Path, name: str) -> str:
        """Give a synced draft its final name; its reference. Raises Failed when the name is in use."""
        path = self.folder / name
        publish_file(draft, path)
        return str(path)

    def write_manifest(self, reference: str, manifest: Manifest) -> None:
        """Write the manifest of a backup whole and durable; an existing one is replaced. Raises OSError."""
        write_private_file(manifest_path(Path(reference)), encode_manifest(manifest))

    def orphaned_manifests(self) -> list[str]:
        """The names of this database's manifests whose backup is gone: a prune was killed between the two."""
        paths = sorted(self.folder.glob(f"{PREFIX}*{MANIFEST_SUFFIX}"))
        return [path.name for path in paths if not _has_backup(path) and self._is_own_manifest(path)]

    def delete_backup(self, reference: str) -> int:
        """Delete a backup, then its manifest, so that no manifest vouches for nothing for long; the bytes given back.

        A manifest without a backup is deleted alone and counts 0. Durable after `sync_deletions`. Raises OSError.
        """
        path = Path(reference)
        if is_manifest_name(path.name):
            path.unlink(missing_ok=True)
            return 0
        size = path.stat().st_size
        path.unlink()
        manifest_path(path).unlink(missing_ok=True)
        return size

    def sync_deletions(self) -> None:
        """Have the deletions on disk."""
        sync_directory(self.folder)

    def _remove_placeholders(self, partials: Iterable[Path]) -> None:
        """Remove the empty final names of killed runs: where no other way is, a file is renamed over one (no_overwrite.py)."""
        for partial in partials:
            final = self.folder / partial.name.removeprefix(".").rpartition(PARTIAL)[0]
            with suppress(OSError):
                if is_own_name(final.name) and final.stat().st_size == 0 and not manifest_path(final).exists():
                    final.unlink()

    def _is_own_manifest(self, manifest: Path) -> bool:
        try:
            return belongs_to(read_manifest(manifest), self.target)
        except (ManifestError, OSError):
            return False


def _has_backup(manifest: Path) -> bool:
    return any(manifest.with_name(name).exists() for name in names_described_by(manifest.name))
