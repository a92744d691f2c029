"""Runs a profile's reading statements, limited in rows and in what they may access."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import apsw

from collectors.queue_profiles.authorizer import allow_reading
from collectors.queue_profiles.compile import CompiledProfile
from collectors.queue_profiles.count_queries import QUEUE_BOUND, IndexedQueues
from collectors.queue_profiles.shared_reads import Rows, SharedReads
from collectors.queue_profiles.statement import BoundStatement
from collectors.queue_profiles.time_formats import moment_of

# At most this many rows of one row set, or of one queue in it, are visited: beyond it a count is a lower bound.
ROW_BOUND = 100_000

# A connection, or the reads that a poll shares.
Database = apsw.Connection | SharedReads


class QueueCount(NamedTuple):
    """The rows of one queue; `oldest`: the earliest time (seconds since the epoch), None without a readable one."""

    queue: str
    rows: int
    oldest: float | None


class CountResult(NamedTuple):
    """One statement's result. `capped`: there were more rows than the bound, so every number is a lower bound."""

    queues: tuple[QueueCount, ...]
    capped: bool


class QueueHead(NamedTuple):
    """The first task of a queue: `number`, and `identity` that distinguishes it from another task with that number."""

    queue: str
    number: str
    identity: str


@dataclass(frozen=True, slots=True)
class QuickCounts:
    """The counts of every poll by position in the profile's row sets, with what the same statements read.

    `heads`: None where the profile declares none. `names`: the queues that an index names, with rows or without.
    """

    counts: Mapping[int, CountResult]
    heads: tuple[QueueHead, ...] | None
    names: frozenset[str]


def read_quick_counts(database: Database, profile: CompiledProfile, now: float) -> QuickCounts:
    """Read the counts of every row set that is not slow, the heads and the queues' names, in as few statements as possible.

    Raises apsw.Error, ValueError on text not in UTF-8.
    """
    counts: dict[int, CountResult] = {}
    heads: list[QueueHead] = []
    names: set[str] = set()
    for indexed in profile.indexed_queues:
        indexed_names, indexed_counts = _read_names_and_counts(database, indexed)
        names |= indexed_names
        counts |= indexed_counts
    for i, rows in enumerate(profile.rows):
        both = rows.count_and_head_statement(now) if rows.state == "waiting" and not rows.slow else None
        if both is not None:
            result = _fetch_rows(database, both, ROW_BOUND + 1, width=5)
            counts[i] = _count_result([row[:3] for row in result], both, ROW_BOUND)
            heads += [_queue_head((row[0], *row[3:])) for row in result]
            continue
        if i not in counts and not rows.slow:
            counts[i] = read_count(database, rows.count_statement(now))
        if rows.state == "waiting" and (statement := rows.head_statement(now)) is not None:
            heads += map(_queue_head, _fetch_rows(database, statement, ROW_BOUND, width=3))
    return QuickCounts(counts, tuple(heads) if profile.has_heads else None, frozenset(names))


def read_count(database: Database, bound: BoundStatement, limit: int = ROW_BOUND) -> CountResult:
    """Run a counting statement within its access rules. Raises apsw.Error, ValueError on text not in UTF-8."""
    return _count_result(_fetch_rows(database, bound, limit + 1, width=3), bound, limit)


def read_heads(database: Database, profile: CompiledProfile, now: float) -> tuple[QueueHead, ...]:
    """Read the first task of each queue. Raises apsw.Error, ValueError."""
    return tuple(
        _queue_head(row)
        for bound in profile.head_statements(now)
        for row in _fetch_rows(database, bound, ROW_BOUND, width=3)
    )


def read_stale_counts(database: Database, profile: CompiledProfile, now: float) -> list[QueueCount]:
    """Count the stale leases of each row set with leases, by queue. Raises apsw.Error, ValueError."""
    return [count for bound in profile.stale_count_statements(now) for count in read_count(database, bound).queues]


def count_workers(database: Database, profile: CompiledProfile, now: float) -> tuple[int, int]:
    """Count the workers that are alive, and those that are not. Raises apsw.Error."""
    rows = [
        row
        for bound in profile.worker_count_statements(now)
        for row in _fetch_rows(database, bound, ROW_BOUND, width=2)
    ]
    stale = sum(int(gone) for _, gone in rows)
    return sum(int(number) for number, _ in rows) - stale, stale


def read_last_numbers(database: Database, profile: CompiledProfile, _now: float = 0.0) -> dict[str, int]:
    """Read the last AUTOINCREMENT number of each table that has one; 0 where nothing was ever inserted. Raises apsw.Error."""
    return {
        sequence.table: sum(
            int(row[0] or 0) for row in _fetch_rows(database, sequence.last_number_statement(), None, width=1)
        )
        for sequence in profile.sequences
    }


def read_queue_names(database: Database, profile: CompiledProfile) -> frozenset[str]:
    """Read the queues that an index names at no cost: of a state without rows such a queue has 0 tasks, which is a value."""
    return frozenset(
        str(name)
        for bound in profile.queue_name_statements()
        for (name,) in _fetch_rows(database, bound, QUEUE_BOUND, width=1)
    )


def merge_counts(counts: Iterable[QueueCount]) -> QueueCount | None:
    """Merge several counts: the rows are summed, the earliest time counts; None of none. The first queue's name is used."""
    parts = tuple(counts)
    if not parts:
        return None
    times = [part.oldest for part in parts if part.oldest is not None]
    return QueueCount(parts[0].queue, sum(part.rows for part in parts), min(times, default=None))


def _fetch_rows(database: Database, bound: BoundStatement, limit: int | None, *, width: int) -> Rows:
    """The rows, of `width` columns, of a statement: those that a poll read with others, else by running it."""
    if limit is not None:
        bound = bound._replace(values={**bound.values, "limit": limit})
    if isinstance(database, SharedReads):
        if (rows := database.fetch_rows(bound, width)) is not None:
            return rows
        database = database.connection
    with allow_reading(database, bound.access):
        return list(database.execute(bound.sql, bound.values).fetchall())


def _read_names_and_counts(database: Database, queues: IndexedQueues) -> tuple[set[str], dict[int, CountResult]]:
    bound = queues.names_and_counts_statement()
    rows = _fetch_rows(database, bound, ROW_BOUND + 1, width=2 + len(queues.counted))
    counts = {
        i: _count_result([(row[1], row[column], None) for row in rows], bound, ROW_BOUND)
        for column, (i, _) in enumerate(queues.counted, 2)
    }
    return {str(row[1]) for row in rows if row[0]}, counts


def _count_result(rows: Sequence[tuple[Any, ...]], bound: BoundStatement, limit: int) -> CountResult:
    queues = tuple(_queue_count(row, bound) for row in rows if row[1])
    if bound.per_queue:
        return CountResult(queues, any(queue.rows > limit for queue in queues) or len(rows) >= QUEUE_BOUND)
    return CountResult(queues, sum(queue.rows for queue in queues) > limit)


def _queue_head(row: tuple[Any, ...]) -> QueueHead:
    queue, number, identity = row
    return QueueHead(str(queue), str(number), str(identity))


def _queue_count(row: tuple[Any, ...], bound: BoundStatement) -> QueueCount:
    queue, number, oldest = row
    return QueueCount(
        str(queue), int(number), None if oldest is None else moment_of(float(oldest), bound.time_format, bound.zone)
    )
