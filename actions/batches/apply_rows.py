"""Takes rows that were found, behind the profile's fence, as far as they still are what they were taken for."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import apsw

from actions.batches.select_rows import NUMBER, STEP, Found
from collectors.queue_profiles.authorizer import OwnRules, changing, joined_fences
from collectors.queue_profiles.row_changes import Step, To
from collectors.queue_profiles.time_formats import Value

# Whether one more row may be taken, after so many.
MayGoOn = Callable[[int], bool]
# Rows of the first range of a turn; the next is twice as large while one takes less than so many seconds.
FIRST_RANGE, SHORT_RANGE = 8, 0.0005


@dataclass(slots=True)
class Taken:
    """What one transaction did with the rows that it tried: where they went; `left`: keys of those that had changed."""

    to: Counter[To] = field(default_factory=Counter)
    left: list[Any] = field(default_factory=list)
    tried: list[Found] = field(default_factory=list)

    @property
    def changed(self) -> int:
        """How many were no longer what had been seen."""
        return max(0, len(self.tried) - self.to.total())


def take(
    connection: apsw.Connection,
    steps: tuple[Step, ...],
    waiting: deque[Found],
    taken: Taken,
    own: OwnRules | None = None,
    may_go_on: MayGoOn = lambda _rows: True,
) -> None:
    """Take rows off the left of `waiting`, one by one, in the caller's transaction. `own`: read outside of it.

    Raises apsw.Error; ProfileError when a step does what the profile did not declare.
    """
    while waiting and may_go_on(len(taken.tried)):
        number = waiting[0][STEP]
        if number is None:  # the profile has no step for it
            taken.tried.append(waiting.popleft())
            taken.left.append(taken.tried[-1][0])
            continue
        step = steps[number]
        with changing(connection, step.fence, own):
            rows = _one_by_one(connection, step, number, waiting, taken, may_go_on)
            connection.executemany(";".join(step.statements), rows)


def take_ranges(
    connection: apsw.Connection,
    steps: tuple[Step, ...],
    waiting: deque[Found],
    taken: Taken,
    own: OwnRules,
    may_go_on: MayGoOn,
) -> None:
    """The same for rows that lie close together: range after range, each looked for and taken by one statement a step.

    A row is judged in the statement that takes it, so nothing can come between; a range is small enough for a look at
    the clock after it.
    """
    size = FIRST_RANGE
    with changing(connection, joined_fences(step.fence for step in steps), own):
        while waiting and may_go_on(len(taken.tried)):
            started = time.monotonic()
            rows = [waiting.popleft() for _ in range(min(size, len(waiting)))]
            taken.tried += rows
            seen = {row[STEP] for row in rows}
            _take_range(connection, [steps[number] for number in sorted(seen - {None})], rows, taken)
            size = max(1, size // 2) if time.monotonic() - started > 2 * SHORT_RANGE else size
            size = 2 * size if time.monotonic() - started < SHORT_RANGE else size


def _one_by_one(
    connection: apsw.Connection, step: Step, number: int, waiting: deque[Found], taken: Taken, may_go_on: MayGoOn
) -> Iterator[dict[str, Value]]:
    """The values of each row for this step; what came of it is known when the next one is asked for."""
    values = dict(step.values)
    while waiting and waiting[0][STEP] == number and may_go_on(len(taken.tried)):
        row = waiting.popleft()
        taken.tried.append(row)
        values["key"], values["seen"], values["holder"] = row[:STEP]
        yield values
        if connection.changes() > 0:  # of the last statement, which is the one that takes the row
            taken.to[step.to] += 1
        else:
            taken.left.append(row[0])


def _take_range(connection: apsw.Connection, steps: list[Step], rows: list[Found], taken: Taken) -> None:
    for step in steps:
        values = {**step.values, "first": rows[0][NUMBER], "last": rows[-1][NUMBER]}
        for statement in step.statements:
            connection.execute(statement, values)
        taken.to[step.to] += connection.changes()
