"""Which processes work on a database file, and by which name: their locks, and the files they have open (proc(5)).

Runs in the raw reader, and only about files that may have more than one name: it looks at the open files of processes.
"""

import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from collectors.raw_reader import file_hold
from collectors.raw_reader.file_headers import READ_FLAGS, is_wal_header, read_database_header_hex
from collectors.raw_reader.file_names import (
    SIDECARS,
    file_mount_source,
    find_other_names,
    find_single_mounts,
    overlay_path,
    shared_lock_holder,
    sidecars_beside,
)
from collectors.raw_reader.formats import PENDING_BYTE, parse_lock_rows
from collectors.raw_reader.lock_table import describe_process, device_inodes, read_lock_table

# Looking through the open files of all processes ends after so many seconds.
SCAN_SECONDS = 1.0
# What the kernel appends to the path of an open file that has no name any more.
_DELETED = " (deleted)"
FileIdentity = tuple[int, int]


def inspect_names(path: str) -> dict[str, Any] | None:
    """Everything about the names of a database file and the processes at it; None when it is gone. Raises OSError.

    `at_database`, `at_index`: processes with a lock on the file, and on the -shm beside this name; 0 for one that is not
    visible to us. `users`: processes that have it open. `other_names`: hard links near it, `all_names` when no more exist;
    `hidden`: files with content beside those, which do not belong to this name. `single_mounts`: see `file_names`.
    """
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    wal = is_wal_header(read_database_header_hex(path))
    at_database, at_index = _locking_processes(path, database=True), _locking_processes(path + "-shm", database=False)
    names, complete = find_other_names(path, status.st_nlink, time.monotonic()) if status.st_nlink > 1 else ([], True)
    pids = at_database if wal else _all_processes()
    return {
        "wal": wal,
        "index": Path(path + "-shm").exists(),
        "links": status.st_nlink,
        "mounted_from": file_mount_source(path),
        "layer_of": overlay_path(path),
        "at_database": at_database,
        "at_index": at_index,
        "users": [user for pid in pids if (user := _describe_user(pid, path)) is not None],
        "other_names": names,
        "all_names": complete,
        "hidden": sidecars_beside(names),
        "single_mounts": find_single_mounts(path, time.monotonic() + SCAN_SECONDS),
    }


def _locking_processes(path: str, *, database: bool) -> list[int]:
    """The processes with a POSIX lock on a file: on what SQLite locks of the database, or on anything of a WAL-index."""
    table = read_lock_table()
    if table is None:
        return []
    rows = (row for line in table.rows_on(device_inodes(path)) for row in parse_lock_rows(line))
    wanted = (row for row in rows if row.kind == "POSIX" and (not database or row.end > PENDING_BYTE))
    pids = dict.fromkeys(row.pid for row in wanted if row.pid > 0)
    return [*pids, *_invisible_process(path, database=database)]


def _invisible_process(path: str, *, database: bool) -> list[int]:
    """[0] when a process outside our pid namespace has a lock there: the table does not show it, the kernel's answer does."""
    if not file_hold.CAN_PROBE or not Path(path).exists():
        return []
    if database:
        pid = shared_lock_holder(path)
    else:
        descriptor = os.open(path, READ_FLAGS)
        try:
            pid = file_hold.find_blocking_process(descriptor, file_hold.CONNECTED)
        finally:
            os.close(descriptor)
    return [0] if pid == file_hold.NOT_VISIBLE else []


def _all_processes() -> Iterable[int]:
    """All visible processes, until SCAN_SECONDS have passed."""
    until = time.monotonic() + SCAN_SECONDS
    for place in Path("/proc").iterdir() if Path("/proc/self/fd").is_dir() else ():
        if time.monotonic() > until:
            return
        if place.name.isdigit() and int(place.name) != os.getpid():
            yield int(place.name)


def _describe_user(pid: int, path: str) -> dict[str, Any] | None:
    """How a process has the database open; None when it does not, or its files may not be seen.

    `here`: by this name, in this folder; `writes`: for change; `shares`: it has the -wal or -shm beside this name open;
    `deleted`: it has one open that was deleted; `log`: a -wal that it has open, if that is its only one, else "".
    """
    database, beside = _identities([path]), _identities([path + suffix for suffix in SIDECARS])
    names, gone, logs, writes, shares = [], set(), [], False, False
    for descriptor, link in _open_files(pid):
        identity = _identity_of(descriptor)
        if identity in database:
            names.append(link)
            writes = writes or _is_writable(pid, descriptor.name)
        shares = shares or identity in beside
        if link.endswith("-wal"):
            logs.append(link)
        if link.endswith(_DELETED):
            gone.add(link.removesuffix(_DELETED))
    if not names:
        return None
    here = any(_is_this_name(pid, link, path) for link in names)
    deleted = not gone.isdisjoint(name + suffix for name in names for suffix in SIDECARS)
    other = next((link for link in names if not _is_this_name(pid, link, path)), names[0])
    facts = {"pid": pid, "path": other, "here": here, "writes": writes, "shares": shares, "deleted": deleted}
    return facts | {"log": logs[0] if len(set(logs)) == 1 else ""} | describe_process(pid)


def _open_files(pid: int) -> list[tuple[Path, str]]:
    """The descriptors of a process that are files with a path, and these paths as that process knows them."""
    files = []
    try:
        for descriptor in (Path("/proc") / str(pid) / "fd").iterdir():
            link = os.readlink(descriptor)  # noqa: PTH115 - a str, of thousands
            if link.startswith("/") and not link.startswith(("/dev/", "/proc/")):
                files.append((descriptor, link))
    except OSError:  # it ended, or it is another user's
        return files
    return files


def _is_this_name(pid: int, link: str, path: str) -> bool:
    """Whether a process opened it in our folder by our name; its folder is looked up in its own view of the files."""
    place, ours = Path(link.removesuffix(_DELETED)), Path(os.path.realpath(path))
    # With our mounts the kernel gives the path from our root, also for a process that has another one (chroot).
    root = "" if _mount_space("self") == _mount_space(str(pid)) else f"/proc/{pid}/root"
    return place.name == ours.name and _identity_of(Path(f"{root}{place.parent}")) == _identity_of(ours.parent)


def _mount_space(process: str) -> str:
    try:
        return os.readlink(f"/proc/{process}/ns/mnt")  # noqa: PTH115 - a str, as above
    except OSError:  # it ended
        return process


def _is_writable(pid: int, descriptor: str) -> bool:
    try:
        lines = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text().splitlines()
    except OSError:
        return False
    flags = next((int(line.split()[1], 8) for line in lines if line.startswith("flags:")), 0)
    return flags & os.O_ACCMODE != os.O_RDONLY


def _identities(paths: Iterable[str]) -> set[FileIdentity]:
    return {identity for path in paths if (identity := _identity_of(Path(path))) is not None}


def _identity_of(path: Path) -> FileIdentity | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) else None
