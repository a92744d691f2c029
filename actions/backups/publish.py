"""Publishing a backup: written under a partial name, proved, synced, then linked to its final name; the manifest last.

A final name without a manifest is an unverified backup; a partial name is rubbish of a killed run. A hard link never
overwrites, so two backups never collide.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from actions.model.context import ActionContext
from actions.model.errors import Failed
from actions.model.process_identity import is_process_alive, own_identity

PARTIAL = ".partial-"
SIDECAR_SUFFIXES = ("-journal", "-wal", "-shm")
# Room for a manifest; one of a few hundred tables is smaller.
MANIFEST_BYTES = 64 * 1024


def backup_file_name(database: str, label: str, snapshot_time: float) -> str:
    """queue_backup_[LABEL_]DATABASE_TIMESTAMP.db, the time in UTC to the microsecond."""
    stamp = datetime.fromtimestamp(snapshot_time, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", database)  # a name made of folders, or a file name of the application's
    parts = ["queue_backup", label, safe, stamp.replace(".", "_")]
    return "_".join(part for part in parts if part) + ".db"


@contextmanager
def create_partial_file(directory: Path, name: str) -> Iterator[Path]:
    """A new private file (0600) under a partial name in the same directory; gone afterwards unless published."""
    path = directory / f".{name}{PARTIAL}{os.uname().nodename}@{own_identity()}"
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    os.close(descriptor)
    try:
        yield path
    finally:
        for beside in ("", *SIDECAR_SUFFIXES):
            path.with_name(path.name + beside).unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Have the file's content on disk."""
    _sync_path(path, os.O_RDONLY)


def publish_file(partial: Path, final: Path) -> None:
    """Give a synced file its final name. Raises Failed when the name is taken."""
    try:
        os.link(partial, final)
    except FileExistsError:
        raise Failed(f"{final} exists already", reason="name_taken", next_step="run it again") from None
    sync_directory(final.parent)


def write_private_file(path: Path, text: str) -> None:
    """A whole private file (0600) or none, durable. An existing one is replaced."""
    with create_partial_file(path.parent, path.name) as partial:
        partial.write_text(text, "utf-8")
        sync_file(partial)
        partial.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Have the names in a directory on disk."""
    _sync_path(directory, os.O_RDONLY | os.O_DIRECTORY)


def remove_orphaned_partials(directory: Path) -> list[Path]:
    """Remove what processes of this host that are dead left half written; returns it."""
    removed = [path for path in sorted(directory.glob(f".*{PARTIAL}*")) if _is_orphan(path)]
    for path in removed:
        path.unlink(missing_ok=True)
    return removed


def _is_orphan(path: Path) -> bool:
    """Its name ends in HOST@PID:START, and perhaps a suffix of SQLite's."""
    host, _, process = path.name.rpartition(PARTIAL)[2].partition("@")
    for suffix in SIDECAR_SUFFIXES:
        process = process.removesuffix(suffix)
    return host == os.uname().nodename and not is_process_alive(process)


def _sync_path(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_scratch_folder(work: ActionContext) -> Path:
    """The folder, made when it is missing."""
    assert work.target.state is not None  # noqa: S101 the door gives every target a state directory
    folder = work.target.state / "scratch"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
