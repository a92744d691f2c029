"""Private files that are whole or absent: written under a partial name, synced, then given their final name.

A partial name is what a killed run leaves (collectors/backup_catalog/partial_names.py); a later run removes it. The final
name never overwrites a file (no_overwrite.py), so two files never collide.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from actions.backups.no_overwrite import move_without_overwrite
from actions.model.context import ActionContext
from actions.model.errors import Failed
from actions.model.io_errors import translate_io_error
from actions.model.process_identity import is_process_alive, own_identity
from collectors.backup_catalog.partial_names import (
    PARTIAL,
    SIDECAR_SUFFIXES,
    own_host,
    partial_name,
    partial_writer,
)

# Many network and FUSE file systems cannot sync a directory, and say so in one of these ways.
_NO_DIRECTORY_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})


@contextmanager
def create_partial_file(directory: Path, name: str) -> Iterator[Path]:
    """Create a private file (0600) under a partial name of `name`; the partial name is gone after the block."""
    path = directory / partial_name(directory, name, own_identity())
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    os.close(descriptor)
    try:
        yield path
    finally:
        for suffix in ("", *SIDECAR_SUFFIXES):
            with suppress(OSError):  # what was done is done; a name that stays is removed by the next run
                path.with_name(path.name + suffix).unlink(missing_ok=True)


def final_name(path: Path) -> str:
    """The name that a partial file was to become; that of another file as it is."""
    name, separator, _ = path.name.rpartition(PARTIAL)
    return name.removeprefix(".") if separator else path.name


def sync_file(path: Path) -> None:
    """Wait until the content of a file is on disk."""
    _sync_path(path, os.O_RDONLY)


def publish_file(partial: Path, final: Path) -> None:
    """Give a synced file its final name, for good or not at all.

    Raises Failed when the name is in use or the name cannot be given or synced; OSError of a full disk.
    """
    try:
        move_without_overwrite(partial, final)
    except FileExistsError:
        raise Failed(f"{final} exists already", reason="name_taken", next_step="run it again") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        what = f"{final} cannot get its name by a rename, a link or a placeholder"
        raise translate_io_error(error, what, reason="publish", after="nothing was published") from error
    try:
        sync_directory(final.parent)
    except OSError as error:
        with suppress(OSError):
            final.rename(partial)
        what = f"the new name {final} cannot be brought to the disk"
        raise translate_io_error(error, what, reason="publish", after="nothing was published") from error


def write_private_file(path: Path, text: str) -> None:
    """Write a private file (0600) whole and durable, or not at all. An existing one is replaced, and keeps its owner.

    Root that dates the proof of an application's backup must not lock the application's own agent out of it.
    """
    with create_partial_file(path.parent, path.name) as partial:
        partial.write_text(text, "utf-8")
        with suppress(FileNotFoundError, PermissionError):
            status = path.stat()
            os.chown(partial, status.st_uid, status.st_gid)
        sync_file(partial)
        partial.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory are on disk, where its file system can be asked to. Raises OSError."""
    try:
        _sync_path(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise


def remove_orphaned_partials(directory: Path) -> list[Path]:
    """Remove the partial files of processes of this host that are dead; returns the paths of those that could be."""
    removed = []
    for path in sorted(directory.glob(f".*{PARTIAL}*")):
        with suppress(OSError):
            if _is_orphan(path):
                path.unlink(missing_ok=True)
                removed.append(path)
    return removed


def _is_orphan(path: Path) -> bool:
    """Whether its process is dead: its name ends in HOST@PID:START, and perhaps in a suffix of SQLite's."""
    host, process = partial_writer(path.name)
    return host == own_host() and not is_process_alive(process)


def _sync_path(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:  # which names no file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def make_scratch_folder(context: ActionContext) -> Path:
    """The private directory for temporary copies, beside our history and never beside a database; made when it is missing."""
    assert context.target.state is not None  # noqa: S101 the runner gives every target a state directory
    folder = context.target.state / "scratch"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
