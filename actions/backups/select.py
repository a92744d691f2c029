"""Which backup is meant, and the proof that it holds what its manifest says: for verify, drill and restore."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from actions.backups.compression import open_plain_file
from actions.backups.content_proof import DatabaseContents, file_sha256, prove_contents
from actions.backups.publish import write_private_file
from actions.model.context import ActionContext
from actions.model.errors import Failed, Refused, Unverified
from collectors.backup_catalog.catalog import find_backups
from collectors.backup_catalog.manifest import (
    Manifest,
    ManifestError,
    belongs_to,
    encode_manifest,
    manifest_path,
    read_manifest,
)


@dataclass(frozen=True, slots=True)
class SelectedBackup:
    """A backup and what its manifest says."""

    path: Path
    manifest: Manifest

    @property
    def expected_contents(self) -> DatabaseContents:
        """What it must hold."""
        said = self.manifest
        return DatabaseContents(said.page_size, said.pages, said.schema_sha256, said.row_counts)

    @property
    def plain_bytes(self) -> int:
        """Its size as a database file."""
        return self.manifest.page_size * self.manifest.pages


def load_backup(path: Path) -> SelectedBackup:
    """The backup in this file. Raises Failed when there is none, Unverified without a readable manifest."""
    if not path.is_file():
        raise Failed(f"{path} not found", reason="missing", next_step="queuekeeper backups list shows what there is")
    try:
        return SelectedBackup(path, read_manifest(manifest_path(path)))
    except (ManifestError, OSError) as error:
        raise Unverified(
            f"{path.name} has no readable manifest: {error}", reason="no_manifest", next_step="take a new backup"
        ) from error


def select_newest_verified(work: ActionContext) -> SelectedBackup | None:
    """The newest verified backup that is not a safety copy; None when there is none. Raises Refused without a place."""
    if work.target.backup is None:
        raise Refused(
            "no backup directory is known",
            reason="no_directory",
            next_step="give --from DIR, or backup.directory in the configuration",
        )
    found = [
        backup for backup in find_backups(work.target) if backup.state == "verified" and backup.manifest is not None
    ]
    ordinary = [
        SelectedBackup(backup.path, backup.manifest)
        for backup in found
        if backup.manifest and backup.manifest.kind != "safety"
    ]
    return max(ordinary, key=lambda one: one.manifest.snapshot_time, default=None)


def no_backup_error(work: ActionContext) -> Refused:
    """What was asked for needs a verified backup, and there is none: no success, whoever asked."""
    place = "" if work.target.backup is None else f" in {work.target.backup.database_folder(work.target.name)}"
    return Refused(
        f"there is no verified backup of {work.target.path}{place}",
        reason="no_backup",
        next_step=f"take one: queuekeeper backup {work.target.name}; `queuekeeper backups list` shows what there is",
    )


def require_same_source(work: ActionContext, chosen: SelectedBackup) -> None:
    """Raises Unverified when it is a backup of another database."""
    if not belongs_to(chosen.manifest, work.target):
        raise Unverified(
            f"{chosen.path.name} is a backup of {chosen.manifest.source.path}, not of {work.target.path}",
            reason="foreign_source",
            next_step="name the right database or the right backup",
        )


def prove_backup(work: ActionContext, chosen: SelectedBackup) -> None:
    """Raises Unverified unless the file is what was written, whole, and holds what the source held.

    A backup that fails is verified no longer: it must not be the newest good one for metrics, restores and retention.
    """
    try:
        _check_hash_and_contents(work, chosen)
    except Unverified:
        withdraw_verification(chosen)
        raise


def withdraw_verification(chosen: SelectedBackup) -> None:
    """Say in its manifest that it is verified no longer."""
    with suppress(OSError):  # where its folder cannot be written, the failure itself still has to be told
        write_private_file(manifest_path(chosen.path), encode_manifest(replace(chosen.manifest, verified_time=None)))


def _check_hash_and_contents(work: ActionContext, chosen: SelectedBackup) -> None:
    found = file_sha256(chosen.path)
    if found != chosen.manifest.sha256:
        raise Unverified(
            f"{chosen.path.name} is not what was written: its SHA-256 is {found}, the manifest says {chosen.manifest.sha256}",
            reason="checksum",
            next_step="use an older one (`queuekeeper backups list`), take a new one, and check the disk it lay on",
        )
    work.stop.raise_if_requested()
    with open_plain_file(work, chosen.path, chosen.plain_bytes, chosen.path.parent) as plain:
        prove_contents(plain, chosen.expected_contents)
