"""May we open this database? Decided from file facts and its header, before SQLite is asked anything.

A read-only connection is not harmless by itself: on a WAL database without its -wal and -shm it creates both and leaves
them, and made by another user in a directory that user can write, they turn the application's next write into
"attempt to write a readonly database" (docs/safety.md).
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from collectors.raw_reader.ask import LockTableUnseen, RawReader
from collectors.raw_reader.layout import DatabaseHeader
from collectors.raw_reader.pinners import writer
from collectors.target import Target


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What stat says of one file. `group` and `mode` decide who may write what is created beside it."""

    size: int
    owner: int
    group: int
    mode: int
    regular: bool = True


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the decision needs. `user` is our effective user id, -1 where there are none (Windows).

    `abandoned_journal`: a rollback journal with a live header lies there and nobody holds the write lock.
    """

    path: Path
    database: FileFacts | None
    wal: FileFacts | None
    shm: FileFacts | None
    header: DatabaseHeader | None
    directory: FileFacts | None
    directory_writable: bool
    user: int
    abandoned_journal: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """`state` is a word for `queuekeeper_databases`; `may_open` allows a connection; `up` as `sqlite_up` shows it."""

    state: str
    may_open: bool
    up: bool
    message: str = ""


READABLE = Verdict("readable", may_open=True, up=True)


def gather(target: Target, raw: RawReader) -> Facts:
    """Look at the files. Raises OSError when they may not be looked at, RawReaderUnavailable."""
    database = _facts(target.path)
    header = raw.database_header(target.path) if database and database.regular else None
    directory = target.path.parent
    return Facts(
        path=target.path,
        database=database,
        wal=_facts(target.wal),
        shm=_facts(target.shm),
        header=header,
        directory=_facts(directory),
        directory_writable=os.access(directory, os.W_OK, effective_ids=os.access in os.supports_effective_ids),
        user=os.geteuid() if hasattr(os, "geteuid") else -1,
        abandoned_journal=_abandoned_journal(target, raw),
    )


def decide(facts: Facts) -> Verdict:
    """Whether to open. Every refusal says what to do."""
    if facts.database is None:
        return _refusal("missing", f"{facts.path} is not there")
    if (wrong := _no_database(facts, facts.database)) is not None:
        return wrong
    if facts.header is not None and facts.header.wal:
        return _wal_database(facts, facts.database)
    if facts.abandoned_journal:
        return _refusal(
            "hot_journal",
            f"{facts.path}: a transaction was interrupted and only its owner may roll it back; start the application",
        )
    return READABLE


def _no_database(facts: Facts, database: FileFacts) -> Verdict | None:
    if not database.regular:
        return _refusal("not_a_database", f"{facts.path} is not a regular file")
    # An empty file is a valid database without tables (https://sqlite.org/fileformat2.html, section 1.3).
    if database.size > 0 and (facts.header is None or not facts.header.valid):
        return _refusal("not_a_database", f"{facts.path} is no SQLite database, or it is encrypted")
    return None


def _wal_database(facts: Facts, database: FileFacts) -> Verdict:
    if facts.wal is None or facts.shm is None:
        return Verdict(
            "owner_down",
            may_open=False,
            up=True,
            message=f"{facts.path}: no application has it open (no -wal and -shm beside it); only its size is read",
        )
    if _would_leave_foreign_files(facts, database):
        return _refusal(
            "refused",
            f"{facts.path} belongs to user {database.owner} and we are user {facts.user} and may write its "
            "directory: files that we leave there could lock its owner out; run queuekeeper as that user, or take "
            f"its write permission on {facts.path.parent} away",
        )
    return READABLE


def _would_leave_foreign_files(facts: Facts, database: FileFacts) -> bool:
    """Another user, not root (SQLite gives files made by root to the database's owner), who can write the directory."""
    if facts.user in (-1, 0, database.owner) or not facts.directory_writable:
        return False
    return not _shared_by_group(database, facts.directory)


def _shared_by_group(database: FileFacts, directory: FileFacts | None) -> bool:
    """A setgid directory and a group-writable database of its group: what we create there, the owner can write."""
    if directory is None or not directory.mode & stat.S_ISGID or directory.group != database.group:
        return False
    return database.mode & (stat.S_IRGRP | stat.S_IWGRP) == stat.S_IRGRP | stat.S_IWGRP


def _abandoned_journal(target: Target, raw: RawReader) -> bool:
    if not target.journal.exists() or not raw.journal_is_hot(target.path):
        return False
    try:
        return writer(raw.holders(target.path)) is None
    except LockTableUnseen:
        return False  # SQLite itself will tell: a read-only connection never rolls back


def _facts(path: Path) -> FileFacts | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return FileFacts(found.st_size, found.st_uid, found.st_gid, found.st_mode, stat.S_ISREG(found.st_mode))


def _refusal(state: str, message: str) -> Verdict:
    return Verdict(state, may_open=False, up=False, message=message)
