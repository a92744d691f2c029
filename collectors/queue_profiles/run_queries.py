"""Runs a profile's reading statements, bounded in rows and fenced in what they read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import apsw

from collectors.queue_profiles.authorizer import reading
from collectors.queue_profiles.compile import CompiledProfile
from collectors.queue_profiles.count_queries import QUEUE_BOUND, NamedQueues
from collectors.queue_profiles.statement import Bound
from collectors.queue_profiles.time_formats import moment_of

# At most this many rows of one row set, or of one queue in it, are visited: beyond it a count is a lower bound.
ROW_BOUND = 100_000


class QueueCount(NamedTuple):
    """Rows of one queue; `oldest` is a time (seconds since the epoch), None without a readable one."""

    queue: str
    rows: int
    oldest: float | None


class Counted(NamedTuple):
    """One statement's result. `capped`: there were more rows than the bound, so every number is a lower bound."""

    queues: tuple[QueueCount, ...]
    capped: bool


class Head(NamedTuple):
    """The first task of a queue: `number` and what tells it from another task of that number."""

    queue: str
    number: str
    identity: str


@dataclass(frozen=True, slots=True)
class Quick:
    """What is counted at every poll, by position in the profile's row sets, and what comes with it.

    `heads`: None where the profile knows none. `names`: queues that an index names, with rows or without.
    """

    counts: Mapping[int, Counted]
    heads: tuple[Head, ...] | None
    names: frozenset[str]


def quick(database: apsw.Connection, profile: CompiledProfile, now: float) -> Quick:
    """Every row set that is not slow, the heads and the queues' names, in as few statements as say the same.

    Raises apsw.Error, ValueError on text not in UTF-8.
    """
    counts: dict[int, Counted] = {}
    first: list[Head] = []
    names: set[str] = set()
    for one in profile.named:
        known, found = _names_and_counts(database, one)
        names |= known
        counts |= found
    for i, rows in enumerate(profile.rows):
        both = rows.count_and_heads(now) if rows.state == "waiting" and not rows.slow else None
        if both is not None:
            found_rows = _fetched(database, both, ROW_BOUND + 1)
            counts[i] = _counted([row[:3] for row in found_rows], both, ROW_BOUND)
            first += [_head((row[0], *row[3:])) for row in found_rows]
            continue
        if i not in counts and not rows.slow:
            counts[i] = counted(database, rows.count(now))
        if rows.state == "waiting" and (heading := rows.heads(now)) is not None:
            first += map(_head, _fetched(database, heading, ROW_BOUND))
    return Quick(counts, tuple(first) if profile.has_heads else None, frozenset(names))


def counted(database: apsw.Connection, bound: Bound, rows: int = ROW_BOUND) -> Counted:
    """Run a counting statement behind its fence. Raises apsw.Error, ValueError on text not in UTF-8."""
    return _counted(_fetched(database, bound, rows + 1), bound, rows)


def heads(database: apsw.Connection, profile: CompiledProfile, now: float) -> tuple[Head, ...]:
    """The first task of each queue. Raises apsw.Error, ValueError."""
    return tuple(_head(row) for bound in profile.heads(now) for row in _fetched(database, bound, ROW_BOUND))


def workers(database: apsw.Connection, profile: CompiledProfile, now: float) -> tuple[int, int]:
    """How many workers are alive, and how many are not. Raises apsw.Error."""
    found = [row for bound in profile.workers(now) for row in _fetched(database, bound, ROW_BOUND)]
    stale = sum(int(gone) for _, gone in found)
    return sum(int(number) for number, _ in found) - stale, stale


def last_numbers(database: apsw.Connection, profile: CompiledProfile) -> dict[str, int]:
    """The last AUTOINCREMENT number of each table that counts; 0 where nothing was ever inserted. Raises apsw.Error."""
    return {
        one.table: sum(int(row[0] or 0) for row in _fetched(database, one.statement(), None))
        for one in profile.sequences
    }


def queue_names(database: apsw.Connection, profile: CompiledProfile) -> frozenset[str]:
    """The queues that an index tells at no cost: a queue without rows of one state has 0 of them, which is a value."""
    return frozenset(str(name) for bound in profile.queues() for (name,) in _fetched(database, bound, QUEUE_BOUND))


def merged(counts: Iterable[QueueCount]) -> QueueCount | None:
    """Several counts as one: rows are summed, the oldest time wins; None of none. The first queue's name stays."""
    parts = tuple(counts)
    if not parts:
        return None
    times = [part.oldest for part in parts if part.oldest is not None]
    return QueueCount(parts[0].queue, sum(part.rows for part in parts), min(times, default=None))


def _fetched(database: apsw.Connection, bound: Bound, limit: int | None) -> list[tuple[Any, ...]]:
    values = bound.values if limit is None else {**bound.values, "limit": limit}
    with reading(database, bound.fence):
        return list(database.execute(bound.sql, values).fetchall())


def _names_and_counts(database: apsw.Connection, named: NamedQueues) -> tuple[set[str], dict[int, Counted]]:
    bound = named.names_and_counts()
    found = _fetched(database, bound, ROW_BOUND + 1)
    counts = {
        i: _counted([(row[1], row[place], None) for row in found], bound, ROW_BOUND)
        for place, (i, _) in enumerate(named.counted, 2)
    }
    return {str(row[1]) for row in found if row[0]}, counts


def _counted(found: Sequence[tuple[Any, ...]], bound: Bound, rows: int) -> Counted:
    queues = tuple(_queue_count(row, bound) for row in found if row[1])
    if bound.per_queue:
        return Counted(queues, any(queue.rows > rows for queue in queues) or len(found) >= QUEUE_BOUND)
    return Counted(queues, sum(queue.rows for queue in queues) > rows)


def _head(row: tuple[Any, ...]) -> Head:
    queue, number, identity = row
    return Head(str(queue), str(number), str(identity))


def _queue_count(row: tuple[Any, ...], bound: Bound) -> QueueCount:
    queue, number, oldest = row
    return QueueCount(
        str(queue), int(number), None if oldest is None else moment_of(float(oldest), bound.form, bound.zone)
    )
