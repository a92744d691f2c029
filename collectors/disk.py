"""Free disk space where the database, its backups, SQLite's temporary files and our state are stored."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from collectors.access.context import CollectorSpec, PollContext
from collectors.access.file_facts import nearest_existing_directory
from collectors.backup_catalog.store import open_catalog
from collectors.metric import Metric, Sample

NAME = "disk"
SPEC = CollectorSpec(outside_file=True)

FREE = Metric(
    "sqlite_disk_free_bytes",
    "Bytes free to unprivileged users on the file system of this role (statvfs). Roles may share one file system.",
    ("role",),
    fold="min",
)
SIZE = Metric(
    "sqlite_disk_size_bytes", "Size in bytes of the file system of this role (statvfs).", ("role",), fold="min"
)
METRICS = (FREE, SIZE)

SHARED_FOR = 1.0


@dataclass(frozen=True, slots=True)
class FileSystemSpace:
    """Free and total bytes of the file system of one role."""

    role: str
    free: int
    size: int


@dataclass(frozen=True, slots=True)
class DiskReading:
    """One file system for each role that the target has."""

    file_systems: tuple[FileSystemSpace, ...]


def read(context: PollContext, previous: DiskReading | None) -> DiskReading:  # noqa: ARG001 - the collectors' signature
    """Read the free space of each file system. Raises OSError."""
    target, catalog = context.target, open_catalog(context.target)
    backups = None if catalog is None else catalog.space_directory(context.now)
    return DiskReading(_space_by_role(target.path.parent, backups, target.state, int(context.now / SHARED_FOR)))


def samples(reading: DiskReading) -> Iterator[Sample]:
    """Yield free and total space of each role."""
    for room in reading.file_systems:
        yield FREE(room.free, room.role)
        yield SIZE(room.size, room.role)


def temporary_directory() -> Path:
    """Where SQLite creates temporary files: the first usable directory of https://sqlite.org/tempfiles.html, section 5."""
    named = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"))
    for place in (*named, "/var/tmp", "/usr/tmp", "/tmp"):  # noqa: S108 - SQLite's own list
        if place and Path(place).is_dir() and os.access(place, os.W_OK | os.X_OK):
            return Path(place)
    return Path.cwd()


@lru_cache(maxsize=256)
def _space_by_role(
    database: Path, backups: Path | None, state: Path | None, moment: int
) -> tuple[FileSystemSpace, ...]:
    """The space of each role. Many databases share directories: each is read once in SHARED_FOR seconds."""
    places = (("database", database), ("backups", backups), ("temp", temporary_directory()), ("state", state))
    return tuple(FileSystemSpace(role, *_disk_usage(place, moment)) for role, place in places if place is not None)


@lru_cache(maxsize=256)
def _disk_usage(place: Path, _moment: int) -> tuple[int, int]:
    """Free and total bytes. A directory that does not exist yet will be created in its nearest existing parent."""
    usage = shutil.disk_usage(nearest_existing_directory(place))
    return usage.free, usage.total
