"""Selects the backup that an action works with, and proves that it holds what its manifest says: for verify, drill, restore."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from actions.backups.compression import open_plain_file
from actions.backups.content_proof import file_sha256, prove_contents
from actions.backups.file_settings import require_recorded_fields
from actions.backups.publish import make_scratch_folder
from actions.backups.store import SelectedBackup, open_store, open_store_of
from actions.model.context import ActionContext
from actions.model.errors import Failed, Refused, Unverified
from collectors.backup_catalog.catalog import newest_verified
from collectors.backup_catalog.manifest import ManifestError, belongs_to
from collectors.backup_catalog.names import reference_name
from collectors.backup_catalog.store import backup_location


def load_backup(context: ActionContext, reference: str) -> SelectedBackup:
    """The backup of this reference. Raises Failed when there is none, Unverified without a readable manifest."""
    store = open_store_of(context, reference)
    if not store.has_backup(reference):
        raise Failed(
            f"{reference} not found", reason="missing", next_step="queuekeeper backups list shows what there is"
        )
    try:
        return SelectedBackup(store, reference, store.read_manifest(reference))
    except (ManifestError, OSError) as error:
        raise Unverified(
            f"{reference_name(reference)} has no readable manifest: {error}",
            reason="no_manifest",
            next_step="take a new backup",
        ) from error


def select_newest_verified(context: ActionContext) -> SelectedBackup | None:
    """The newest verified backup that is not a safety copy; None when there is none. Raises Refused without a place."""
    store = open_store(context, "--from")
    backup = newest_verified(store.list_backups().backups.values())
    if backup is None or backup.manifest is None:
        return None
    return SelectedBackup(store, backup.reference, backup.manifest)


def no_backup_error(context: ActionContext) -> Refused:
    """The error of an action that needs a verified backup where there is none, for an automatic run as for a person's."""
    location = backup_location(context.target)
    place = "" if location is None else f" in {location}"
    return Refused(
        f"there is no verified backup of {context.target.path}{place}",
        reason="no_backup",
        next_step=f"take one: queuekeeper backup {context.target.name}; `queuekeeper backups list` shows what there is",
    )


def require_same_source(context: ActionContext, backup: SelectedBackup) -> None:
    """Raises Unverified when it is a backup of another database."""
    if not belongs_to(backup.manifest, context.target):
        raise Unverified(
            f"{backup.name} is a backup of {backup.manifest.source.path}, not of {context.target.path}",
            reason="foreign_source",
            next_step="name the right database or the right backup",
        )


@contextmanager
def open_plain_backup(context: ActionContext, backup: SelectedBackup, directory: Path) -> Iterator[Path]:
    """Give the backup as a plain local database file; a compressed one is decompressed into `directory` for the block.

    Raises Unverified, Refused when it does not fit.
    """
    with (
        backup.store.open_local(backup.reference) as stored,
        open_plain_file(context, stored, backup.plain_bytes, directory) as plain,
    ):
        yield plain


def plain_directory(context: ActionContext, backup: SelectedBackup) -> Path:
    """Where a backup is decompressed: beside it, where that can be written; a medium may be mounted read-only."""
    folder = backup.store.draft_directory
    return folder if os.access(folder, os.W_OK) else make_scratch_folder(context)


def prove_backup(context: ActionContext, backup: SelectedBackup) -> None:
    """Raises Unverified unless the file is what was written, whole, and holds what the source held.

    A backup that fails is verified no longer: it must not be the newest good one for metrics, restores and retention.
    """
    try:
        _check_hash_and_contents(context, backup)
    except Unverified:
        withdraw_verification(backup)
        raise


def withdraw_verification(backup: SelectedBackup) -> None:
    """Write in the manifest of a backup that it is verified no longer."""
    with suppress(OSError):  # where the store cannot be written, the caller's own error is still raised
        backup.store.write_manifest(backup.reference, replace(backup.manifest, verified_time=None))


def is_as_written(backup: SelectedBackup) -> bool:
    """Whether the stored bytes still have the checksum of the manifest."""
    with backup.store.open_local(backup.reference) as stored:
        return file_sha256(stored) == backup.manifest.sha256


def _check_hash_and_contents(context: ActionContext, backup: SelectedBackup) -> None:
    with backup.store.open_local(backup.reference) as stored:
        checksum = file_sha256(stored)
        if checksum != backup.manifest.sha256:
            raise Unverified(
                f"{backup.name} is not what was written: its SHA-256 is {checksum}, the manifest says {backup.manifest.sha256}",
                reason="checksum",
                next_step="use an older one (`queuekeeper backups list`), take a new one, and check the disk it lay on",
            )
        context.stop.raise_if_requested()
        with open_plain_file(context, stored, backup.plain_bytes, plain_directory(context, backup)) as plain:
            prove_contents(plain, backup.expected_contents)
            require_recorded_fields(plain, backup.manifest)
