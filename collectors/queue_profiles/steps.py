"""What happens to one row that is taken: fixed statements by its key, each of which holds the predicate once more. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from collectors.queue_profiles.expression import Expression
from collectors.queue_profiles.fence import Fence
from collectors.queue_profiles.place import Places
from collectors.queue_profiles.schema import Along, Insert, ProfileError
from collectors.queue_profiles.schema import Step as StepText
from collectors.queue_profiles.statement import Spot, all_of, parameters_of
from collectors.queue_profiles.time_formats import Value

To = Literal["dead", "waiting", "gone"]
# Stands in a statement for the predicate, which has its final form only when `older_than` is known. No profile can
# write it: a zero byte is refused in expressions.
PREDICATE = "\x00"


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one row: `statements` in this order, each with `:key`, `:seen` and `:holder`; the last changes the row.

    All run in one transaction, within `fence.changing(database, step.fence)`. The row is taken when the last one
    changed a row. `values` are those that do not depend on the row.
    """

    to: To
    statements: tuple[str, ...]
    values: dict[str, Value]
    fence: Fence


@dataclass(frozen=True, slots=True)
class CompiledStep:
    """One step before its values are known; `parameters` are those of `statements`, the predicate's apart.

    `where`: the rows that are for this step and for none before it.
    """

    to: To
    where: Expression
    statements: tuple[str, ...]
    parameters: Expression
    fence: Fence


def requeue_steps(spot: Spot, key: str, texts: Iterable[StepText], places: Places) -> Iterable[CompiledStep]:
    """The steps of a requeue; each takes what no earlier one did. Raises ProfileError."""
    taken: list[Expression] = []
    for text in texts:
        own = spot.fragment(text.where or "1")
        left = (Expression(f"{earlier.sql} IS NOT TRUE", earlier.parameters) for earlier in taken)
        yield _requeue_step(spot, key, text, all_of(own, *left), places)
        taken.append(own)


def purge_step(along: Iterable[Along], spot: Spot, key: str, places: Places) -> CompiledStep:
    """Rows of other tables that go with a finished row, then the row itself. Raises ProfileError."""
    children = [_along(one, spot, key, place) for one in along for place in _places(one, spot, places)]
    own = f"DELETE FROM {spot.table} WHERE {key} = :key AND {PREDICATE}"  # noqa: S608
    tables = {spot.place.table.lower(), *(table.lower() for table, _ in children)}
    fence = Fence(places.readable, deletes=frozenset(tables))
    statements = (*(sql for _, sql in children), own)
    return CompiledStep("gone", Expression("(1)"), statements, Expression(""), fence)


def _requeue_step(spot: Spot, key: str, text: StepText, where: Expression, places: Places) -> CompiledStep:
    these = f"WHERE {key} = :key AND {PREDICATE} AND {where.sql}"
    statements: list[str] = []
    parts = [where]
    inserts: frozenset[str] = frozenset()
    if text.insert is not None:
        insert, values_of_row, inserts = _insert(text.insert, spot, these, places)
        statements.append(insert)
        parts.append(values_of_row)
    assigned = {name: value for name, value in (text.set or {}).items() if not spot.is_absent(name)}
    pairs = {spot.column(name): spot.fragment(value) for name, value in assigned.items()}
    if pairs:
        assignments = ", ".join(f"{column} = {value.sql}" for column, value in pairs.items())
        statements.append(f"UPDATE {spot.table} SET {assignments} {these}")  # noqa: S608
    else:
        statements.append(f"DELETE FROM {spot.table} {these}")  # noqa: S608
    own = spot.place.table.lower()
    fence = Fence(
        places.readable,
        updates={own: frozenset(column.strip('"').lower() for column in pairs)},
        inserts=inserts,
        deletes=frozenset() if pairs else frozenset({own}),
    )
    parameters = Expression("", parameters_of((*parts, *pairs.values())))
    return CompiledStep(text.to, where, tuple(statements), parameters, fence)


def _insert(text: Insert, spot: Spot, these: str, places: Places) -> tuple[str, Expression, frozenset[str]]:
    found = places.of(text.into, spot.scope.settings)
    if len(found) != 1:
        raise ProfileError(f"insert into {text.into!r}: there must be exactly one such table")
    other = Spot(found[0], spot.scope, spot.fence)
    pairs = {other.column(name): spot.fragment(value) for name, value in text.values.items()}
    verb = "INSERT OR IGNORE" if text.or_ignore else "INSERT"
    row = ", ".join(value.sql for value in pairs.values())
    sql = f"{verb} INTO {other.table} ({', '.join(pairs)}) SELECT {row} FROM {spot.table} {these}"  # noqa: S608
    return sql, Expression("", parameters_of(pairs.values())), frozenset({found[0].table.lower()})


def _places(text: Along, spot: Spot, places: Places) -> Iterable[Spot]:
    return (Spot(place, spot.scope, spot.fence) for place in places.of(text.table, spot.scope.settings))


def _along(text: Along, spot: Spot, key: str, other: Spot) -> tuple[str, str]:
    sql = (
        f"DELETE FROM {other.table} WHERE {other.column(text.column)} IN (SELECT {spot.column(text.of)} "  # noqa: S608
        f"FROM {spot.table} WHERE {key} = :key AND {PREDICATE})"
    )
    return other.place.table, sql
