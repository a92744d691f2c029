"""Identifies a process even when its number is reused: `PID:START`, the kernel's start time where /proc shows it."""

import os
from pathlib import Path


def own_identity() -> str:
    """The identity of this process."""
    return process_identity(os.getpid())


def process_identity(pid: int) -> str:
    """The identity of the process that has this number now."""
    return f"{pid}:{_start_time(pid)}"


def is_process_alive(recorded: str) -> bool:
    """Whether the process of a recorded identity still runs. A zombie does not: it holds no locks any more."""
    number, _, start = recorded.partition(":")
    if not number.isdigit():
        return False
    pid = int(number)
    if Path("/proc/self/stat").exists():
        return start != "" and _start_time(pid) == start
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _start_time(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()  # after the command name, which may hold anything: state is first
    return "" if fields[0] in ("Z", "X") else fields[19]
