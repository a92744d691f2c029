"""Decides whether we may open a database, from facts about its files and its header, before SQLite opens it.

A read-only connection is not harmless by itself: on a WAL database without its -wal and -shm it creates both and leaves
them, and made by another user in a directory that user can write, they turn the application's next write into
"attempt to write a readonly database" (docs/safety.md).
"""

import stat
from dataclasses import dataclass, replace

from collectors.access.file_facts import DatabaseFacts, FileFacts, is_foreign_user
from collectors.raw_reader.file_headers import NETWORK_FILE_SYSTEMS


@dataclass(frozen=True, slots=True)
class PreflightVerdict:
    """`state` is a word for `queuekeeper_databases`; `may_open` allows a connection; `up` as `sqlite_up` shows it."""

    state: str
    may_open: bool
    up: bool
    message: str = ""


READABLE = PreflightVerdict("readable", may_open=True, up=True)


def decide_preflight(facts: DatabaseFacts) -> PreflightVerdict:
    """Decide whether to open. Every refusal says what to do."""
    if facts.database is None:
        return _refused_verdict("missing", f"{facts.path} is not there")
    if (wrong := _refuse_non_database(facts, facts.database)) is not None:
        return wrong
    if (problem := facts.name_problem) is not None and problem.unreadable:
        return _refused_verdict(problem.word, f"{problem.message}; {problem.cure}")
    if facts.header is not None and facts.header.wal:
        return _decide_wal_database(facts, facts.database)
    if facts.abandoned_journal:
        return _refused_verdict(
            "hot_journal",
            f"{facts.path}: a transaction was interrupted and only its owner may roll it back; start the application",
        )
    return _readable_verdict(facts)


def _refuse_non_database(facts: DatabaseFacts, database: FileFacts) -> PreflightVerdict | None:
    if not database.regular:
        return _refused_verdict("not_a_database", f"{facts.path} is not a regular file")
    # An empty file is a valid database without tables (https://sqlite.org/fileformat2.html, section 1.3).
    if database.size > 0 and (facts.header is None or not facts.header.valid):
        return _refused_verdict("not_a_database", f"{facts.path} is no SQLite database, or it is encrypted")
    return None


def _readable_verdict(facts: DatabaseFacts) -> PreflightVerdict:
    """The verdict to open, with a warning on a network file system: what can be read is read."""
    if facts.file_system not in NETWORK_FILE_SYSTEMS:
        return READABLE
    warning = (
        f"{facts.path} lies on a network file system ({facts.file_system}): locks are not reliable there and a WAL cannot "
        "be shared between machines; move it to a local disk"
    )
    return replace(READABLE, message=warning)


def _decide_wal_database(facts: DatabaseFacts, database: FileFacts) -> PreflightVerdict:
    if facts.wal_hold == "refused":
        return _exclusively_held_verdict(facts)
    if facts.wal is None or facts.shm is None:
        return _owner_down_verdict(
            f"{facts.path}: no application has it open (no -wal and -shm beside it); only its size is read"
        )
    if facts.replaced_file_holder:
        return _refused_verdict(
            "replaced",
            f"{facts.path} was replaced under {facts.replaced_file_holder}, which still works on the former file (or has "
            "lost its locks on this one): what both write damages it; stop that process, then restore or start it again",
        )
    if _would_leave_foreign_files(facts, database):
        return _refused_verdict(
            "refused",
            f"{facts.path} belongs to user {database.owner} and we are user {facts.user}{_missing_right(facts)} and may write "
            "its directory: files that we leave there could lock its owner out; run queuekeeper as that user, or take "
            f"its write permission on {facts.path.parent} away{_cure_of_root(facts)}",
        )
    return _readable_verdict(facts)


def _missing_right(facts: DatabaseFacts) -> str:
    return " without the right to give files to that user" if facts.user == 0 else ""


def _cure_of_root(facts: DatabaseFacts) -> str:
    return ", or leave CAP_CHOWN to this root, in a user namespace that knows that user" if facts.user == 0 else ""


def _exclusively_held_verdict(facts: DatabaseFacts) -> PreflightVerdict:
    """The verdict on a WAL database that is held exclusively.

    By its last connection while that closes, or with PRAGMA locking_mode=EXCLUSIVE, which has no -shm.
    """
    if not facts.exclusive_holder:
        return _owner_down_verdict(f"{facts.path}: its last connection is closing; only its size is read")
    return _refused_verdict(
        "busy",
        f"{facts.path} is held exclusively by {facts.exclusive_holder}; with PRAGMA locking_mode=EXCLUSIVE no other process "
        "can read it: set it to NORMAL in the application",
    )


def _owner_down_verdict(message: str) -> PreflightVerdict:
    return PreflightVerdict("owner_down", may_open=False, up=True, message=message)


def _would_leave_foreign_files(facts: DatabaseFacts, database: FileFacts) -> bool:
    """Whether we are another user than the owner and can write the directory."""
    if not is_foreign_user(facts.user, database, gives_away=facts.gives_files_away) or not facts.directory_writable:
        return False
    return not _shared_by_group(database, facts.directory)


def _shared_by_group(database: FileFacts, directory: FileFacts | None) -> bool:
    """Whether a setgid directory and a group-writable database of its group let the owner write what we create."""
    if directory is None or not directory.mode & stat.S_ISGID or directory.group != database.group:
        return False
    return database.mode & (stat.S_IRGRP | stat.S_IWGRP) == stat.S_IRGRP | stat.S_IWGRP


def _refused_verdict(state: str, message: str) -> PreflightVerdict:
    return PreflightVerdict(state, may_open=False, up=False, message=message)
