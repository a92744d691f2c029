"""How much the WAL may grow because of us. A pin keeps it from being reset, so it grows at the commit rate meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import apsw

from actions.model.context import Work
from actions.model.errors import Failed
from actions.sqlite.disk_space import size_or_zero
from actions.sqlite.interrupt import interrupted_when
from collectors.raw_reader.client import RawReaderUnavailable

# https://sqlite.org/fileformat2.html#walformat
WAL_HEADER, FRAME_HEADER = 32, 24
# Seconds between two looks at the WAL's size while a statement runs under the pin.
LOOK_EVERY = 0.05


def growth(work: Work, before: int) -> int:
    """Bytes by which the WAL file is larger than it was."""
    return max(0, size_or_zero(work.target.wal) - before)


def live_growth(work: Work, before: int) -> int:
    """Bytes of the WAL that are in use now, beyond the size that its file had: falls when the WAL starts over.

    The file itself is never shortened by that, so `growth` cannot tell when there is room again.
    """
    with suppress(RawReaderUnavailable):
        index = work.raw.wal_index(work.target.path)
        if index is not None:
            return max(0, WAL_HEADER + index.frames * (FRAME_HEADER + index.page_size) - before)
    return growth(work, before)


def budget(work: Work) -> int:
    """The bytes that limits.wal_growth allows for this database."""
    return work.target.limits.wal_growth(work.target.path.stat().st_size)


def check_growth(work: Work, before: int, what: str = "copy") -> int:
    """The growth so far. Raises Failed beyond the budget: what we do must end or be given up. `what` holds the pin."""
    grown, allowed = growth(work, before), budget(work)
    if grown > allowed:
        raise Failed(
            f"the WAL grew by {grown} bytes while the {what} pinned it, {allowed} are allowed: the {what} was given up",
            reason="wal_growth",
            next_step="run it when less is written, or raise limits.wal_growth",
        )
    return grown


@contextmanager
def within_budget(work: Work, before: int, pinning: apsw.Connection, what: str = "copy") -> Iterator[None]:
    """Interrupts the pinning connection's statements when the WAL outgrows its budget, or when asked to stop.

    Raises Failed, Cancelled, Interrupted.
    """

    def over() -> bool:
        return work.stop.asked or growth(work, before) > budget(work)

    try:
        with interrupted_when(pinning, over, LOOK_EVERY):
            yield
    except apsw.InterruptError:
        work.stop.check()
        check_growth(work, before, what)
        raise
    check_growth(work, before, what)
