"""Finds the rows that a queue profile lets an action take, and takes them: each by its key, behind the profile's fence."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import apsw

from collectors.queue_profiles.fence import changing, reading
from collectors.queue_profiles.taking import Step, Taking, To


@dataclass(frozen=True, slots=True)
class Victim:
    """One row that may be taken."""

    taking: Taking
    key: Any
    queue: str


def victims(
    connection: apsw.Connection, takings: Iterable[Taking], now: float, older_than: float | None, limit: int
) -> tuple[Victim, ...]:
    """At most `limit` rows, table after table. Needs no lock: each is judged again when it is taken. Raises apsw.Error."""
    found: list[Victim] = []
    for taking in takings:
        bound = taking.victims(now, older_than)
        with reading(connection, bound.fence):
            rows = connection.execute(bound.sql, {**bound.values, "limit": limit - len(found)}).fetchall()
        found += (Victim(taking, key, str(queue)) for key, queue, *_ in rows)
    return tuple(found)


def take(connection: apsw.Connection, chosen: Iterable[Victim], now: float, older_than: float | None) -> Counter[To]:
    """Take the rows that still are what they were chosen for, in the caller's transaction; how many went where.

    Raises apsw.Error; ProfileError when a step does what the profile did not declare.
    """
    keys: dict[int, list[Any]] = {}
    takings: dict[int, Taking] = {}
    for victim in chosen:
        takings[id(victim.taking)] = victim.taking
        keys.setdefault(id(victim.taking), []).append(victim.key)
    taken: Counter[To] = Counter()
    for place, taking in takings.items():
        for step in taking.steps(now, older_than):
            taken[step.to] += _take_by(connection, step, keys[place])
    return taken


def _take_by(connection: apsw.Connection, step: Step, keys: list[Any]) -> int:
    number = 0
    with changing(connection, step.fence):
        for key in keys:
            values = {**step.values, "key": key}
            for statement in step.statements:
                connection.execute(statement, values)
            number += connection.changes() > 0  # of the last statement, which is the one that takes the row
    return number
