"""How much the WAL may grow because of us. A pin keeps it from being reset, so it grows at the commit rate meanwhile."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from actions.run.errors import Failed
from actions.run.work import Work
from actions.writing.free_space import size_or_zero

# Seconds between two looks at the WAL's size while a statement runs under the pin.
LOOK_EVERY = 0.05


def growth(work: Work, before: int) -> int:
    """Bytes by which the WAL file is larger than it was."""
    return max(0, size_or_zero(work.target.wal) - before)


def budget(work: Work) -> int:
    """The bytes that limits.wal_growth allows for this database."""
    return work.target.limits.wal_growth(work.target.path.stat().st_size)


def check_growth(work: Work, before: int) -> int:
    """The growth so far. Raises Failed beyond the budget: what we do must end or be given up."""
    grown, allowed = growth(work, before), budget(work)
    if grown > allowed:
        raise Failed(
            f"the WAL grew by {grown} bytes while the copy pinned it, {allowed} are allowed: the copy was given up",
            reason="wal_growth",
            next_step="back up when less is written, or raise limits.wal_growth",
        )
    return grown


@contextmanager
def within_budget(work: Work, before: int, pinning: apsw.Connection) -> Iterator[None]:
    """Interrupts the pinning connection's statements when the WAL outgrows its budget, or when asked to stop.

    By a thread: a progress handler is not called in `count(*)`. Raises Failed, Cancelled, Interrupted.
    """
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(work, before, pinning, over), name="wal-budget", daemon=True)
    watcher.start()
    try:
        yield
    except apsw.InterruptError:
        work.stop.check()
        check_growth(work, before)
        raise
    finally:
        over.set()
        watcher.join()
    check_growth(work, before)


def _watch(work: Work, before: int, pinning: apsw.Connection, over: threading.Event) -> None:
    while not over.wait(LOOK_EVERY):
        if work.stop.asked or growth(work, before) > budget(work):
            pinning.interrupt()
