"""Takes rows that were found: each by its key, behind the profile's fence, as far as it still is what was seen."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import apsw

from actions.writing.found_rows import Found
from collectors.queue_profiles.fence import OwnRules, changing
from collectors.queue_profiles.steps import Step, To
from collectors.queue_profiles.time_formats import Value

# Whether one more row may be taken, after so many.
MayGoOn = Callable[[int], bool]


@dataclass(slots=True)
class Taken:
    """What one transaction did with the rows that it tried: where they went; `left`: keys of those that had changed."""

    to: Counter[To] = field(default_factory=Counter)
    left: list[Any] = field(default_factory=list)
    tried: list[Found] = field(default_factory=list)


def take(
    connection: apsw.Connection,
    steps: tuple[Step, ...],
    waiting: deque[Found],
    taken: Taken,
    own: OwnRules | None = None,
    may_go_on: MayGoOn = lambda _rows: True,
) -> None:
    """Take rows off the left of `waiting`, in the caller's transaction. `own`: the fence's, read outside of it.

    Raises apsw.Error; ProfileError when a step does what the profile did not declare.
    """
    while waiting and may_go_on(len(taken.tried)):
        number = waiting[0][3]
        if number is None:  # the profile has no step for it
            taken.tried.append(waiting.popleft())
            taken.left.append(taken.tried[-1][0])
            continue
        step = steps[number]
        with changing(connection, step.fence, own):
            rows = _one_by_one(connection, step, number, waiting, taken, may_go_on)
            connection.executemany(";".join(step.statements), rows)


def _one_by_one(
    connection: apsw.Connection, step: Step, number: int, waiting: deque[Found], taken: Taken, may_go_on: MayGoOn
) -> Iterator[dict[str, Value]]:
    """The values of each row for this step; what came of it is known when the next one is asked for."""
    values = dict(step.values)
    while waiting and waiting[0][3] == number and may_go_on(len(taken.tried)):
        row = waiting.popleft()
        taken.tried.append(row)
        values["key"], values["seen"], values["holder"], _ = row
        yield values
        if connection.changes() > 0:  # of the last statement, which is the one that takes the row
            taken.to[step.to] += 1
        else:
            taken.left.append(row[0])
