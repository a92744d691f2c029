"""From a live database to a published, proved backup: for the backup action, and for the safety copy before a restore."""

import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import apsw

from actions.backups.compression import SUFFIX, compress
from actions.backups.consistent_copy import Copied, copy_proved
from actions.backups.content_proof import sha256_of
from actions.backups.publish import MANIFEST_BYTES, partial_file, publish, sync_file, write_private
from actions.model.context import Work
from actions.model.errors import Failed
from actions.sqlite.disk_space import database_bytes, writing_to
from collectors.backup_catalog.manifest import Manifest, Source, encode, manifest_path

Kind = Literal["scheduled", "manual", "safety"]
Compression = Literal["none", "zstd"]


@dataclass(frozen=True, slots=True)
class Taken:
    """A published backup, and how long each part took, in seconds."""

    path: Path
    manifest: Manifest
    copied: Copied
    sync_seconds: float
    hash_seconds: float


def take_backup(work: Work, folder: Path, name: str, *, kind: Kind) -> Taken:
    """Copy, prove, compress when configured, sync, publish, and the manifest last. Raises ActionError, apsw.Error, OSError."""
    zstd = _is_compressed(work)
    with writing_to(folder, bytes_needed(work) + MANIFEST_BYTES, "the backup"), partial_file(folder, name) as plain:
        copied = copy_proved(work, plain)
        work.stop.check()
        if not zstd:
            return _published(work, plain, folder / name, copied, kind, "none")
        with partial_file(folder, name + SUFFIX) as compressed:
            compress(work, plain, compressed)
            return _published(work, compressed, folder / (name + SUFFIX), copied, kind, "zstd")


def bytes_needed(work: Work) -> int:
    """The room for one backup; a compressed one lies beside its plain copy for a moment, and may be as large."""
    return database_bytes(work) * (2 if _is_compressed(work) else 1)


def _is_compressed(work: Work) -> bool:
    return work.target.backup is not None and work.target.backup.compress == "zstd"


def make_folder(folder: Path) -> None:
    """The folder for backups, private when it is new. Raises Failed."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Failed(
            f"cannot create {folder}: {error.strerror}",
            reason="directory",
            next_step="create it for this user, or name another directory",
        ) from error


def _published(work: Work, file: Path, final: Path, copied: Copied, kind: Kind, compression: Compression) -> Taken:
    begun = time.monotonic()
    work.phase("fsync")
    sync_file(file)
    synced = time.monotonic()
    manifest = _manifest(work, file, copied, kind, compression)
    hashed = time.monotonic()
    work.stop.check()
    work.phase("rename")
    publish(file, final)
    work.phase("manifest")
    try:
        write_private(manifest_path(final), encode(manifest))
    except OSError:
        final.unlink()  # without a manifest nobody could ever delete it
        raise
    return Taken(final, manifest, copied, synced - begun, hashed - synced)


def _manifest(work: Work, file: Path, copied: Copied, kind: Kind, compression: Compression) -> Manifest:
    path = work.target.path
    found = path.stat()
    expected = copied.expected
    now = work.now()
    return Manifest(
        source=Source(path=str(path.resolve()), device=found.st_dev, inode=found.st_ino, database=work.target.name),
        snapshot_time=copied.snapshot_time,
        finished_time=now,
        kind=kind,
        bytes=file.stat().st_size,
        page_size=expected.page_size,
        pages=expected.pages,
        schema_sha256=expected.schema_sha256,
        row_counts=dict(expected.row_counts),
        sha256=sha256_of(file),
        compression=compression,
        sqlite_version=apsw.sqlite_lib_version(),
        queuekeeper_version=version("queuekeeper"),
        verified_time=now,
    )
