"""How long an integrity check takes, and so where it reads: the live file, or the newest backup of it. Pure.

A check reads every page. Beside a live application one read may last limits.read_wal (it keeps the WAL from being reset)
or limits.read_rollback (every commit waits for it). What takes longer than that is large, and is checked on a copy.
"""

# Bytes checked per second from the page cache: a guess that the time limit of each read corrects (docs/safety.md).
QUICK_CHECK_RATE = 400e6
FULL_CHECK_RATE = 100e6


def predicted_check_seconds(size: int, *, full: bool) -> float:
    """How long a check of so many bytes takes."""
    return size / (FULL_CHECK_RATE if full else QUICK_CHECK_RATE)
