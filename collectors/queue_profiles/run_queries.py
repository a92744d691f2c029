"""Runs a profile's reading statements, bounded in rows and fenced in what they read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import apsw

from collectors.queue_profiles.authorizer import allow_reading
from collectors.queue_profiles.compile import CompiledProfile
from collectors.queue_profiles.count_queries import QUEUE_BOUND, IndexedQueues
from collectors.queue_profiles.statement import BoundStatement
from collectors.queue_profiles.time_formats import moment_of

# At most this many rows of one row set, or of one queue in it, are visited: beyond it a count is a lower bound.
ROW_BOUND = 100_000


class QueueCount(NamedTuple):
    """Rows of one queue; `oldest` is a time (seconds since the epoch), None without a readable one."""

    queue: str
    rows: int
    oldest: float | None


class CountResult(NamedTuple):
    """One statement's result. `capped`: there were more rows than the bound, so every number is a lower bound."""

    queues: tuple[QueueCount, ...]
    capped: bool


class QueueHead(NamedTuple):
    """The first task of a queue: `number` and what tells it from another task of that number."""

    queue: str
    number: str
    identity: str


@dataclass(frozen=True, slots=True)
class QuickCounts:
    """What is counted at every poll, by position in the profile's row sets, and what comes with it.

    `heads`: None where the profile knows none. `names`: queues that an index names, with rows or without.
    """

    counts: Mapping[int, CountResult]
    heads: tuple[QueueHead, ...] | None
    names: frozenset[str]


def read_quick_counts(database: apsw.Connection, profile: CompiledProfile, now: float) -> QuickCounts:
    """Every row set that is not slow, the heads and the queues' names, in as few statements as say the same.

    Raises apsw.Error, ValueError on text not in UTF-8.
    """
    counts: dict[int, CountResult] = {}
    first: list[QueueHead] = []
    names: set[str] = set()
    for one in profile.indexed_queues:
        known, found = _read_names_and_counts(database, one)
        names |= known
        counts |= found
    for i, rows in enumerate(profile.rows):
        both = rows.count_and_head_statement(now) if rows.state == "waiting" and not rows.slow else None
        if both is not None:
            found_rows = _fetch_rows(database, both, ROW_BOUND + 1)
            counts[i] = _count_result([row[:3] for row in found_rows], both, ROW_BOUND)
            first += [_queue_head((row[0], *row[3:])) for row in found_rows]
            continue
        if i not in counts and not rows.slow:
            counts[i] = read_count(database, rows.count_statement(now))
        if rows.state == "waiting" and (heading := rows.head_statement(now)) is not None:
            first += map(_queue_head, _fetch_rows(database, heading, ROW_BOUND))
    return QuickCounts(counts, tuple(first) if profile.has_heads else None, frozenset(names))


def read_count(database: apsw.Connection, bound: BoundStatement, rows: int = ROW_BOUND) -> CountResult:
    """Run a counting statement behind its fence. Raises apsw.Error, ValueError on text not in UTF-8."""
    return _count_result(_fetch_rows(database, bound, rows + 1), bound, rows)


def read_heads(database: apsw.Connection, profile: CompiledProfile, now: float) -> tuple[QueueHead, ...]:
    """The first task of each queue. Raises apsw.Error, ValueError."""
    return tuple(
        _queue_head(row) for bound in profile.head_statements(now) for row in _fetch_rows(database, bound, ROW_BOUND)
    )


def count_workers(database: apsw.Connection, profile: CompiledProfile, now: float) -> tuple[int, int]:
    """How many workers are alive, and how many are not. Raises apsw.Error."""
    found = [row for bound in profile.worker_count_statements(now) for row in _fetch_rows(database, bound, ROW_BOUND)]
    stale = sum(int(gone) for _, gone in found)
    return sum(int(number) for number, _ in found) - stale, stale


def read_last_numbers(database: apsw.Connection, profile: CompiledProfile) -> dict[str, int]:
    """The last AUTOINCREMENT number of each table that counts; 0 where nothing was ever inserted. Raises apsw.Error."""
    return {
        one.table: sum(int(row[0] or 0) for row in _fetch_rows(database, one.last_number_statement(), None))
        for one in profile.sequences
    }


def read_queue_names(database: apsw.Connection, profile: CompiledProfile) -> frozenset[str]:
    """The queues that an index tells at no cost: a queue without rows of one state has 0 of them, which is a value."""
    return frozenset(
        str(name) for bound in profile.queue_name_statements() for (name,) in _fetch_rows(database, bound, QUEUE_BOUND)
    )


def merge_counts(counts: Iterable[QueueCount]) -> QueueCount | None:
    """Several counts as one: rows are summed, the oldest time wins; None of none. The first queue's name stays."""
    parts = tuple(counts)
    if not parts:
        return None
    times = [part.oldest for part in parts if part.oldest is not None]
    return QueueCount(parts[0].queue, sum(part.rows for part in parts), min(times, default=None))


def _fetch_rows(database: apsw.Connection, bound: BoundStatement, limit: int | None) -> list[tuple[Any, ...]]:
    values = bound.values if limit is None else {**bound.values, "limit": limit}
    with allow_reading(database, bound.access):
        return list(database.execute(bound.sql, values).fetchall())


def _read_names_and_counts(database: apsw.Connection, named: IndexedQueues) -> tuple[set[str], dict[int, CountResult]]:
    bound = named.names_and_counts_statement()
    found = _fetch_rows(database, bound, ROW_BOUND + 1)
    counts = {
        i: _count_result([(row[1], row[place], None) for row in found], bound, ROW_BOUND)
        for place, (i, _) in enumerate(named.counted, 2)
    }
    return {str(row[1]) for row in found if row[0]}, counts


def _count_result(found: Sequence[tuple[Any, ...]], bound: BoundStatement, rows: int) -> CountResult:
    queues = tuple(_queue_count(row, bound) for row in found if row[1])
    if bound.per_queue:
        return CountResult(queues, any(queue.rows > rows for queue in queues) or len(found) >= QUEUE_BOUND)
    return CountResult(queues, sum(queue.rows for queue in queues) > rows)


def _queue_head(row: tuple[Any, ...]) -> QueueHead:
    queue, number, identity = row
    return QueueHead(str(queue), str(number), str(identity))


def _queue_count(row: tuple[Any, ...], bound: BoundStatement) -> QueueCount:
    queue, number, oldest = row
    return QueueCount(
        str(queue), int(number), None if oldest is None else moment_of(float(oldest), bound.time_format, bound.zone)
    )
