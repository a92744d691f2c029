"""From a live database to a published, proved backup: for the backup action, and for the safety copy before a restore."""

import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import apsw

from actions.backups.compression import ZSTD_SUFFIX, compress_file
from actions.backups.consistent_copy import ProvedCopy, copy_and_prove
from actions.backups.content_proof import file_sha256
from actions.backups.publish import MANIFEST_BYTES, create_partial_file, publish_file, sync_file, write_private_file
from actions.model.context import ActionContext
from actions.model.errors import Failed
from actions.sqlite.disk_space import database_bytes, explain_full_disk
from collectors.backup_catalog.manifest import BackupSource, Manifest, encode_manifest, manifest_path

BackupKind = Literal["scheduled", "manual", "safety"]
BackupCompression = Literal["none", "zstd"]


@dataclass(frozen=True, slots=True)
class PublishedBackup:
    """A published backup, and how long each part took, in seconds."""

    path: Path
    manifest: Manifest
    copied: ProvedCopy
    sync_seconds: float
    hash_seconds: float


def take_backup(work: ActionContext, folder: Path, name: str, *, kind: BackupKind) -> PublishedBackup:
    """Copy, prove, compress when configured, sync, publish, and the manifest last. Raises ActionError, apsw.Error, OSError."""
    zstd = _is_compressed(work)
    with (
        explain_full_disk(folder, backup_bytes_needed(work) + MANIFEST_BYTES, "the backup"),
        create_partial_file(folder, name) as plain,
    ):
        copied = copy_and_prove(work, plain)
        work.stop.raise_if_requested()
        if not zstd:
            return _publish_proved(work, plain, folder / name, copied, kind, "none")
        with create_partial_file(folder, name + ZSTD_SUFFIX) as compressed:
            compress_file(work, plain, compressed)
            return _publish_proved(work, compressed, folder / (name + ZSTD_SUFFIX), copied, kind, "zstd")


def backup_bytes_needed(work: ActionContext) -> int:
    """The room for one backup; a compressed one lies beside its plain copy for a moment, and may be as large."""
    return database_bytes(work) * (2 if _is_compressed(work) else 1)


def _is_compressed(work: ActionContext) -> bool:
    return work.target.backup is not None and work.target.backup.compress == "zstd"


def create_backup_folder(folder: Path) -> None:
    """The folder for backups, private when it is new. Raises Failed."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Failed(
            f"cannot create {folder}: {error.strerror}",
            reason="directory",
            next_step="create it for this user, or name another directory",
        ) from error


def _publish_proved(
    work: ActionContext, file: Path, final: Path, copied: ProvedCopy, kind: BackupKind, compression: BackupCompression
) -> PublishedBackup:
    begun = time.monotonic()
    work.emit_phase("fsync")
    sync_file(file)
    synced = time.monotonic()
    manifest = _build_manifest(work, file, copied, kind, compression)
    hashed = time.monotonic()
    work.stop.raise_if_requested()
    work.emit_phase("rename")
    publish_file(file, final)
    work.emit_phase("manifest")
    try:
        write_private_file(manifest_path(final), encode_manifest(manifest))
    except OSError:
        final.unlink()  # without a manifest nobody could ever delete it
        raise
    return PublishedBackup(final, manifest, copied, synced - begun, hashed - synced)


def _build_manifest(
    work: ActionContext, file: Path, copied: ProvedCopy, kind: BackupKind, compression: BackupCompression
) -> Manifest:
    path = work.target.path
    found = path.stat()
    expected = copied.expected
    now = work.now()
    return Manifest(
        source=BackupSource(
            path=str(path.resolve()), device=found.st_dev, inode=found.st_ino, database=work.target.name
        ),
        snapshot_time=copied.snapshot_time,
        finished_time=now,
        kind=kind,
        bytes=file.stat().st_size,
        page_size=expected.page_size,
        pages=expected.pages,
        schema_sha256=expected.schema_sha256,
        row_counts=dict(expected.row_counts),
        sha256=file_sha256(file),
        compression=compression,
        sqlite_version=apsw.sqlite_lib_version(),
        queuekeeper_version=version("queuekeeper"),
        verified_time=now,
    )
