"""The file names of backups. They are the same in every kind of store: in an object store they are keys.

A backup is `queue_backup_[LABEL_]DATABASE_TIMESTAMP.db`, with `.zst` when it is compressed; its manifest is
`SAME.manifest.json`.
"""

import re
from datetime import UTC, datetime
from pathlib import PurePath

from collectors.backup_catalog.partial_names import shorten_name

MANIFEST_SUFFIX = ".manifest.json"
ZSTD_SUFFIX = ".zst"
PREFIX = "queue_backup_"
# Glob patterns of what a store writes: such a file is never a database to watch.
FILE_PATTERNS = (f"{PREFIX}*", f"*{MANIFEST_SUFFIX}", f"*{ZSTD_SUFFIX}")

_DATABASE_SUFFIX = ".db"
_OWN_NAME = re.compile(rf"{PREFIX}.*\.db(\.zst)?")
_FOREIGN_NAME = re.compile(r".*\.(db|sqlite[^.]*)")


def backup_file_name(database: str, label: str, snapshot_time: float, name_limit: int = 255) -> str:
    """The name of a new backup without compression; the time is in UTC to the microsecond.

    A long name of a database is shortened, so that the manifest's name too has at most `name_limit` bytes.
    """
    stamp = datetime.fromtimestamp(snapshot_time, UTC).strftime("%Y%m%dT%H%M%S_%fZ")
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", database)  # a name made of folders, or a file name of the application's
    room = name_limit - len(f"{PREFIX}{label}__{stamp}{MANIFEST_SUFFIX}")
    parts = [label, shorten_name(safe, room), stamp]
    return PREFIX + "_".join(part for part in parts if part) + _DATABASE_SUFFIX


def compressed_name(name: str) -> str:
    """The name of the same backup compressed with zstd."""
    return name + ZSTD_SUFFIX


def is_compressed_name(name: str) -> bool:
    """Whether the backup of this name is compressed."""
    return name.endswith(ZSTD_SUFFIX)


def plain_name(name: str) -> str:
    """The name of the same backup without compression."""
    return name.removesuffix(ZSTD_SUFFIX)


def manifest_name(name: str) -> str:
    """The name of a backup's manifest."""
    return plain_name(name).removesuffix(_DATABASE_SUFFIX) + MANIFEST_SUFFIX


def is_manifest_name(name: str) -> bool:
    """Whether this is the name of a manifest."""
    return name.endswith(MANIFEST_SUFFIX)


def names_described_by(manifest: str) -> tuple[str, str]:
    """The two names that the backup of this manifest may have: plain and compressed."""
    plain = manifest.removesuffix(MANIFEST_SUFFIX) + _DATABASE_SUFFIX
    return plain, compressed_name(plain)


def is_own_name(name: str) -> bool:
    """Whether a backup of ours has such a name."""
    return bool(_OWN_NAME.fullmatch(name))


def is_database_name(name: str) -> bool:
    """Whether a database file usually has such a name."""
    return bool(_FOREIGN_NAME.fullmatch(name))


def has_word(name: str, words: set[str]) -> bool:
    """Whether the name has one of the words in it, as a whole word."""
    alternatives = "|".join(re.escape(word) for word in words)
    return bool(re.search(rf"(?<![^\W_])({alternatives})(?![^\W_])", name))


def reference_name(reference: str) -> str:
    """The file name in a reference, be it a local path or an address."""
    return PurePath(reference).name
