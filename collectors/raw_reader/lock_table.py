"""The kernel's lock table (/proc/locks, proc(5)) and the names under which files and processes stand in it.

Reading it costs about 2 microseconds for each row of the whole machine (bench/lock_sampler.py): polls of many databases
share one text for twice as long as reading it took. After a tenth of a second without a reader the kernel lets it wait some
milliseconds more (it makes all takers of locks agree, without stopping them): that is latency of ours, not of theirs.
"""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCKS = Path("/proc/locks")
REUSE = 2.0
READS, PAGE = 3, 4096
DEAR = 0.001
# A dear table may be this old in any case (seconds): a state needs two looks half a second apart.
REUSE_AT_LEAST = 0.05
Place = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Read:
    text: str
    at: float
    cost: float


_kept: _Read | None = None
_mounts: dict[int, tuple[int, int]] = {}
_file_systems: dict[int, str] = {}


def lock_table(reads: int = READS) -> str | None:
    """The table's text, read anew; None where this system has none.

    The kernel gives it out in pages and finds its place again by counting: a lock that somebody releases meanwhile makes it
    leave out the row at the page's end (bench/lock_sampler.py). So a table of several pages is read `reads` times, and what
    any of them shows is there.
    """
    try:
        text = LOCKS.read_text("ascii", "replace")
        if len(text) <= PAGE or reads == 1:
            return text
        texts = (text, *(LOCKS.read_text("ascii", "replace") for _ in range(reads - 1)))
    except FileNotFoundError:
        return None
    # without their running numbers, which differ
    rows = dict.fromkeys(line.partition(": ")[2] for text in texts for line in text.splitlines())
    return "\n".join(f"0: {row}" for row in rows)


def shared_lock_table() -> str | None:
    """The same for many databases polled at once: a text that was dear is used again for REUSE times as long as it took.

    A short table is read anew in any case: then it is cheap, and being wrong by a millisecond would not be worth it.
    """
    global _kept
    now = time.monotonic()
    if _kept is not None and _kept.cost > DEAR and now - _kept.at < REUSE * _kept.cost:
        return _kept.text
    started = time.process_time()
    text = lock_table(2)
    _kept = None if text is None else _Read(text, time.monotonic(), time.process_time() - started)
    return text


def rows_on(table: str, inodes: Iterable[int]) -> str:
    """The rows of these inodes. The table has those of the whole machine: the others are not even split into words."""
    rows = []
    for inode in inodes:
        mark, at = f":{inode} ", 0
        while (at := table.find(mark, at)) >= 0:
            end = table.find("\n", at)
            end = len(table) if end < 0 else end
            rows.append(table[table.rfind("\n", 0, at) + 1 : end])
            at = end
    return "\n".join(rows)


def places(path: str) -> list[Place]:
    """(major, minor, inode) under which the kernel may list this file's locks: as stat says, and as its mount says.

    On some file systems (btrfs subvolumes) stat shows a made-up device while the lock table shows the mount's.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - thousands of these a second: no Path is built for them
    except OSError:  # not there, not to be seen, or a name too long to exist: no row is its
        return []
    device = os.major(found.st_dev), os.minor(found.st_dev)
    if found.st_dev not in _mounts:
        _mounts[found.st_dev] = _mount_device(path) or device
    return [(*name, found.st_ino) for name in dict.fromkeys((device, _mounts[found.st_dev]))]


def process(pid: int) -> dict[str, Any]:
    """Kernel short name, command line and parent of a process; empty where it is gone or hidden."""
    try:
        place = Path("/proc") / str(pid)
        comm = (place / "comm").read_text(errors="replace").rstrip("\n")
        line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        # The name in parentheses may hold spaces and parentheses: what follows the last one is regular (proc(5)).
        parent = int((place / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return {"command": "", "command_line": "", "parent": 0}
    return {"command": comm, "command_line": line, "parent": parent}


def file_system_of(path: str) -> str:
    """The kernel's name of the file system that `path` lies on ("ext4", "nfs4"); empty where it is not told."""
    try:
        device = os.stat(path).st_dev  # noqa: PTH116 - as above
        if device not in _file_systems:
            words = _mount_of(path)
            _file_systems[device] = words[words.index("-") + 1] if "-" in words else ""
    except FileNotFoundError:
        return ""
    return _file_systems[device]


def _mount_device(path: str) -> tuple[int, int] | None:
    words = _mount_of(path)
    if not words:
        return None
    major, minor = words[2].split(":")
    return int(major), int(minor)


def _mount_of(path: str) -> list[str]:
    """The line of /proc/self/mountinfo of the mount of `path`. O_PATH opens no file, so it has no locks to lose."""
    if not hasattr(os, "O_PATH"):
        return []
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        info = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
        mount = next((line.split()[1] for line in info.splitlines() if line.startswith("mnt_id:")), "")
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
        return next((words for words in map(str.split, lines) if words[0] == mount), [])
    except FileNotFoundError:
        return []
    finally:
        os.close(descriptor)
