"""Finds the backups of every database in a local folder, by their manifests: what a new host has of the old one.

A folder of backups itself, DIRECTORY/DATABASE as it is configured, and a database with a folder in its name are looked into.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from collectors.backup_catalog.catalog import Backup
from collectors.backup_catalog.local_directory import read_manifest
from collectors.backup_catalog.manifest import Manifest, ManifestError
from collectors.backup_catalog.names import MANIFEST_SUFFIX, PREFIX, names_described_by
from collectors.backup_catalog.order import verified_newest_first

_DEPTHS = ("", "*/", "*/*/")


def find_sources(folder: Path, now: float) -> dict[str, list[Backup]]:
    """The verified backups of each database, newest first, by the path in its manifest."""
    backups: dict[str, list[Backup]] = defaultdict(list)
    for depth in _DEPTHS:
        for path in sorted(folder.glob(f"{depth}{PREFIX}*{MANIFEST_SUFFIX}")):
            for source, backup in _read_described(path):
                backups[source].append(backup)
    ordered = {source: verified_newest_first(each, now) for source, each in sorted(backups.items())}
    return {source: each for source, each in ordered.items() if each}


def _read_described(path: Path) -> Iterator[tuple[str, Backup]]:
    """The path of the source, and the backup of this manifest when it is there and its size fits."""
    try:
        manifest = read_manifest(path)
    except (ManifestError, OSError):
        return
    for name in names_described_by(path.name):
        backup = path.with_name(name)
        if backup.is_file() and backup.stat().st_size == manifest.bytes:
            yield manifest.source.path, _judge_by_manifest(backup, manifest)


def _judge_by_manifest(path: Path, manifest: Manifest) -> Backup:
    verified = manifest.verified_time is not None and manifest.damaged_time is None
    status = path.stat()
    return Backup(
        path.name, str(path), status.st_size, status.st_mtime, "verified" if verified else "unverified", manifest
    )
