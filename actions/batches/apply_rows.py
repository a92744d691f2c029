"""Takes rows that were found, behind the profile's fence, as far as they still are what they were taken for."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import apsw

from actions.batches.select_rows import ROWID_INDEX, STEP_INDEX, SelectedRow
from collectors.queue_profiles.authorizer import SchemaEffects, allow_changes, join_access_rules
from collectors.queue_profiles.row_changes import BoundStep, RowDestination
from collectors.queue_profiles.time_formats import SqlValue

# Whether one more row may be taken, after so many.
MayContinue = Callable[[int], bool]
# Rows of the first range of a turn; the next is twice as large while one takes less than so many seconds.
FIRST_RANGE, SHORT_RANGE = 8, 0.0005


@dataclass(slots=True)
class AppliedRows:
    """What one transaction did with the rows that it tried: where they went; `left`: keys of those that had changed."""

    to: Counter[RowDestination] = field(default_factory=Counter)
    left: list[Any] = field(default_factory=list)
    tried: list[SelectedRow] = field(default_factory=list)

    @property
    def changed_rows(self) -> int:
        """How many were no longer what had been seen."""
        return max(0, len(self.tried) - self.to.total())


def apply_steps(
    connection: apsw.Connection,
    steps: tuple[BoundStep, ...],
    waiting: deque[SelectedRow],
    taken: AppliedRows,
    own: SchemaEffects | None = None,
    may_go_on: MayContinue = lambda _rows: True,
) -> None:
    """Take rows off the left of `waiting`, one by one, in the caller's transaction. `own`: read outside of it.

    Raises apsw.Error; ProfileError when a step does what the profile did not declare.
    """
    while waiting and may_go_on(len(taken.tried)):
        number = waiting[0][STEP_INDEX]
        if number is None:  # the profile has no step for it
            taken.tried.append(waiting.popleft())
            taken.left.append(taken.tried[-1][0])
            continue
        step = steps[number]
        with allow_changes(connection, step.fence, own):
            rows = _row_values(connection, step, number, waiting, taken, may_go_on)
            connection.executemany(";".join(step.statements), rows)


def apply_range_steps(
    connection: apsw.Connection,
    steps: tuple[BoundStep, ...],
    waiting: deque[SelectedRow],
    taken: AppliedRows,
    own: SchemaEffects,
    may_go_on: MayContinue,
) -> None:
    """The same for rows that lie close together: range after range, each looked for and taken by one statement a step.

    A row is judged in the statement that takes it, so nothing can come between; a range is small enough for a look at
    the clock after it.
    """
    size = FIRST_RANGE
    with allow_changes(connection, join_access_rules(step.fence for step in steps), own):
        while waiting and may_go_on(len(taken.tried)):
            started = time.monotonic()
            rows = [waiting.popleft() for _ in range(min(size, len(waiting)))]
            taken.tried += rows
            seen = {row[STEP_INDEX] for row in rows}
            _apply_range(connection, [steps[number] for number in sorted(seen - {None})], rows, taken)
            size = max(1, size // 2) if time.monotonic() - started > 2 * SHORT_RANGE else size
            size = 2 * size if time.monotonic() - started < SHORT_RANGE else size


def _row_values(
    connection: apsw.Connection,
    step: BoundStep,
    number: int,
    waiting: deque[SelectedRow],
    taken: AppliedRows,
    may_go_on: MayContinue,
) -> Iterator[dict[str, SqlValue]]:
    """The values of each row for this step; what came of it is known when the next one is asked for."""
    values = dict(step.values)
    while waiting and waiting[0][STEP_INDEX] == number and may_go_on(len(taken.tried)):
        row = waiting.popleft()
        taken.tried.append(row)
        values["key"], values["seen"], values["holder"] = row[:STEP_INDEX]
        yield values
        if connection.changes() > 0:  # of the last statement, which is the one that takes the row
            taken.to[step.to] += 1
        else:
            taken.left.append(row[0])


def _apply_range(
    connection: apsw.Connection, steps: list[BoundStep], rows: list[SelectedRow], taken: AppliedRows
) -> None:
    for step in steps:
        values = {**step.values, "first": rows[0][ROWID_INDEX], "last": rows[-1][ROWID_INDEX]}
        for statement in step.statements:
            connection.execute(statement, values)
        taken.to[step.to] += connection.changes()
