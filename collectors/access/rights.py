"""What the kernel lets this process do with files of other users: asked of it, never concluded from the user id 0.

Containers take capabilities away from root, and a user namespace makes a root that may not give files to users it does not
know (capabilities(7), user_namespaces(7)).
"""

import os
from functools import cache
from pathlib import Path

CAP_CHOWN, CAP_SYS_PTRACE = 0, 19
# What stat shows for a user or group that our user namespace does not know (/proc/sys/kernel/overflowuid).
UNKNOWN_ID = 65534
ALL_IDS = 2**32 - 1
STATUS, USER_MAP, GROUP_MAP = Path("/proc/self/status"), Path("/proc/self/uid_map"), Path("/proc/self/gid_map")


def may_give_away(user: int, group: int) -> bool:
    """Whether SQLite can give files that we create to this owner: it tries only as user 0 (robustFchown, os_unix.c)."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    return _gives_away_in_process(os.getpid(), user, group)


@cache
def _gives_away_in_process(_pid: int, user: int, group: int) -> bool:
    """Asked once by each process: no process of ours changes its capabilities or its user namespace."""
    known = is_mapped(user, _read_text(USER_MAP)) and is_mapped(group, _read_text(GROUP_MAP))
    return known and has_capability(CAP_CHOWN)


def has_capability(number: int) -> bool:
    """Whether this process has the capability now; root has all where the kernel does not tell (no Linux)."""
    line = next((line for line in _read_text(STATUS).splitlines() if line.startswith("CapEff:")), "")
    if not line:
        return hasattr(os, "geteuid") and os.geteuid() == 0
    return bool(int(line.split()[1], 16) >> number & 1)


def sees_open_files_of(user: int) -> bool:
    """Whether the kernel shows us the open files of this user's processes (ptrace(2), "Ptrace access mode checking")."""
    return hasattr(os, "geteuid") and (os.geteuid() == user or has_capability(CAP_SYS_PTRACE))


def is_mapped(identity: int, table: str) -> bool:
    """Whether a user or group exists in a user namespace with this map (empty where there are none). Pure."""
    ranges = [tuple(map(int, line.split())) for line in table.splitlines()]
    if not ranges:
        return True
    if identity == UNKNOWN_ID and not any(length == ALL_IDS for _, _, length in ranges):
        return False  # it may stand for any that is not known here
    return any(first <= identity < first + length for first, _, length in ranges)


def _read_text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except OSError:
        return ""
