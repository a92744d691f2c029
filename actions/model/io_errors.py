"""Turns an error of the operating system into a sentence with a next step: its own text names neither."""

import errno
import os
from pathlib import Path

import apsw

from actions.model.errors import ActionError, Failed

_CURES = {
    errno.EACCES: "let this user (uid {user}) write there, or run as the owner",
    errno.EPERM: "let this user (uid {user}) do that there (owner, attributes of lsattr, the container's profile)",
    errno.EROFS: "mount it for writing, or name another folder",
    errno.ENOENT: "make the folder, and see whether its disk is mounted",
    errno.ENOTDIR: "name a folder where the path names a file",
    errno.ENAMETOOLONG: "use a shorter name or a folder nearer to the root",
    errno.EIO: "look for errors of the disk (dmesg, smartctl), then run it again",
    errno.ESTALE: "mount the network folder again, then run it again",
    errno.EMFILE: "raise the limit of open files (ulimit -n), then run it again",
    errno.ENFILE: "raise the machine's limit of open files (fs.file-max), then run it again",
    errno.ENOMEM: "free memory, then run it again",
    errno.ENOSPC: "free space there, then run it again",
    errno.EDQUOT: "free space there or raise the quota, then run it again",
    errno.EXDEV: "use folders on one file system",
}


def describe_io_error(error: OSError) -> str:
    """What the system says, and of which file, without its number: `Read-only file system: /mnt/b/x`."""
    words = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    return ": ".join([words, *(str(path) for path in (error.filename2 or error.filename,) if path)])


def io_error_cure(error: OSError) -> str:
    """The next step that helps against this error."""
    cure = _CURES.get(error.errno or 0, "see what the message names, then run it again")
    return cure.format(user=os.geteuid() if hasattr(os, "geteuid") else "?")


def translate_io_error(error: OSError, what: str = "", *, reason: str = "io", after: str = "") -> ActionError:
    """The error of a run: `what` could not be done, why, and the state it is in (`after`)."""
    beginning = f"{what}: " if what else ""
    end = f"; {after}" if after else ""
    return Failed(f"{beginning}{describe_io_error(error)}{end}", reason=reason, next_step=io_error_cure(error))


def is_unwritable_folder(path: Path, error: apsw.Error) -> bool:
    """Whether the database could not be opened, or changed, since its folder is read-only; a hot journal is another matter."""
    refused = isinstance(error, apsw.CantOpenError | apsw.ReadOnlyError)
    if not refused or getattr(error, "extendedresult", 0) == apsw.SQLITE_READONLY_ROLLBACK:
        return False
    return not os.access(path.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
