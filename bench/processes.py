"""A process under measurement: its CPU seconds and memory with all its children (Linux, /proc), and percentiles."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """The process and everything below it."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*"):
        if (words := _stat(int(place.name))) is not None:
            children.setdefault(int(words[1]), []).append(int(place.name))
    found, left = [], [pid]
    while left:
        one = left.pop()
        found.append(one)
        left += children.get(one, ())
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of the tree, ended children too."""
    return sum(sum(int(words[i]) for i in (11, 12, 13, 14)) for p in tree(pid) if (words := _stat(p))) / TICK


def memory_mib(pid: int) -> float:
    """Resident memory of the tree in MiB."""
    total = 0
    for one in tree(pid):
        try:
            pages = int(Path(f"/proc/{one}/statm").read_text().split()[1])
        except OSError:
            continue
        total += pages * os.sysconf("SC_PAGE_SIZE")
    return total / 2**20


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; `share` from 0 to 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def _stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
