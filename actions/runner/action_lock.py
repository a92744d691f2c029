"""The action lock: one action per database, over all agents, state directories and users. Freed by death.

Linux: `flock` on the database file itself, acquired before the child's first connection to it and never released explicitly:
closing *any* descriptor of a file drops the process's POSIX locks on it, so a close beside an open connection would take
SQLite's own locks away (https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_).
`flock` and SQLite's POSIX locks do not affect each other. Nothing is left behind, no file appears beside the database.
Elsewhere: a lock file in the state directory.
"""

import hashlib
import os
import stat
import sys
from pathlib import Path

from actions.model.errors import Failed, Locked


def acquire_action_lock(database: Path, state: Path, *, may_be_missing: bool = False) -> int:
    """Lock the database for this process until it ends; returns the descriptor, which is never closed.

    `may_be_missing`: where there is no database, its directory is locked. Raises Locked when another process holds
    the lock, Failed when the file cannot be opened or was replaced in between.
    """
    place = database if sys.platform == "linux" else _lock_file_path(database, state)
    if may_be_missing and not place.exists():
        place = place.parent
    descriptor = _open_for_locking(place)
    if place == database and not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise Failed(f"{database} is not a regular file", reason="not_a_file", next_step="check the path")
    _acquire_flock(descriptor, database)
    if place == database and not _is_same_file(descriptor, database):
        raise Failed(
            f"{database} was replaced while it was being locked",
            reason="replaced",
            next_step="run it again on the new file",
        )
    return descriptor


def _open_for_locking(place: Path) -> int:
    try:
        # O_NONBLOCK: a fifo must not make us wait for a writer
        return os.open(place, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise Failed(f"{place} not found", reason="missing", next_step="check the path") from None
    except OSError as error:
        raise Failed(
            f"cannot open {place}: {error.strerror}",
            reason="permission",
            next_step="run as the database's owner or as root",
        ) from error


def _acquire_flock(descriptor: int, database: Path) -> None:
    import fcntl  # only POSIX has it

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Locked(
            f"another action is running on {database}",
            reason="action_running",
            next_step="wait for it; `queuekeeper history` shows it",
        ) from None


def _is_same_file(descriptor: int, database: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), database.stat())
    except FileNotFoundError:
        return False


def _lock_file_path(database: Path, state: Path) -> Path:
    name = hashlib.sha256(str(database.resolve()).encode()).hexdigest()
    place = state / "locks" / name
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.touch(mode=0o600)
    return place
