"""How much the WAL may grow because of us. A pin keeps it from being reset, so it grows at the commit rate meanwhile."""

from actions.run.errors import Failed
from actions.run.work import Work
from actions.writing.free_space import size_or_zero


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
