"""Selects the backup that an action works with, and proves that it holds what its manifest says: for verify, drill, restore."""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from actions.backups.compression import open_plain_file
from actions.backups.content_proof import file_sha256, not_proved_error, prove_contents
from actions.backups.copy_proof import read_content_sha256
from actions.backups.file_settings import require_recorded_fields
from actions.backups.proof_record import record_damage, shows_damage
from actions.backups.publish import make_scratch_folder
from actions.backups.store import SelectedBackup, open_store, open_store_of
from actions.model.context import ActionContext
from actions.model.errors import Failed, Refused, Unverified
from actions.sqlite.naming import join_first
from collectors.backup_catalog.manifest import Manifest, ManifestError, belongs_to
from collectors.backup_catalog.names import reference_name
from collectors.backup_catalog.order import order_newest_first, verified_newest_first
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
    return next(iter(select_verified(context)), None)


def select_verified(context: ActionContext) -> list[SelectedBackup]:
    """The verified backups that are no safety copies, newest first. Raises Refused without a place."""
    store = open_store(context, "--from")
    backups = verified_newest_first(store.list_backups().backups.values(), context.now())
    return [SelectedBackup(store, backup.reference, backup.manifest) for backup in backups if backup.manifest]


def first_intact(
    context: ActionContext, candidates: Sequence[SelectedBackup]
) -> tuple[SelectedBackup, tuple[str, ...]]:
    """The first of these backups, newest first, that proves to be intact now; and what is wrong with newer ones, in sentences.

    One that is damaged is recorded as such on the way. Raises the error of the newest when none is intact, and the error of
    one that could not be judged: an older one must not take its place unasked.
    """
    errors: dict[str, Unverified] = {}
    for backup in candidates:
        error = _try_proving(context, backup)
        if error is None:
            return backup, (*_known_damages(context, backup, errors.keys()), *map(str, errors.values()))
        errors[backup.reference] = error
    newest = next(iter(errors.values()))
    if len(errors) == 1:
        raise newest
    raise Unverified(
        f"none of the {len(errors)} verified backups is intact; the newest: {newest}",
        reason=newest.reason,
        next_step="`queuekeeper backups list` shows what else there is; take a new one, and check the disk it lay on",
    )


def _try_proving(context: ActionContext, backup: SelectedBackup) -> Unverified | None:
    """The error that shows that the backup is damaged; None when it is intact. Raises any other error."""
    try:
        prove_backup(context, backup)
    except Unverified as error:
        if shows_damage(error):
            return error
        raise
    return None


def _known_damages(context: ActionContext, chosen: SelectedBackup, tried: Collection[str]) -> list[str]:
    """What is wrong with the ones that are newer than the chosen one and had failed before, in sentences."""
    listed = order_newest_first(chosen.store.list_backups().backups.values(), context.now())
    newer = takewhile(lambda backup: backup.reference != chosen.reference, listed)
    failed = [b for b in newer if b.state == "failed" and b.manifest and not b.is_safety and b.reference not in tried]
    return [f"{backup.name} is damaged: {backup.damage}" for backup in failed]


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

    A backup that proves to be damaged is recorded as failed: it must not be the newest good one for metrics, restores and
    retention.
    """
    try:
        _check_hash(backup)
        context.stop.raise_if_requested()
        prove_backup_contents(context, backup)
    except Unverified as error:
        if shows_damage(error):
            record_damage(context, backup, str(error))
        raise


def describe_unchecked(manifest: Manifest) -> str:
    """What of the backup no proof of ours covers, as the end of a message; empty where all of it was checked."""
    return f"; only the application can check: {join_first(manifest.unchecked)}" if manifest.unchecked else ""


def is_as_written(backup: SelectedBackup) -> bool:
    """Whether the stored bytes still have the checksum of the manifest."""
    with backup.store.open_local(backup.reference) as stored:
        return file_sha256(stored) == backup.manifest.sha256


def prove_backup_contents(context: ActionContext, backup: SelectedBackup) -> None:
    """Raises Unverified unless the stored backup is a whole database that holds what its manifest says."""
    manifest = backup.manifest
    with open_plain_backup(context, backup, plain_directory(context, backup)) as plain:
        prove_contents(plain, backup.expected_contents)
        require_recorded_fields(plain, manifest)
        expected = manifest.content_sha256
        if expected is not None and read_content_sha256(plain, manifest.page_size) != expected:
            raise not_proved_error(plain, "its content is not what SQLite read in the source: the digests differ")


def _check_hash(backup: SelectedBackup) -> None:
    with backup.store.open_local(backup.reference) as stored:
        checksum = file_sha256(stored)
    if checksum != backup.manifest.sha256:
        raise Unverified(
            f"{backup.name} is not what was written: its SHA-256 is {checksum}, the manifest says {backup.manifest.sha256}",
            reason="checksum",
            next_step="use an older one (`queuekeeper backups list`), take a new one, and check the disk it lay on",
        )
