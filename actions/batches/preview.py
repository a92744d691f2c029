"""What a run would take, counted and shown before it is done: bounded, however many there are."""

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import apsw

from actions.batches.select_rows import Found, has_row_numbers, is_searched, rows_of, walked_rows
from actions.model.context import Work
from collectors.access.timeouts import TimeLimitExceeded, time_limit
from collectors.queue_profiles.row_selection import Taking
from collectors.queue_profiles.statement import Bound
from collectors.queue_profiles.time_formats import moment_of

# At most so many are counted, and for so long, in seconds; so many are shown.
COUNTED, LONGEST_COUNT = 100_000, 2.0
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Victim:
    """One row for a person. `since`: seconds since the epoch; `holder`: who has it, empty when that is not told."""

    key: Any
    queue: str
    since: float | None
    holder: str

    def __str__(self) -> str:
        held = f"held by {self.holder}, " if self.holder else ""
        since = "" if self.since is None else f" ({held}since {_utc(self.since)})"
        return f"{self.key} of {self.queue or 'the queue'}{since}"


@dataclass(frozen=True, slots=True)
class Planned:
    """How many rows, `at_least` so many where counting was stopped; the first of them."""

    number: int = 0
    at_least: bool = False
    first: tuple[Victim, ...] = ()

    @property
    def tasks(self) -> str:
        """The number in words."""
        return f"{'at least ' * self.at_least}{self.number} tasks"

    @property
    def named(self) -> str:
        """The first, and how many more."""
        more = self.number - len(self.first)
        return ", ".join(map(str, self.first)) + (f" and {more} more" if more > 0 else "")


def planned_rows(
    work: Work,
    connection: apsw.Connection,
    takings: Iterable[Taking],
    limit: int | None,
    older_than: float | None = None,
) -> Planned:
    """Count them, up to `limit` and no further than COUNTED, and look at the first.

    Raises apsw.Error, ProfileError, TimeLimitExceeded.
    """
    most, ends = min(limit or COUNTED + 1, COUNTED + 1), time.monotonic() + LONGEST_COUNT
    number, late = 0, False
    first: tuple[Victim, ...] = ()
    for taking in takings:
        for found in _slices(work, connection, taking, most - number, older_than):
            first += _shown(work, connection, taking, found[: SHOWN - len(first)], older_than)
            number += len(found)
            late = time.monotonic() > ends
            if number >= most or late:
                break
    return Planned(min(number, most, COUNTED), number > COUNTED or (late and number < most), first)


def count_up_to(work: Work, connection: apsw.Connection, bounds: Iterable[Bound], limit: int) -> int:
    """The sum of several counts, at most `limit`; what takes too long is not counted. Raises apsw.Error, ProfileError."""
    total = 0
    with suppress(TimeLimitExceeded), time_limit(connection, _longest_read(work, connection)):
        for bound in bounds:
            total += rows_of(connection, bound, limit=limit - total)[0][0]
    return total


def _slices(
    work: Work, connection: apsw.Connection, taking: Taking, limit: int, older_than: float | None
) -> Iterator[list[Found]]:
    """By the index in one look; without one, or when that takes too long, in the short readings of a walk."""
    found = _looked(work, connection, taking, limit, older_than) if is_searched(connection, taking) else None
    if found is None:
        yield from (part.rows for part in walked_rows(connection, taking, work.now, older_than))
    else:
        yield found


def _looked(
    work: Work, connection: apsw.Connection, taking: Taking, limit: int, older_than: float | None
) -> list[Found] | None:
    try:
        with time_limit(connection, _longest_read(work, connection)):
            return rows_of(connection, taking.search(work.now(), older_than), limit=limit)
    except TimeLimitExceeded:
        if has_row_numbers(connection, taking):
            return None
        raise


def _shown(
    work: Work, connection: apsw.Connection, taking: Taking, found: list[Found], older_than: float | None
) -> tuple[Victim, ...]:
    bound = taking.victim(work.now(), older_than)
    rows = (row for key, *_ in found for row in rows_of(connection, bound, key=key))
    return tuple(_victim(row, bound) for row in rows)


def _victim(row: tuple[Any, ...], bound: Bound) -> Victim:
    key, queue, _attempts, since, holder = row
    moment = None if since is None else moment_of(float(since), bound.form, bound.zone)
    return Victim(key, str(queue), moment, "" if holder is None else str(holder))


def _longest_read(work: Work, connection: apsw.Connection) -> float:
    limits = work.target.limits
    return limits.read_wal if connection.pragma("journal_mode") == "wal" else limits.read_rollback


def _utc(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(moment))
