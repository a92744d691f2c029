"""Puts a restored file where the database is missing or malformed. Never while an application is connected.

Old sidecars are moved aside together with the old file: an old WAL beside a new database would be replayed into it
(docs/safety.md). Nothing is overwritten or deleted, and the path of a database that is there is never empty meanwhile.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from actions.backups.no_overwrite import move_without_overwrite, replace_keeping_old
from actions.backups.publish import publish_file, sync_directory, sync_file
from actions.model.context import ActionContext
from actions.model.errors import ActionError, Blocked, Failed, Refused
from actions.model.io_errors import describe_io_error, io_error_cure
from collectors.access.rights import sees_open_files_of
from collectors.access.second_name import read_name_facts
from collectors.backup_catalog.partial_names import name_limit, shorten_name
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
    except OSError as error:
        raise Refused(
            f"whether an application has the database open cannot be seen: {describe_io_error(error)}",
            reason="application_unseen",
            next_step="stop the application, then give --application-stopped",
        ) from error
    return facts is not None and NOT_VISIBLE in facts.at_database


def swap_in_restored(context: ActionContext, restored: Path) -> list[Path]:
    """Move the old file and its sidecars aside and give `restored` its name; returns what was moved. Raises Failed, OSError.

    `restored` is a proved private file in the same directory; it is locked for our run before it gets the name. A swap that
    fails is undone: the old files get their names back.
    """
    target = context.target.path
    descriptor = os.open(restored, os.O_RDONLY | os.O_CLOEXEC)  # never closed: see actions/runner/action_lock.py
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    sync_file(restored)
    aside = _free_aside_name(target, f".before-restore-{int(context.now() * 1000)}")
    moved: list[tuple[Path, Path]] = []
    try:
        for old, new in _aside_names(target, aside):
            if os.path.lexists(old):
                replace_keeping_old(old, restored, new) if old == target else move_without_overwrite(old, new)
                moved.append((old, new))
        if (target, aside) in moved:
            sync_directory(target.parent)
        else:
            publish_file(restored, target)
    except (OSError, ActionError) as error:
        raise _undo_swap(target, moved, error) from error
    return [new for _, new in moved]


def _aside_names(target: Path, aside: Path) -> Iterator[tuple[Path, Path]]:
    """Old and new names, sidecars first: an old WAL beside the new file would be replayed into it."""
    for suffix in (*_SIDECARS, ""):
        yield target.with_name(target.name + suffix), aside.with_name(aside.name + suffix)


def _free_aside_name(target: Path, end: str) -> Path:
    room = name_limit(target.parent) - len(end) - len("-journal")
    return target.with_name(shorten_name(target.name, room) + end)


def _undo_swap(target: Path, moved: list[tuple[Path, Path]], error: OSError | ActionError) -> Exception:
    """Give the old files their names back, the database first; the error of the run, with the state that it leaves."""
    stuck = []
    for old, new in reversed(moved):
        try:
            new.replace(old) if old == target else move_without_overwrite(new, old)
        except OSError:
            stuck.append(f"{old} (it lies at {new})")
    after = f"these could not be put back: {', '.join(stuck)}" if stuck else "everything is as it was"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) and not stuck:
        return error
    words = (
        describe_io_error(error) if isinstance(error, OSError) else str(error).removesuffix("; nothing was published")
    )
    cure = io_error_cure(error) if isinstance(error, OSError) else error.next_step
    return Failed(
        f"the restored file could not take the place of {target}: {words}; {after}",
        reason="swap",
        next_step=f"rename them by hand, then: {cure}" if stuck else cure,
    )


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
