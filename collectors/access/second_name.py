"""Decides whether a database may be read and changed by this name: its WAL or journal may lie beside another one.

A hard link and a mount of the single file (what compose files do) give one file two names, and SQLite puts -wal, -shm and
-journal beside the name that a process opened. From the other name commits are missing, a crashed transaction looks whole,
and a change makes the database malformed (https://sqlite.org/howtocorrupt.html, section 2.4). Locks belong to the file,
whatever its name: a process with a lock on the database and none on the -shm of this name works by another one.
"""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collectors.raw_reader.client import RawReader
from collectors.raw_reader.file_hold import NOT_NAMED, NOT_VISIBLE
from collectors.raw_reader.wal_readers import HeldLock

SECOND_NAME, WAL_DELETED = "second_name", "wal_deleted"
# A process that is just opening the database has no lock on the -shm yet: so often, so many seconds apart, it is asked again.
LOOKS, LOOK_AGAIN_AFTER = 6, 0.01


@dataclass(frozen=True, slots=True)
class NameSignals:
    """What a poll asks for each database (`raw_reader.file_names.read_name_signals`)."""

    links: int = 1
    mounted_from: str = ""
    layer_of: str = ""
    shared_by: int | None = None
    index_alone: bool = False


@dataclass(frozen=True, slots=True)
class FileUser:
    """A process that has the file open: `here` by this name, else by `path`, as that process knows it.

    `writes`: for change; `shares`: it has the -wal or -shm of this name open; `deleted`: it has one that was deleted;
    `log`: the only -wal that it has open, else "".
    """

    pid: int
    path: str
    here: bool = False
    writes: bool = True
    shares: bool = False
    deleted: bool = False
    log: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class NameFacts:
    """All that is known about the names of a database. Fields as in `raw_reader.file_users.inspect_names`."""

    path: Path
    wal: bool
    index: bool = False
    links: int = 1
    mounted_from: str = ""
    layer_of: str = ""
    at_database: tuple[int, ...] = ()
    at_index: tuple[int, ...] = ()
    users: tuple[FileUser, ...] = ()
    other_names: tuple[str, ...] = ()
    all_names: bool = True
    hidden: tuple[str, ...] = ()
    single_mounts: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class NameProblem:
    """Why this name must not be used: a word, a sentence, the next step, and the process at the other name, if one is seen.

    `unreadable` is false where only a change could do harm.
    """

    word: str
    message: str
    cure: str
    pid: int | None = None
    unreadable: bool = True


def find_name_problem(
    path: Path, raw: RawReader, holders: Iterable[HeldLock] = (), *, wal: bool, acting: bool = False
) -> NameProblem | None:
    """The problem with this name, None when there is none. `holders`: locks on its files; `acting`: look closely.

    Raises RawReaderUnavailable, OSError.
    """
    path = resolve_link(path)
    signals = read_signals(path, raw)
    if signals is None or not (acting or looks_suspicious(signals, wal=wal, holders=holders)):
        return None
    problem = None
    for look in range(LOOKS):
        if look:
            time.sleep(LOOK_AGAIN_AFTER)
        facts = read_name_facts(path, raw)
        before, problem = problem, None if facts is None else judge_name(facts, os.getpid())
        if problem is None or problem.pid is None or (before is not None and before.pid != problem.pid):
            break
    return problem


def resolve_link(path: Path) -> Path:
    """The file that a symbolic link leads to: SQLite puts -wal, -shm and -journal beside that one."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def looks_suspicious(signals: NameSignals, *, wal: bool, holders: Iterable[HeldLock] = ()) -> bool:
    """Whether the names of a database deserve a closer look. Pure."""
    if signals.links > 1 or signals.mounted_from or signals.layer_of:
        return True
    if not wal or signals.index_alone:
        return wal
    rows = tuple(holders)
    at_index = {holder.pid for holder in rows if holder.file == "shm"}
    strangers = {h.pid for h in rows if h.file == "db" and h.row.kind == "POSIX" and h.row.mode == "READ"} - at_index
    return signals.shared_by not in (None, NOT_NAMED) or bool(strangers - {os.getpid()})


def judge_name(facts: NameFacts, ours: int) -> NameProblem | None:
    """Decide. `ours`: our own process id, whose connections do not count. Pure."""
    if facts.layer_of:
        return _problem_of_layer(facts)
    users = {user.pid: user for user in facts.users if user.pid != ours}
    at_database = [pid for pid in facts.at_database if pid != ours]
    if facts.wal:
        working = [pid for pid in at_database if not _works_here(facts, users.get(pid), pid)]
        here = len(working) < len(at_database)
    else:
        working = [pid for pid, user in users.items() if user.writes and not user.here]
        here = any(user.writes and user.here for user in users.values())
    if working:
        return _problem_of_process(facts, users.get(working[0]) or FileUser(working[0], ""))
    if here:
        return None
    if facts.links > 1 or facts.mounted_from:
        return _problem_of_names(facts)
    return _problem_of_mount(facts, *facts.single_mounts[0]) if facts.single_mounts else None


def read_signals(path: Path, raw: RawReader) -> NameSignals | None:
    """Ask the raw reader what hints at another name; None without a file. Raises RawReaderUnavailable, OSError."""
    answer = raw.query_reader("name_signals", path)
    return None if answer is None else NameSignals(**answer)


def read_name_facts(path: Path, raw: RawReader) -> NameFacts | None:
    """Ask the raw reader for everything about the names; None without a file. Raises RawReaderUnavailable, OSError."""
    path = resolve_link(path)
    answer = raw.query_reader("names", path)
    if answer is None:
        return None
    users = tuple(_parse_user(user) for user in answer.pop("users"))
    mounts = tuple((int(pid), str(place)) for pid, place in answer.pop("single_mounts"))
    rest: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in answer.items()}
    return NameFacts(path=path, users=users, single_mounts=mounts, **rest)


def _parse_user(user: dict[str, Any]) -> FileUser:
    command = user.pop("command_line") or user.pop("command")
    return FileUser(
        **{key: user[key] for key in ("pid", "path", "here", "writes", "shares", "deleted", "log")}, command=command
    )


def _works_here(facts: NameFacts, user: FileUser | None, pid: int) -> bool:
    """Whether a process at a WAL database uses the files beside this name.

    Of one that is not visible only that is known, whether a process is connected to the -shm. A reader that may not write
    the -shm has it open without any lock.
    """
    if pid in (NOT_VISIBLE, NOT_NAMED):
        return bool(facts.at_index)
    if user is not None and user.deleted:
        return False
    return pid in facts.at_index or (user is not None and user.shares)


def _problem_of_process(facts: NameFacts, user: FileUser) -> NameProblem:
    who = (
        f"process {user.pid} ({user.command or 'not visible to us'})" if user.pid > 0 else "a process not visible to us"
    )
    if user.here and user.deleted:
        return NameProblem(
            WAL_DELETED,
            f"{facts.path}: the -wal and -shm of {who} were deleted while it works on it: its commits are not seen from here, "
            "and a change from here would damage the database",
            "stop that process in the regular way, which copies its commits into the database, and start it again",
            user.pid,
        )
    former = user.log.removesuffix("-wal")
    name = former if user.here else user.path or next(iter(facts.other_names), "")
    return NameProblem(
        SECOND_NAME,
        f"{facts.path}: {who} works on this file by another name{f' ({name})' if name else ''}, and its "
        f"{'-wal and -shm lie' if facts.wal else '-journal lies'} beside that one: commits are missing here, and a change "
        "from here would damage the database",
        _cure_of_rename(name) if user.here else _cure_of(facts, name),
        user.pid,
    )


def _problem_of_names(facts: NameFacts) -> NameProblem:
    """The file has another name and no process is seen at this one: what lies beside the other one cannot be known."""
    if facts.mounted_from:
        why = f"{facts.path} is a mount of the single file {facts.mounted_from}: its -wal and -journal lie beside that one"
        name = facts.mounted_from
    else:
        name = next(iter(facts.other_names), "")
        why = f"{facts.path} is one of {facts.links} names of this file (hard links){f', another is {name}' if name else ''}"
        why += (
            f"; {facts.hidden[0]} holds what belongs to it" if facts.hidden else ", and no process uses it by this one"
        )
    known = not facts.mounted_from and facts.all_names and not facts.hidden
    return NameProblem(
        SECOND_NAME,
        f"{why}: commits there are not seen from here, and a change from here could damage the database",
        _cure_of(facts, name) if facts.mounted_from or facts.hidden else _cure_of_links(facts),
        unreadable=not known,
    )


def _problem_of_layer(facts: NameFacts) -> NameProblem:
    """The file is in the writable layer of a container's file system, which has locks of its own."""
    return NameProblem(
        SECOND_NAME,
        f"{facts.path} lies in the writable layer of an overlay (a container's file system), where it is {facts.layer_of}: "
        "locks taken there are not seen from here, nor ours from there, and two applications would damage the database",
        f"use {facts.layer_of} as long as it is mounted; better keep the database in a volume",
    )


def _problem_of_mount(facts: NameFacts, pid: int, place: str) -> NameProblem:
    """The single file is mounted elsewhere, where an application may work on it at any time."""
    return NameProblem(
        SECOND_NAME,
        f"{facts.path} is also mounted as a single file at {place} (seen by process {pid}), and no application uses it by "
        "this name: commits may lie beside that one, and a change from here could damage the database",
        _cure_of(facts, place),
        unreadable=False,
    )


def _cure_of(facts: NameFacts, name: str) -> str:
    if facts.mounted_from:
        return f"mount the folder that holds {name or 'it'} instead of the single file, and use the database in there"
    use = f"use {name}" if name else "use the name that the application uses"
    if facts.links > 1:
        return f"{use}, or {_cure_of_links(facts)}"
    return f"{use}; where that is a mount of the single file in a container, give the container its folder instead"


def _cure_of_links(facts: NameFacts) -> str:
    search = f"`find {facts.path.parent} -xdev -samefile {facts.path}` shows those below a folder"
    return f"remove the other names that the application does not use and make copies instead of hard links ({search})"


def _cure_of_rename(former: str) -> str:
    """Its -wal has kept the name that the database had when that process opened it."""
    name = f"{former} " if former else "its former name "
    return f"the file was renamed under that process: stop it, give the file {name}again, and move it with its -wal"
