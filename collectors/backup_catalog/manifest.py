"""The manifest of a backup: which database it came from, what it holds, and whether that was proved.

A backup without a manifest is unverified: its source is unknown. The backup action writes manifests, and verify dates the
newest proof in them.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from collectors.target import Target

# The end of the year 9999: no later time can be shown, and none is meant, in seconds since the epoch.
MAX_TIME = 253_402_300_800
# No database has that many backups: a greater number was never counted.
MAX_SEQUENCE = 10**12


class ManifestError(Exception):
    """A manifest that cannot be read; the message says why."""


class ManifestOfOtherFile(ManifestError):
    """A manifest that describes the same backup compressed, or not: one that a person unpacked beside it has none."""


@dataclass(frozen=True, slots=True)
class BackupSource:
    """The database that was backed up. `path` has its symbolic links resolved; `database` is its configured name."""

    path: str
    device: int
    inode: int
    database: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of one backup. Times in seconds since the epoch (UTC); `bytes` and `sha256` are of the file as stored.

    `snapshot_time`: up to which commit it holds everything. `verified_time`: when its content was last proved.
    `sequence`: its place among the backups of this database, counted up by each one, since clocks can be wrong.
    `damaged_time`, `damage`: when it was proved damaged, and how; such a backup counts as failed.
    `unchecked`: the parts that only the application can judge, in words. `proof`: `pages` where every page of the WAL was
    compared with the pinned source, `content` where all content was. `content_sha256`: the digest of all content.
    `content_lost`: what it lacks of what the database held before, in words; empty where it lacks nothing that matters.
    `accepted_loss`: the same where a person said that the content is as it should be.
    `last_numbers`: the last AUTOINCREMENT number by table; `schema_version`: the header's count of schema changes.
    `journal_mode` to `file_mode`: what the source had, for a restore that puts it back; None where it was not recorded.
    """

    source: BackupSource
    snapshot_time: float
    finished_time: float
    kind: Literal["scheduled", "manual", "safety"]
    bytes: int
    page_size: int
    pages: int
    schema_sha256: str
    row_counts: Mapping[str, int]
    sha256: str
    compression: Literal["none", "zstd"]
    sqlite_version: str
    queuekeeper_version: str
    verified_time: float | None = None
    format: Literal[1] = 1
    sequence: int | None = None
    damaged_time: float | None = None
    damage: str = ""
    unchecked: tuple[str, ...] = ()
    proof: Literal["pages", "content"] | None = None
    content_sha256: str | None = None
    journal_mode: str | None = None
    auto_vacuum: int | None = None
    user_version: int | None = None
    application_id: int | None = None
    file_owner: int | None = None
    file_group: int | None = None
    file_mode: int | None = None
    content_lost: str = ""
    accepted_loss: str = ""
    last_numbers: Mapping[str, int] | None = None
    schema_version: int | None = None


@dataclass(frozen=True, slots=True)
class _FieldCheck:
    """What the value of a field must be, and that in words. By hand: pydantic costs a short process more than its work."""

    expected: str
    accepts: Callable[[Any], bool]


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_sequence(value: Any) -> bool:
    return value is None or (_is_count(value) and value <= MAX_SEQUENCE)


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < MAX_TIME


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _are_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_count, value.values()))


def _are_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(type(number) is int for number in value.values())


_TEXT = _FieldCheck("a text", lambda value: isinstance(value, str))
_INTEGER = _FieldCheck("a whole number", lambda value: type(value) is int)
_COUNT = _FieldCheck("a whole number from 0", _is_count)
_TIME = _FieldCheck("a time in seconds", _is_time)
_OPTIONAL_TIME = _FieldCheck("a time in seconds or null", lambda value: value is None or _is_time(value))
_OPTIONAL_COUNT = _FieldCheck("a whole number from 0 or null", lambda value: value is None or _is_count(value))
_OPTIONAL_INTEGER = _FieldCheck("a whole number or null", lambda value: value is None or type(value) is int)
_OPTIONAL_TEXT = _FieldCheck("a text or null", lambda value: value is None or isinstance(value, str))
_TEXTS = _FieldCheck(
    "a list of texts", lambda value: isinstance(value, list) and all(isinstance(t, str) for t in value)
)
_SHA256 = _FieldCheck("a SHA-256 in 64 hexadecimal digits", _is_sha256)
_SOURCE_FIELDS = {"path": _TEXT, "device": _INTEGER, "inode": _INTEGER, "database": _TEXT}
_FIELDS = {
    "source": _FieldCheck("a JSON object", lambda value: isinstance(value, dict)),
    "snapshot_time": _TIME,
    "finished_time": _TIME,
    "kind": _FieldCheck("scheduled, manual or safety", lambda value: value in ("scheduled", "manual", "safety")),
    "bytes": _COUNT,
    "page_size": _COUNT,
    "pages": _COUNT,
    "schema_sha256": _SHA256,
    "row_counts": _FieldCheck("a JSON object of whole numbers from 0", _are_counts),
    "sha256": _SHA256,
    "compression": _FieldCheck("none or zstd", lambda value: value in ("none", "zstd")),
    "sqlite_version": _TEXT,
    "queuekeeper_version": _TEXT,
    "verified_time": _OPTIONAL_TIME,
    "format": _FieldCheck("1, the only format known here", lambda value: type(value) is int and value == 1),
}
# Fields that a manifest of an earlier version lacks.
_LATER_FIELDS = {
    "sequence": _FieldCheck(f"a whole number from 0 to {MAX_SEQUENCE} or null", _is_sequence),
    "damaged_time": _OPTIONAL_TIME,
    "damage": _TEXT,
    "unchecked": _TEXTS,
    "proof": _FieldCheck("pages, content or null", lambda value: value in (None, "pages", "content")),
    "content_sha256": _FieldCheck(f"{_SHA256.expected} or null", lambda value: value is None or _is_sha256(value)),
    "journal_mode": _OPTIONAL_TEXT,
    "auto_vacuum": _OPTIONAL_COUNT,
    "user_version": _OPTIONAL_INTEGER,
    "application_id": _OPTIONAL_INTEGER,
    "file_owner": _OPTIONAL_COUNT,
    "file_group": _OPTIONAL_COUNT,
    "file_mode": _OPTIONAL_COUNT,
    "content_lost": _TEXT,
    "accepted_loss": _TEXT,
    "last_numbers": _FieldCheck(
        "a JSON object of whole numbers or null", lambda value: value is None or _are_numbers(value)
    ),
    "schema_version": _OPTIONAL_INTEGER,
}
_FIELDS.update(_LATER_FIELDS)
_WITH_DEFAULT = frozenset({"verified_time", "format", *_LATER_FIELDS})


def encode_manifest(manifest: Manifest) -> str:
    """The manifest as indented JSON with a final newline."""
    fields = {name: getattr(manifest, name) for name in _FIELDS}
    changed = {
        "source": asdict(manifest.source),
        "row_counts": dict(manifest.row_counts),
        "unchecked": list(manifest.unchecked),
    }
    return json.dumps({**fields, **changed}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def decode_manifest(text: str | bytes) -> Manifest:
    """Read the manifest in this JSON; fields of a later version are ignored. Raises ManifestError."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"Invalid JSON: {error}") from error
    source = BackupSource(**_checked_fields(_part(fields, "source"), _SOURCE_FIELDS, "source."))
    return Manifest(**{**_checked_fields(fields, _FIELDS), "source": source})


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


def _part(fields: object, name: str) -> object:
    return fields.get(name) if isinstance(fields, dict) else None


def _checked_fields(fields: object, known: Mapping[str, _FieldCheck], prefix: str = "") -> dict[str, Any]:
    """The known fields that are there, each of the right kind. Raises ManifestError that names the first other one."""
    if not isinstance(fields, dict):
        raise ManifestError(f"{prefix.rstrip('.')}: it is no JSON object".removeprefix(": "))
    for name, check in known.items():
        if name not in fields and name not in _WITH_DEFAULT:
            raise ManifestError(f"{prefix}{name}: it is missing")
        if name in fields and not check.accepts(fields[name]):
            raise ManifestError(f"{prefix}{name}: it is not {check.expected}")
    return {name: _as_value(fields[name], check) for name, check in known.items() if name in fields}


def _as_value(value: Any, check: _FieldCheck) -> Any:
    """The value as the manifest keeps it: a time that was written without a fraction is a float too, a list a tuple."""
    if check is _TEXTS:
        return tuple(value)
    return float(value) if check in (_TIME, _OPTIONAL_TIME) and value is not None else value
