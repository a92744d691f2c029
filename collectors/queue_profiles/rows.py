"""Runs a profile's counting statements, bounded in rows and fenced in what they read."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import apsw

from collectors.queue_profiles.compile import QUEUE_BOUND, Bound, CompiledProfile
from collectors.queue_profiles.fence import reading

# At most this many rows of one row set, or of one queue in it, are visited: beyond it a count is a lower bound.
ROW_BOUND = 100_000


@dataclass(frozen=True, slots=True)
class QueueCount:
    """Rows of one queue; `oldest` is a time (seconds since the epoch), None without a readable one."""

    queue: str
    rows: int
    oldest: float | None


@dataclass(frozen=True, slots=True)
class Counted:
    """One statement's result. `capped`: there were more rows than the bound, so every number is a lower bound."""

    queues: tuple[QueueCount, ...]
    capped: bool


def counted(database: apsw.Connection, profile: CompiledProfile, bound: Bound, rows: int = ROW_BOUND) -> Counted:
    """Run a statement of `profile.counts` or `profile.stale`. Raises apsw.Error, ValueError on text not in UTF-8."""
    with reading(database, profile.readable):
        found = database.execute(bound.sql, {**bound.values, "limit": rows + 1}).fetchall()
    queues = tuple(_queue_count(row) for row in found)
    if bound.per_queue:
        return Counted(queues, any(queue.rows > rows for queue in queues) or len(queues) >= QUEUE_BOUND)
    return Counted(queues, sum(queue.rows for queue in queues) > rows)


def queue_names(database: apsw.Connection, profile: CompiledProfile) -> frozenset[str]:
    """The queues that an index tells at no cost: a queue without rows of one state has 0 of them, which is a value."""
    with reading(database, profile.readable):
        return frozenset(
            str(name)
            for bound in profile.queues()
            for (name,) in database.execute(bound.sql, {**bound.values, "limit": QUEUE_BOUND}).fetchall()
        )


def merged(counts: Iterable[QueueCount]) -> QueueCount | None:
    """Several counts as one: rows are summed, the oldest time wins; None of none. The first queue's name stays."""
    parts = tuple(counts)
    if not parts:
        return None
    times = [part.oldest for part in parts if part.oldest is not None]
    return QueueCount(parts[0].queue, sum(part.rows for part in parts), min(times, default=None))


def _queue_count(row: tuple[Any, ...]) -> QueueCount:
    queue, number, oldest = row
    return QueueCount(str(queue), int(number), None if oldest is None else float(oldest))
