"""Facts about a database's files, gathered before SQLite opens them: stat, header, and which process holds which lock."""

import errno
import os
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from collectors.access.rights import may_give_away
from collectors.access.second_name import NameProblem, find_name_problem
from collectors.raw_reader.client import LockTableUnseen, RawReader
from collectors.raw_reader.formats import DatabaseHeader
from collectors.raw_reader.wal_readers import HeldLock, find_write_lock
from collectors.target import Target

# The lock table is read in pieces (proc(5) promises no more): before a grave conclusion it is read again, after so many
# seconds.
CHECK_AGAIN_AFTER = 0.05
CHECKS = 10


@dataclass(frozen=True, slots=True)
class FileFacts:
    """The stat of one file. `group` and `mode` decide which users may write files that are created beside it.

    `identity`: its device and inode.
    """

    size: int
    owner: int
    group: int
    mode: int
    regular: bool = True
    identity: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """Everything that the preflight decides by. `user` is our effective user id, -1 where there are none (Windows).

    `gives_files_away`: what we create beside it can get the database's owner.
    `directory` and `directory_writable` are looked up only when files that we leave could lock the owner out.
    `abandoned_journal`: a rollback journal with a live header exists and no process holds the write lock.
    `wal_hold`: the answer of `RawReader.hold_wal`, with which -wal and -shm cannot vanish before we have opened.
    `held_locks`: locks on its files, None where they cannot be seen.
    `exclusive_holder`: in words, the process that holds the whole file exclusively, or "".
    `replaced_file_holder`: in words, a process that has the -shm open, but not this file, or "".
    `name_problem`: the file has another name, and what belongs to it may lie beside that one.
    """

    path: Path
    database: FileFacts | None
    wal: FileFacts | None
    shm: FileFacts | None
    header: DatabaseHeader | None
    user: int
    gives_files_away: bool = False
    directory: FileFacts | None = None
    directory_writable: bool = False
    abandoned_journal: bool = False
    wal_hold: str | None = None
    file_system: str = ""
    held_locks: tuple[HeldLock, ...] | None = None
    exclusive_holder: str = ""
    replaced_file_holder: str = ""
    name_problem: NameProblem | None = None


def gather_facts(target: Target, raw: RawReader) -> DatabaseFacts:
    """Gather all facts. Raises OSError without permission to, RawReaderUnavailable.

    When `wal_hold` is "held", the caller must call `release_wal`.
    """
    database = _file_facts(target.path)
    header = raw.read_database_header(target.path) if database and database.regular else None
    is_wal = header is not None and header.valid and header.wal
    held_locks = visible_holders(raw, target.path) if is_wal else None
    problem = find_name_problem(target.path, raw, held_locks or (), wal=is_wal) if database else None
    wal_hold = _hold_files(target, raw, problem) if is_wal else None  # before the stat of its files
    user = os.geteuid() if hasattr(os, "geteuid") else -1
    gives_away = database is not None and user not in (-1, database.owner) and _gives_away(database)
    foreign = database is not None and is_foreign_user(user, database, gives_away=gives_away)
    directory = target.path.parent
    return DatabaseFacts(
        path=target.path,
        database=database,
        wal=_file_facts(target.wal),
        shm=_file_facts(target.shm),
        header=header,
        user=user,
        gives_files_away=gives_away,
        directory=_file_facts(directory) if foreign else None,
        directory_writable=foreign
        and os.access(directory, os.W_OK, effective_ids=os.access in os.supports_effective_ids),
        abandoned_journal=has_abandoned_journal(target, raw),
        wal_hold=wal_hold,
        file_system=raw.read_file_system_type(target.path) if database else "",
        held_locks=held_locks,
        exclusive_holder=_describe_exclusive_holder(target, raw) if wal_hold == "refused" else "",
        replaced_file_holder=_describe_replaced_holder(raw, target.path, held_locks or ()),
        name_problem=problem,
    )


def _hold_files(target: Target, raw: RawReader, problem: NameProblem | None) -> str | None:
    """Hold its -wal and -shm, unless it is not to be read: a survey may have held it already, and a hold could only harm."""
    if problem is None or not problem.unreadable:
        return raw.hold_wal(target.path)
    raw.release_wal(target.path)
    return None


def _gives_away(database: FileFacts) -> bool:
    return may_give_away(database.owner, database.group)


def is_foreign_user(user: int, database: FileFacts, *, gives_away: bool) -> bool:
    """Whether files that we create do not belong to the database's owner. SQLite gives what root creates to that owner,
    where the kernel lets it.
    """
    return user not in (-1, database.owner) and not gives_away


def describe_writer(raw: RawReader, path: Path) -> str:
    """The process with the write lock or the whole file, in words; empty when none is seen. Raises as RawReader does."""
    return describe_holder(find_write_lock(visible_holders(raw, path) or ()))


def describe_holder(holder: HeldLock | None) -> str:
    """The process of a held lock in words; empty without a lock."""
    if holder is None:
        return ""
    return f"process {holder.pid} ({holder.command_line or holder.command or 'not visible to us'})"


def holder_of_replaced_file(holders: Iterable[HeldLock]) -> HeldLock | None:
    """A process that has the WAL-index open and not the database: it works on another file of this name.

    A process opens the -shm after it took the database's SHARED lock, and closes it before it gives that back
    (sqlite3WalClose). So the absence of that lock means that the file under this name was replaced, or that the process
    lost its locks by closing a plain descriptor of the file (https://sqlite.org/howtocorrupt.html, section 2.2).
    """
    rows = tuple(holders)
    at_database = {holder.pid for holder in rows if holder.file == "db"}
    return next(
        (h for h in rows if h.file == "shm" and h.pid not in at_database and h.pid not in (-1, os.getpid())), None
    )


def _describe_exclusive_holder(target: Target, raw: RawReader) -> str:
    """The process that keeps the whole file exclusively, in words; empty when connections are only being closed."""
    for _ in range(CHECKS):
        time.sleep(CHECK_AGAIN_AFTER / CHECKS)
        answer = raw.hold_wal(target.path)
        raw.release_wal(target.path)
        if answer != "refused" or stat_or_none(target.shm) is not None:
            return ""
    return describe_writer(raw, target.path) or "a process that is not visible to us"


def _describe_replaced_holder(raw: RawReader, path: Path, holders: Iterable[HeldLock]) -> str:
    if holder_of_replaced_file(holders) is None:
        return ""
    time.sleep(CHECK_AGAIN_AFTER)
    return describe_holder(holder_of_replaced_file(visible_holders(raw, path) or ()))


def visible_holders(raw: RawReader, path: Path) -> tuple[HeldLock, ...] | None:
    """Locks on the database and its WAL-index; None where they cannot be seen. Raises RawReaderUnavailable, OSError."""
    try:
        return raw.find_held_locks(path)
    except LockTableUnseen:
        return None


def has_abandoned_journal(target: Target, raw: RawReader) -> bool:
    """Whether a transaction was interrupted: a live journal persists, and no process writes."""
    return _has_unwritten_journal(target, raw) and journal_persists(target) and _has_unwritten_journal(target, raw)


def journal_persists(target: Target) -> bool:
    """Whether the same journal still exists a moment later: a busy application creates one for each commit."""
    before = stat_or_none(target.journal)
    time.sleep(CHECK_AGAIN_AFTER)
    after = stat_or_none(target.journal)
    return before is not None and _journal_identity(before) == _journal_identity(after)


def _journal_identity(status: os.stat_result | None) -> tuple[int, ...]:
    return () if status is None else (status.st_ino, status.st_mtime_ns, status.st_size)


def _has_unwritten_journal(target: Target, raw: RawReader) -> bool:
    """Whether there is a live journal and no writer. False where locks cannot be seen: SQLite will report it itself."""
    if stat_or_none(target.journal) is None or not raw.journal_is_hot(target.path):
        return False
    holders = visible_holders(raw, target.path)
    return holders is not None and find_write_lock(holders) is None


def stat_or_none(path: Path) -> os.stat_result | None:
    """The stat of a file, None when there is no such file. Raises OSError without permission.

    A name that is too long for the file system names no file: SQLite too takes its -journal for absent.
    """
    try:
        return os.stat(path)  # noqa: PTH116 - half the cost of Path.stat, and this is done for every database
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise


def _file_facts(path: Path) -> FileFacts | None:
    status = stat_or_none(path)
    if status is None:
        return None
    regular = stat.S_ISREG(status.st_mode)
    identity = (status.st_dev, status.st_ino)
    return FileFacts(status.st_size, status.st_uid, status.st_gid, status.st_mode, regular, identity)


def nearest_existing_directory(directory: Path) -> Path:
    """The directory itself, or the nearest parent that exists, in which it will be created."""
    place = directory.absolute()
    return next(folder for folder in (place, *place.parents) if folder.is_dir())
