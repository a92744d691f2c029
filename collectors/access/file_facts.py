"""What can be known of a database's files before SQLite is asked anything: stat, its header, who holds which lock."""

import errno
import os
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from collectors.raw_reader.client import LockTableUnseen, RawReader
from collectors.raw_reader.formats import DatabaseHeader
from collectors.raw_reader.wal_readers import HeldLock, find_write_lock
from collectors.target import Target

# The lock table is read in pieces (proc(5) promises no more): what would be grave is looked at twice.
LOOK_AGAIN_AFTER = 0.05
LOOKS = 10


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What stat says of one file. `group` and `mode` decide who may write what is created beside it.

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
    """All that the decision needs. `user` is our effective user id, -1 where there are none (Windows).

    `directory` and `directory_writable` are looked up only when files that we leave could lock the owner out.

    `abandoned_journal`: a rollback journal with a live header lies there and nobody holds the write lock.
    `wal_hold`: the answer of `RawReader.hold_wal`, with which -wal and -shm cannot vanish before we have opened.
    `held_locks`: locks on its files, None where nobody can be seen.
    `exclusive_holder` and `replaced_file_holder` are processes in words: who holds the whole file; who has the -shm open, but not this file.
    """

    path: Path
    database: FileFacts | None
    wal: FileFacts | None
    shm: FileFacts | None
    header: DatabaseHeader | None
    user: int
    directory: FileFacts | None = None
    directory_writable: bool = False
    abandoned_journal: bool = False
    wal_hold: str | None = None
    file_system: str = ""
    held_locks: tuple[HeldLock, ...] | None = None
    exclusive_holder: str = ""
    replaced_file_holder: str = ""


def gather_facts(target: Target, raw: RawReader) -> DatabaseFacts:
    """Look at the files. Raises OSError when they may not be looked at, RawReaderUnavailable.

    When `wal_hold` is "held", the caller owes the raw reader a `release`.
    """
    database = _file_facts(target.path)
    header = raw.read_database_header(target.path) if database and database.regular else None
    is_wal = header is not None and header.valid and header.wal
    wal_hold = raw.hold_wal(target.path) if is_wal else None  # before we look for its files
    held_locks = visible_holders(raw, target.path) if is_wal else None
    user = os.geteuid() if hasattr(os, "geteuid") else -1
    foreign = database is not None and is_foreign_user(user, database)
    directory = target.path.parent
    return DatabaseFacts(
        path=target.path,
        database=database,
        wal=_file_facts(target.wal),
        shm=_file_facts(target.shm),
        header=header,
        user=user,
        directory=_file_facts(directory) if foreign else None,
        directory_writable=foreign
        and os.access(directory, os.W_OK, effective_ids=os.access in os.supports_effective_ids),
        abandoned_journal=has_abandoned_journal(target, raw),
        wal_hold=wal_hold,
        file_system=raw.read_file_system_type(target.path) if database else "",
        held_locks=held_locks,
        exclusive_holder=_describe_exclusive_holder(target, raw) if wal_hold == "refused" else "",
        replaced_file_holder=_describe_replaced_holder(raw, target.path, held_locks or ()),
    )


def is_foreign_user(user: int, database: FileFacts) -> bool:
    """Whether what we create does not belong to the database's owner. What root creates SQLite gives to that owner."""
    return user not in (-1, 0, database.owner)


def describe_writer(raw: RawReader, path: Path) -> str:
    """Who holds the write lock or the whole file, in words; empty when nobody is seen. Raises as RawReader does."""
    return describe_holder(find_write_lock(visible_holders(raw, path) or ()))


def describe_holder(holder: HeldLock | None) -> str:
    """A process for a person; empty for nobody."""
    if holder is None:
        return ""
    return f"process {holder.pid} ({holder.command_line or holder.command or 'not visible to us'})"


def holder_of_replaced_file(holders: Iterable[HeldLock]) -> HeldLock | None:
    """A process that has the WAL-index open and not the database: what it works on is another file of this name.

    Whoever has the -shm open has taken the database's SHARED lock before and gives it back later (sqlite3WalClose), so
    its absence means that the file under this name was replaced, or that the process lost its locks by closing a plain
    descriptor of the file (https://sqlite.org/howtocorrupt.html, section 2.2).
    """
    rows = tuple(holders)
    at_database = {holder.pid for holder in rows if holder.file == "db"}
    return next(
        (h for h in rows if h.file == "shm" and h.pid not in at_database and h.pid not in (-1, os.getpid())), None
    )


def _describe_exclusive_holder(target: Target, raw: RawReader) -> str:
    """Who keeps the whole file to itself; empty for connections that are closing, however often they do."""
    for _ in range(LOOKS):
        time.sleep(LOOK_AGAIN_AFTER / LOOKS)
        held = raw.hold_wal(target.path)
        raw.release_wal(target.path)
        if held != "refused" or stat_or_none(target.shm) is not None:
            return ""
    return describe_writer(raw, target.path) or "a process that is not visible to us"


def _describe_replaced_holder(raw: RawReader, path: Path, holders: Iterable[HeldLock]) -> str:
    if holder_of_replaced_file(holders) is None:
        return ""
    time.sleep(LOOK_AGAIN_AFTER)
    return describe_holder(holder_of_replaced_file(visible_holders(raw, path) or ()))


def visible_holders(raw: RawReader, path: Path) -> tuple[HeldLock, ...] | None:
    """Who holds locks on the database; None where that cannot be seen. Raises RawReaderUnavailable, OSError."""
    try:
        return raw.find_held_locks(path)
    except LockTableUnseen:
        return None


def has_abandoned_journal(target: Target, raw: RawReader) -> bool:
    """Whether an interrupted transaction lies there: a live journal that stays, and nobody who writes."""
    return _has_unwritten_journal(target, raw) and journal_persists(target) and _has_unwritten_journal(target, raw)


def journal_persists(target: Target) -> bool:
    """Whether the same journal still lies there a moment later: a busy application makes one for each commit."""
    before = stat_or_none(target.journal)
    time.sleep(LOOK_AGAIN_AFTER)
    after = stat_or_none(target.journal)
    return before is not None and _journal_identity(before) == _journal_identity(after)


def _journal_identity(found: os.stat_result | None) -> tuple[int, ...]:
    return () if found is None else (found.st_ino, found.st_mtime_ns, found.st_size)


def _has_unwritten_journal(target: Target, raw: RawReader) -> bool:
    """A live journal, and no writer of it. Unseen: SQLite itself will tell, it rolls nothing back."""
    if stat_or_none(target.journal) is None or not raw.journal_is_hot(target.path):
        return False
    holders = visible_holders(raw, target.path)
    return holders is not None and find_write_lock(holders) is None


def stat_or_none(path: Path) -> os.stat_result | None:
    """What stat says, None when there is no such file. Raises OSError when nobody may know.

    A name that is too long for the file system is the name of no file: SQLite too takes its -journal for absent.
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
    found = stat_or_none(path)
    if found is None:
        return None
    regular = stat.S_ISREG(found.st_mode)
    identity = (found.st_dev, found.st_ino)
    return FileFacts(found.st_size, found.st_uid, found.st_gid, found.st_mode, regular, identity)


def nearest_existing_directory(directory: Path) -> Path:
    """The directory itself, or the nearest parent that exists, in which it will be created."""
    place = directory.absolute()
    return next(folder for folder in (place, *place.parents) if folder.is_dir())
