"""Tells whether the process that holds a task runs on this host: an SQL function for the profiles' predicates.

A holder's name is read only where it is unambiguous: `HOST:PID` (also with `@`, `/`, `|` or a space between, and with
anything after a further separator), `HOST-PID`, `PID@HOST`, `host:HOST pid:PID`, HOST being this host's name, or
`PID:START`, START being the kernel's start time of the process (proc(5), /proc/PID/stat, field 22). A process that started
after the task was claimed only reuses the number. An unreadable name counts as not alive: then the lease alone decides.
"""

import os
import re
import socket
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from weakref import WeakSet

import apsw

FUNCTION_NAME = "holder_lives"
# Seconds: a clock in whole seconds, and the boot time that the kernel rounds, are each off by up to one.
CLOCK_SLACK = 2.0
# Seconds for which a process's start time is cached: a statement calls the function once for every row.
CACHE_SECONDS = 0.2

HolderValue = int | float | bytes | str | None
_registered: "WeakSet[apsw.Connection]" = WeakSet()
_start_cache: dict[int, tuple[float, int | None]] = {}


def register_function(database: apsw.Connection) -> None:
    """Register the function with this connection, once."""
    if database not in _registered:
        database.create_scalar_function(FUNCTION_NAME, is_holder_alive, 2)
        _registered.add(database)


def is_holder_alive(*given: HolderValue) -> int:
    """1 when `name` is a running process of this host that started before `since` (seconds since the epoch, or NULL)."""
    name, since = given
    pid, start = _parse_holder(name) if isinstance(name, str) else (0, None)
    began = _cached_start_ticks(pid) if pid else None
    if began is None:
        return 0
    if start is not None:
        return int(began == start)
    return int(not isinstance(since, int | float) or _boot_time() + began / _ticks_per_second() <= since + CLOCK_SLACK)


@lru_cache(maxsize=4096)
def _parse_holder(name: str) -> tuple[int, int | None]:
    """The process number, 0 where the name is of no process of this host; the start time where the name has it."""
    if match := re.fullmatch(r"(\d{1,9}):(\d{1,18})", name):
        return int(match[1]), int(match[2])
    for pattern in _holder_patterns():
        if match := pattern.search(name):
            return int(match[1]), None
    return 0, None


@lru_cache(maxsize=1)
def _holder_patterns() -> tuple[re.Pattern[str], ...]:
    full = socket.gethostname()
    names = sorted({full, full.partition(".")[0]}, key=len, reverse=True)
    host = "|".join(re.escape(name) for name in names if name)
    ends = r"(?![\w.])"
    return tuple(
        re.compile(pattern, re.IGNORECASE)
        for pattern in (
            rf"^(?:{host})[:@/| ](\d{{1,9}}){ends}",
            rf"^(?:{host})-(\d{{1,9}})$",
            rf"^(\d{{1,9}})@(?:{host})$",
            rf"\bhost:(?:{host}) pid:(\d{{1,9}}){ends}",
        )
    )


def _cached_start_ticks(pid: int) -> int | None:
    now = time.monotonic()
    at, ticks = _start_cache.get(pid, (float("-inf"), None))
    if now - at > CACHE_SECONDS:
        if len(_start_cache) > 4096:
            _start_cache.clear()
        ticks = _read_start_ticks(pid)
        _start_cache[pid] = now, ticks
    return ticks


def _read_start_ticks(pid: int) -> int | None:
    """Read the start time of a process; None without such a process, or of a zombie, which holds nothing any more."""
    with suppress(OSError, ValueError, IndexError):
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
        fields = text.rpartition(")")[2].split()  # after the command name, which may hold anything: state is first
        return None if fields[0] in ("Z", "X") else int(fields[19])
    return None


@lru_cache(maxsize=1)
def _boot_time() -> float:
    with suppress(OSError, StopIteration, ValueError, IndexError):
        lines = Path("/proc/stat").read_text("ascii").splitlines()
        return float(next(line for line in lines if line.startswith("btime ")).split()[1])
    return float("-inf")


@lru_cache(maxsize=1)
def _ticks_per_second() -> int:
    return os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
