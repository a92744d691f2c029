"""Puts a restored file where the database is missing or malformed. Never while an application is connected.

Old sidecars are moved aside together with the old file: an old WAL beside a new database would be replayed into it
(docs/safety.md). Nothing is overwritten or deleted.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from actions.backups.publish import publish_file, sync_directory, sync_file
from actions.model.context import ActionContext
from actions.model.errors import Blocked, Refused
from collectors.access.rights import sees_open_files_of
from collectors.access.second_name import read_name_facts
from collectors.raw_reader.client import RAW_READER_MODULE, RawReaderUnavailable
from collectors.raw_reader.file_hold import NOT_VISIBLE

_SIDECARS = ("-wal", "-shm", "-journal")


def require_no_open_files(context: ActionContext) -> None:
    """Raises Blocked naming the processes that have the database or a sidecar open, Refused where they cannot be seen.

    An idle application with a rollback journal holds no lock, so open files decide, not locks.
    """
    if context.options.get("application_stopped"):
        return
    if not Path("/proc/self/fd").is_dir() or not sees_open_files_of(_owner_uid(context.target.path)):
        raise Refused(
            "whether an application has the database open cannot be seen here",
            reason="application_unseen",
            next_step="stop the application, then give --application-stopped",
        )
    users = sorted(set(_processes_using(context.target.path)))
    if users:
        names = ", ".join(f"pid {pid} ({name})" for pid, name in users[:3])
        raise Blocked(
            f"the database is open in {names}; a file swapped under an application corrupts it",
            reason="application_connected",
            next_step="stop the application and run it again",
            figures={"pid": users[0][0]},
        )
    if _is_used_unseen(context):
        raise Blocked(
            "the database is open in a process that is not visible to us (of another container); a file swapped under an "
            "application corrupts it",
            reason="application_connected",
            next_step="stop the application and run it again",
        )


def _is_used_unseen(context: ActionContext) -> bool:
    """Whether a process of another pid namespace has a lock on it. Raises Refused where that cannot be asked."""
    try:
        facts = read_name_facts(context.target.path, context.raw)
    except RawReaderUnavailable as error:
        raise Refused(str(error), reason="application_unseen", next_step="run it again") from error
    return facts is not None and NOT_VISIBLE in facts.at_database


def swap_in_restored(context: ActionContext, restored: Path) -> list[Path]:
    """Move the old file and its sidecars aside and give `restored` its name; returns what was moved. Raises Failed, OSError.

    `restored` is a proved private file in the same directory; it is locked for our run before it gets the name.
    """
    target = context.target.path
    descriptor = os.open(restored, os.O_RDONLY | os.O_CLOEXEC)  # never closed: see actions/runner/action_lock.py
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    sync_file(restored)
    aside = f".before-restore-{int(context.now() * 1000)}"
    moved = []
    for suffix in (*_SIDECARS, ""):
        old = target.with_name(target.name + suffix)
        if old.exists():
            old.rename(old.with_name(target.name + aside + suffix))
            moved.append(old.with_name(target.name + aside + suffix))
    publish_file(restored, target)
    sync_directory(target.parent)
    return moved


def copy_ownership(restored: Path, target: Path) -> None:
    """Give a restored file the owner and mode of the database; without a database it is private to the directory's owner."""
    model = target.stat() if target.exists() else target.parent.stat()
    restored.chmod(model.st_mode & 0o777 if target.exists() else 0o600)
    if os.geteuid() == 0:
        os.chown(restored, model.st_uid, model.st_gid)


def _owner_uid(path: Path) -> int:
    try:
        return path.stat().st_uid
    except FileNotFoundError:
        return path.parent.stat().st_uid


def _processes_using(path: Path) -> Iterator[tuple[int, str]]:
    """(pid, command) of every other process that has the database or a sidecar open. Raw readers of ours are left out."""
    names = {os.path.realpath(path) + suffix for suffix in ("", *_SIDECARS)}
    files = {(status.st_dev, status.st_ino) for status in (Path(name).stat() for name in names if Path(name).exists())}
    for process in Path("/proc").iterdir():
        other = process.name.isdigit() and int(process.name) != os.getpid()
        if other and _has_file_open(process, names, files) and not _is_raw_reader(process):
            yield int(process.name), _process_name(process)


def _has_file_open(process: Path, names: set[str], files: set[tuple[int, int]]) -> bool:
    try:
        return any(_refers_to_database(entry, names, files) for entry in (process / "fd").iterdir())
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return False  # it ended; a process of another user cannot have a file open that only its owner may open


def _refers_to_database(entry: Path, names: set[str], files: set[tuple[int, int]]) -> bool:
    """Whether an open file is one of them: by its inode, since its path differs in a container; a deleted one by its path."""
    try:
        status = entry.stat()
        return (status.st_dev, status.st_ino) in files or str(entry.readlink()).removesuffix(" (deleted)") in names
    except FileNotFoundError:
        return False  # it was closed; the other files of this process still count


def _is_raw_reader(process: Path) -> bool:
    """A raw reader keeps the -shm open for some seconds after the application has gone; there is no SQLite in it."""
    try:
        return RAW_READER_MODULE.encode() in (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def _process_name(process: Path) -> str:
    try:
        return (process / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "?"
