"""Checks free space before anything is written, and turns a disk that fills up into a sentence."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from actions.model.context import ActionContext
from actions.model.errors import Failed, Refused
from collectors.raw_reader.client import RawReaderUnavailable


def free_bytes(directory: Path) -> int:
    """Bytes that an unprivileged process may still write to the file system of `directory`."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def size_or_zero(path: Path) -> int:
    """The size of a file in bytes by stat; 0 when there is no such file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def database_bytes(context: ActionContext) -> int:
    """Bytes of a copy of the target's newest commit: pages that are still in the WAL count too."""
    size = context.target.path.stat().st_size
    with suppress(RawReaderUnavailable):
        index = context.raw.read_wal_index(context.target.path) if context.target.wal.exists() else None
        return size if index is None or index.frames == 0 else max(size, index.pages * index.page_size)
    return size


def require_free_space(directory: Path, needed: int, reserve: int, what: str) -> None:
    """Raises Refused naming the missing bytes unless `needed` bytes fit and `reserve` stays free."""
    free = free_bytes(directory)
    missing = needed + reserve - free
    if missing > 0:
        raise Refused(
            f"{what} needs {needed} bytes in {directory} and {reserve} must stay free, {free} are: {missing} bytes are missing",
            reason="disk_full",
            next_step="free space there, or lower limits.disk_reserve",
        )


@contextmanager
def explain_full_disk(directory: Path, needed: int, what: str) -> Iterator[None]:
    """Raises Failed with the missing bytes when the disk fills up inside the block."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise _disk_full_error(directory, needed, what) from error
    except apsw.FullError as error:
        raise _disk_full_error(directory, needed, what) from error


def _disk_full_error(directory: Path, needed: int, what: str) -> Failed:
    free = free_bytes(directory)
    return Failed(
        f"the disk of {directory} is full: {what} needs {needed} bytes, {free} are free, {max(0, needed - free)} are missing",
        reason="disk_full",
        next_step="free space there and run it again; what was half written is removed",
    )
