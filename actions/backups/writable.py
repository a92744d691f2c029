"""Tells beforehand whether a folder or a file can be written: a plan must not promise what its run cannot do.

A file is made and removed again, since permissions alone do not tell: a read-only mount, a used-up quota of files, an
immutable folder, a server that maps users.
"""

import os
from pathlib import Path

from actions.backups.publish import create_partial_file
from actions.model.errors import Refused
from actions.model.io_errors import describe_io_error, io_error_cure
from collectors.access.file_facts import nearest_existing_directory


def require_writable_folder(folder: Path, what: str, next_step: str = "") -> None:
    """Raises Refused unless a file can be made in this folder; `what` needs one there."""
    try:
        with create_partial_file(folder, "probe"):
            return
    except OSError as error:
        raise Refused(
            f"{what} cannot be written to {folder}: {describe_io_error(error).partition(':')[0]}",
            reason="not_writable",
            next_step=next_step or io_error_cure(error),
        ) from error


def require_existing_folder(folder: Path, what: str) -> None:
    """Raises Refused unless this is a directory; `what` is to be made in it."""
    if not folder.is_dir():
        raise Refused(
            f"{what} cannot be made: {folder} is no directory",
            reason="no_folder",
            next_step=f"make it (mkdir -p), or mount its disk; {nearest_existing_directory(folder)} exists",
        )


def require_writable_file(path: Path, what: str) -> None:
    """Raises Refused unless this user may write the file as the system says it; it is not opened."""
    if not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise Refused(
            f"{what} cannot be written: {path} is read-only for this user, or its file system is",
            reason="not_writable",
            next_step="run it as the owner, and where its disk is mounted for writing; or restore with --to PATH",
        )
