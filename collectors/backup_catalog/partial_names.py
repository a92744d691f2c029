"""The names of files that are being written: `.NAME.partial-HOST@PID:START`. A killed run leaves such a file.

They name the process that writes, so that a later run on the same host can remove them. What another host left (a container
has a new host name each time) cannot be judged from here: it is listed, and removed when a person says so.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from collectors.target import Target

PARTIAL = ".partial-"
SIDECAR_SUFFIXES = ("-journal", "-wal", "-shm")
# What SQLite opens at most, in bytes (MAX_PATHNAME in https://sqlite.org/src/file/src/os_unix.c), its journal included.
LONGEST_SQLITE_PATH = 512
# A partial name with the longest host name (64 bytes), its digest and a journal's suffix.
SHORTEST_PARTIAL_NAME = 120
_USUAL_NAME_LIMIT = 255
_DIGEST_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Leftover:
    """A partial file of another host. `size` in bytes, `written_at` in seconds since the epoch."""

    path: Path
    host: str
    size: int
    written_at: float


def own_host() -> str:
    """The name of this host, as it is part of partial names; without what cannot be part of a file name."""
    return os.uname().nodename.replace("/", "_").replace("@", "_") if hasattr(os, "uname") else "here"


def partial_name(folder: Path, name: str, process: str) -> str:
    """The partial name of `name` for a process of this host; shortened where the file system or SQLite takes no longer one."""
    end = f"{PARTIAL}{own_host()}@{process}"
    room = usable_name_length(folder) - len(os.fsencode(end)) - len("-journal") - 1
    return f".{shorten_name(name, room)}{end}"


def usable_name_length(folder: Path) -> int:
    """The most bytes of a file name there that the file system takes, and SQLite as a part of the whole path."""
    return min(name_limit(folder), LONGEST_SQLITE_PATH - len(os.fsencode(folder.absolute())) - 2)


def name_limit(folder: Path) -> int:
    """The most bytes of a file name in this folder: 255 in most file systems, 143 in one that encrypts names."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        return _USUAL_NAME_LIMIT


def shorten_name(name: str, room: int) -> str:
    """The name when it has at most `room` bytes, else its beginning and a digest that keeps it distinct."""
    encoded = os.fsencode(name)
    if len(encoded) <= room:
        return name
    beginning = encoded[: max(0, room - _DIGEST_LENGTH - 1)].decode("utf-8", "ignore")
    return f"{beginning}~{hashlib.sha256(encoded).hexdigest()[:_DIGEST_LENGTH]}"


def partial_writer(name: str) -> tuple[str, str]:
    """(host, process) of a partial name, which perhaps ends in a suffix of SQLite's."""
    host, _, process = name.rpartition(PARTIAL)[2].partition("@")
    for suffix in SIDECAR_SUFFIXES:
        process = process.removesuffix(suffix)
    return host, process


def find_leftovers(target: Target, folders: tuple[Path, ...]) -> tuple[Leftover, ...]:
    """The partial files of other hosts in the folders of backups, and those of a restore beside the database.

    They may still be written there. A folder that cannot be read has none.
    """
    beside = target.path.parent.glob(f".{_escape_pattern(target.path.name)}{PARTIAL}*")
    paths = {path for folder in folders for path in _glob_readable(folder)} | set(beside)
    return tuple(leftover for path in sorted(paths) for leftover in _describe_leftover(path))


def describe_leftovers(leftovers: tuple[Leftover, ...]) -> str:
    """The leftovers as the end of a sentence; empty without any."""
    if not leftovers:
        return ""
    hosts = ", ".join(sorted({leftover.host or "?" for leftover in leftovers}))
    return (
        f"; {len(leftovers)} partial files of other hosts ({hosts}) take {sum(each.size for each in leftovers)} bytes"
    )


def leftovers_cure(target: Target) -> str:
    """How to remove the leftovers."""
    return f"when nothing is written there any more: queuekeeper backups prune {target.name} --remove-partials"


def _glob_readable(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.glob(f".*{PARTIAL}*")
    except OSError:
        return


def _describe_leftover(path: Path) -> Iterator[Leftover]:
    host, _ = partial_writer(path.name)
    if host == own_host():
        return
    try:
        status = path.lstat()
    except OSError:
        return
    yield Leftover(path, host, status.st_size, status.st_mtime)


def _escape_pattern(name: str) -> str:
    """The name as a glob pattern that fits it alone (glob.escape, for one name)."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)
