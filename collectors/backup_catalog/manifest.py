"""The manifest of a backup: which database it came from, what it holds, and whether that was proved.

A backup without a manifest is unverified: its source is unknown. The backup action writes manifests, and verify dates the
newest proof in them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from collectors.target import Target

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ManifestError(Exception):
    """A manifest that cannot be read; the message says why."""


@with_config(ConfigDict(extra="ignore", strict=True))
@dataclass(frozen=True, slots=True)
class BackupSource:
    """The database that was backed up. `path` has its symbolic links resolved; `database` is its configured name."""

    path: str
    device: int
    inode: int
    database: str


@with_config(ConfigDict(extra="ignore", strict=True))
@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of one backup. Times in seconds since the epoch (UTC); `bytes` and `sha256` are of the file as stored.

    `snapshot_time`: up to which commit it holds everything. `verified_time`: when its content was last proved.
    """

    source: BackupSource
    snapshot_time: Seconds
    finished_time: Seconds
    kind: Literal["scheduled", "manual", "safety"]
    bytes: Count
    page_size: Count
    pages: Count
    schema_sha256: Sha256
    row_counts: Mapping[str, Count]
    sha256: Sha256
    compression: Literal["none", "zstd"]
    sqlite_version: str
    queuekeeper_version: str
    verified_time: Seconds | None = None
    format: Literal[1] = 1


_ADAPTER = TypeAdapter(Manifest)


def encode_manifest(manifest: Manifest) -> str:
    """The manifest as indented JSON with a final newline."""
    return _ADAPTER.dump_json(manifest, indent=2).decode() + "\n"


def decode_manifest(text: str | bytes) -> Manifest:
    """Read the manifest in this JSON; fields of a later version are ignored. Raises ManifestError."""
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ManifestError(f"{field}: {first['msg']}" if field else first["msg"]) from error


def belongs_to(manifest: Manifest, target: Target) -> bool:
    """Whether it is a backup of this database: the same path, and the same name or the same file.

    The file may have been replaced by a restore and the name may be another on a command line, but not both.
    """
    if manifest.source.path != str(target.path.resolve()):
        return False
    return manifest.source.database == target.name or _is_same_file(manifest.source, target.path)


def _is_same_file(source: BackupSource, path: Path) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return (source.device, source.inode) == (status.st_dev, status.st_ino)
