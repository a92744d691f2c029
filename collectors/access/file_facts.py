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
from collectors.raw_reader.wal_readers import Holder, writer
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
class Facts:
    """All that the decision needs. `user` is our effective user id, -1 where there are none (Windows).

    `directory` and `directory_writable` are looked up only when files that we leave could lock the owner out.

    `abandoned_journal`: a rollback journal with a live header lies there and nobody holds the write lock.
    `held`: the answer of `RawReader.hold_wal`, with which -wal and -shm cannot vanish before we have opened.
    `holders`: who holds locks, None where nobody can be seen.
    `exclusive` and `elsewhere` are processes in words: who holds the whole file; who has the -shm open, but not this file.
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
    held: str | None = None
    file_system: str = ""
    holders: tuple[Holder, ...] | None = None
    exclusive: str = ""
    elsewhere: str = ""


def gather(target: Target, raw: RawReader) -> Facts:
    """Look at the files. Raises OSError when they may not be looked at, RawReaderUnavailable.

    When `held` is "held", the caller owes the raw reader a `release`.
    """
    database = _facts(target.path)
    header = raw.database_header(target.path) if database and database.regular else None
    is_wal = header is not None and header.valid and header.wal
    held = raw.hold_wal(target.path) if is_wal else None  # before we look for its files
    holders = seen_holders(raw, target.path) if is_wal else None
    user = os.geteuid() if hasattr(os, "geteuid") else -1
    foreign = database is not None and is_foreign(user, database)
    directory = target.path.parent
    return Facts(
        path=target.path,
        database=database,
        wal=_facts(target.wal),
        shm=_facts(target.shm),
        header=header,
        user=user,
        directory=_facts(directory) if foreign else None,
        directory_writable=foreign
        and os.access(directory, os.W_OK, effective_ids=os.access in os.supports_effective_ids),
        abandoned_journal=abandoned_journal(target, raw),
        held=held,
        file_system=raw.file_system(target.path) if database else "",
        holders=holders,
        exclusive=_exclusive(target, raw) if held == "refused" else "",
        elsewhere=_elsewhere(raw, target.path, holders or ()),
    )


def is_foreign(user: int, database: FileFacts) -> bool:
    """Whether what we create does not belong to the database's owner. What root creates SQLite gives to that owner."""
    return user not in (-1, 0, database.owner)


def who_writes(raw: RawReader, path: Path) -> str:
    """Who holds the write lock or the whole file, in words; empty when nobody is seen. Raises as RawReader does."""
    return in_words(writer(seen_holders(raw, path) or ()))


def in_words(holder: Holder | None) -> str:
    """A process for a person; empty for nobody."""
    if holder is None:
        return ""
    return f"process {holder.pid} ({holder.command_line or holder.command or 'not visible to us'})"


def replaced_for(holders: Iterable[Holder]) -> Holder | None:
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


def _exclusive(target: Target, raw: RawReader) -> str:
    """Who keeps the whole file to itself; empty for connections that are closing, however often they do."""
    for _ in range(LOOKS):
        time.sleep(LOOK_AGAIN_AFTER / LOOKS)
        held = raw.hold_wal(target.path)
        raw.release(target.path)
        if held != "refused" or stat_of(target.shm) is not None:
            return ""
    return who_writes(raw, target.path) or "a process that is not visible to us"


def _elsewhere(raw: RawReader, path: Path, holders: Iterable[Holder]) -> str:
    if replaced_for(holders) is None:
        return ""
    time.sleep(LOOK_AGAIN_AFTER)
    return in_words(replaced_for(seen_holders(raw, path) or ()))


def seen_holders(raw: RawReader, path: Path) -> tuple[Holder, ...] | None:
    """Who holds locks on the database; None where that cannot be seen. Raises RawReaderUnavailable, OSError."""
    try:
        return raw.holders(path)
    except LockTableUnseen:
        return None


def abandoned_journal(target: Target, raw: RawReader) -> bool:
    """Whether an interrupted transaction lies there: a live journal that stays, and nobody who writes."""
    return _nobody_writes(target, raw) and journal_stays(target) and _nobody_writes(target, raw)


def journal_stays(target: Target) -> bool:
    """Whether the same journal still lies there a moment later: a busy application makes one for each commit."""
    before = stat_of(target.journal)
    time.sleep(LOOK_AGAIN_AFTER)
    after = stat_of(target.journal)
    return before is not None and _which(before) == _which(after)


def _which(found: os.stat_result | None) -> tuple[int, ...]:
    return () if found is None else (found.st_ino, found.st_mtime_ns, found.st_size)


def _nobody_writes(target: Target, raw: RawReader) -> bool:
    """A live journal, and no writer of it. Unseen: SQLite itself will tell, it rolls nothing back."""
    if stat_of(target.journal) is None or not raw.journal_is_hot(target.path):
        return False
    holders = seen_holders(raw, target.path)
    return holders is not None and writer(holders) is None


def stat_of(path: Path) -> os.stat_result | None:
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


def _facts(path: Path) -> FileFacts | None:
    found = stat_of(path)
    if found is None:
        return None
    regular = stat.S_ISREG(found.st_mode)
    identity = (found.st_dev, found.st_ino)
    return FileFacts(found.st_size, found.st_uid, found.st_gid, found.st_mode, regular, identity)
