"""Takes a backup of a live database, proved and published: for the backup action, and for the safety copy before a restore."""

import errno
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import apsw

from actions.backups.compression import compress_file
from actions.backups.consistent_copy import ProvedCopy, copy_and_prove
from actions.backups.content_marks import ContentMarks, judge_copy
from actions.backups.content_proof import file_sha256
from actions.backups.copy_proof import ProofLevel
from actions.backups.file_settings import recorded_settings
from actions.backups.publish import sync_file
from actions.backups.sequence import choose_backup_name, next_sequence
from actions.backups.store import MANIFEST_BYTES, BackupStore
from actions.model.context import ActionContext
from actions.model.io_errors import translate_io_error
from actions.sqlite.disk_space import database_bytes, explain_full_disk
from collectors.backup_catalog.manifest import BackupSource, Manifest
from collectors.backup_catalog.names import compressed_name, is_compressed_name

BackupKind = Literal["scheduled", "manual", "safety"]


@dataclass(frozen=True, slots=True)
class PublishedBackup:
    """A published backup, and how long each part took, in seconds."""

    reference: str
    manifest: Manifest
    copied: ProvedCopy
    sync_seconds: float
    hash_seconds: float


def take_backup(
    context: ActionContext, store: BackupStore, label: str, *, kind: BackupKind, level: ProofLevel = "pages"
) -> PublishedBackup:
    """Copy, prove, compress when configured, sync, publish, and the manifest last; `label` becomes part of the name.

    Raises ActionError, apsw.Error, OSError.
    """
    name = choose_backup_name(context, store, label)
    needed = backup_bytes_needed(context) + MANIFEST_BYTES
    with explain_full_disk(store.draft_directory, needed, "the backup"), store.create_draft(name) as plain:
        copied = copy_and_prove(context, plain, level)
        marks = judge_copy(context, store, plain, copied)
        settings = recorded_settings(context, plain)
        context.stop.raise_if_requested()
        if not _is_compressed(context):
            return _publish_proved(context, store, plain, name, copied, marks, kind, settings)
        with store.create_draft(compressed_name(name)) as compressed:
            compress_file(context, plain, compressed)
            return _publish_proved(context, store, compressed, compressed_name(name), copied, marks, kind, settings)


def backup_bytes_needed(context: ActionContext) -> int:
    """The bytes that one backup takes; a compressed one lies beside its plain copy for a moment, and may be as large."""
    return database_bytes(context) * (2 if _is_compressed(context) else 1)


def _is_compressed(context: ActionContext) -> bool:
    return context.target.backup is not None and context.target.backup.compress == "zstd"


def _publish_proved(
    context: ActionContext,
    store: BackupStore,
    draft: Path,
    name: str,
    copied: ProvedCopy,
    marks: ContentMarks,
    kind: BackupKind,
    settings: Mapping[str, Any],
) -> PublishedBackup:
    started = time.monotonic()
    context.emit_phase("fsync")
    sync_file(draft)
    synced_at = time.monotonic()
    manifest = _build_manifest(context, draft, name, copied, kind, settings)
    manifest = replace(manifest, sequence=next_sequence(context, store))
    manifest = marks.mark_manifest(manifest, accepted=bool(context.options.get("accept_loss")))
    hashed_at = time.monotonic()
    context.stop.raise_if_requested()
    context.emit_phase("rename")
    reference = store.publish_draft(draft, name)
    context.emit_phase("manifest")
    try:
        store.write_manifest(reference, manifest)
    except OSError as error:
        raise _unpublish_backup(store, reference, error) from error
    return PublishedBackup(reference, manifest, copied, synced_at - started, hashed_at - synced_at)


def _unpublish_backup(store: BackupStore, reference: str, error: OSError) -> Exception:
    """Delete a backup whose manifest could not be written: it would never be pruned. Returns the error of the run."""
    after = "nothing was published"
    try:
        store.delete_backup(reference)
    except OSError:
        after = f"{reference} stays there without a manifest, unverified: delete it"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return error
    return translate_io_error(error, "the manifest cannot be written", reason="manifest", after=after)


def _build_manifest(
    context: ActionContext, draft: Path, name: str, copied: ProvedCopy, kind: BackupKind, settings: Mapping[str, Any]
) -> Manifest:
    path = context.target.path
    status = path.stat()
    expected = copied.expected
    now = context.now()
    return Manifest(
        source=BackupSource(
            path=str(path.resolve()), device=status.st_dev, inode=status.st_ino, database=context.target.name
        ),
        snapshot_time=copied.snapshot_time,
        finished_time=now,
        kind=kind,
        bytes=draft.stat().st_size,
        page_size=expected.page_size,
        pages=expected.pages,
        schema_sha256=expected.schema_sha256,
        row_counts=dict(expected.row_counts),
        sha256=file_sha256(draft),
        compression="zstd" if is_compressed_name(name) else "none",
        sqlite_version=apsw.sqlite_lib_version(),
        queuekeeper_version=version("queuekeeper"),
        verified_time=now,
        unchecked=expected.unchecked,
        proof=copied.proof.level,
        content_sha256=copied.proof.content_sha256,
        **settings,
    )
