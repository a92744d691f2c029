"""What happens to rows that are taken: fixed statements, each of which holds the predicate against them once more. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from collectors.queue_profiles.authorizer import Fence
from collectors.queue_profiles.expression import Expression
from collectors.queue_profiles.schema import Along, Insert, ProfileError
from collectors.queue_profiles.schema import Step as StepText
from collectors.queue_profiles.statement import Spot, all_of, parameters_of
from collectors.queue_profiles.table_match import Places
from collectors.queue_profiles.time_formats import Value

To = Literal["dead", "waiting", "gone"]


@dataclass(frozen=True, slots=True)
class Which:
    """The rows that a statement means: its `where`, and how they are looked for (`NOT INDEXED`, or nothing)."""

    where: str
    looked_for: str = ""


# Makes a statement once it is known which rows are meant.
Frame = Callable[[Which], str]


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to rows: `statements` in this order, the last of which changes the rows themselves.

    Of one row by `:key`, with `:seen` and `:holder`, or of all from `:first` to `:last`. All run in one transaction, within
    `fence.changing(database, step.fence)`. `values` are those that do not depend on the rows.
    """

    to: To
    statements: tuple[str, ...]
    values: dict[str, Value]
    fence: Fence


@dataclass(frozen=True, slots=True)
class CompiledStep:
    """One step before its rows and values are known; `parameters` are those of `frames`, the rows' apart.

    `where`: the rows that are for this step and for none before it.
    """

    to: To
    where: Expression
    frames: tuple[Frame, ...]
    parameters: Expression
    fence: Fence


def requeue_steps(spot: Spot, texts: Iterable[StepText], places: Places) -> Iterable[CompiledStep]:
    """The steps of a requeue; each takes what no earlier one did. Raises ProfileError."""
    taken: list[Expression] = []
    for text in texts:
        own = spot.fragment(text.where or "1")
        left = (Expression(f"{earlier.sql} IS NOT TRUE", earlier.parameters) for earlier in taken)
        yield _requeue_step(spot, text, all_of(own, *left), places)
        taken.append(own)


def purge_step(along: Iterable[Along], spot: Spot, places: Places) -> CompiledStep:
    """Rows of other tables that go with a finished row, then the row itself. Raises ProfileError."""
    others = [(one, place) for one in along for place in _places(one, spot, places)]
    tables = {spot.place.table.lower(), *(place.place.table.lower() for _, place in others)}
    fence = Fence(places.readable, deletes=frozenset(tables))
    frames = (*(_along(one, spot, place) for one, place in others), _delete(spot))
    return CompiledStep("gone", Expression("(1)"), frames, Expression(""), fence)


def _requeue_step(spot: Spot, text: StepText, where: Expression, places: Places) -> CompiledStep:
    assigned = {name: value for name, value in (text.set or {}).items() if not spot.is_absent(name)}
    pairs = {spot.column(name): spot.fragment(value) for name, value in assigned.items()}
    insert = None if text.insert is None else _insert(text.insert, spot, where, places)
    own = spot.place.table.lower()
    fence = Fence(
        places.readable,
        updates={own: frozenset(column.strip('"').lower() for column in pairs)},
        inserts=frozenset() if insert is None else insert.into,
        deletes=frozenset() if pairs else frozenset({own}),
    )
    last = _update(spot, pairs, where) if pairs else _delete(spot, where)
    frames = (last,) if insert is None else (insert.frame, last)
    parameters = parameters_of((where, *((insert.row,) if insert else ()), *pairs.values()))
    return CompiledStep(text.to, where, frames, Expression("", parameters), fence)


def _update(spot: Spot, pairs: dict[str, Expression], where: Expression) -> Frame:
    assignments = ", ".join(f"{column} = {value.sql}" for column, value in pairs.items())
    return lambda rows: (
        f"UPDATE {spot.table}{rows.looked_for} SET {assignments} WHERE {rows.where} AND {where.sql}"  # noqa: S608
    )


def _delete(spot: Spot, where: Expression | None = None) -> Frame:
    also = "" if where is None else f" AND {where.sql}"
    return lambda rows: f"DELETE FROM {spot.table}{rows.looked_for} WHERE {rows.where}{also}"  # noqa: S608


@dataclass(frozen=True, slots=True)
class _Inserting:
    """A row for another table; `row`: the expressions that it is made of."""

    frame: Frame
    row: Expression
    into: frozenset[str]


def _insert(text: Insert, spot: Spot, where: Expression, places: Places) -> _Inserting:
    found = places.of(text.into, spot.scope.settings)
    if len(found) != 1:
        raise ProfileError(f"insert into {text.into!r}: there must be exactly one such table")
    other = Spot(found[0], spot.scope, spot.fence)
    pairs = {other.column(name): spot.fragment(value) for name, value in text.values.items()}
    head = f"{'INSERT OR IGNORE' if text.or_ignore else 'INSERT'} INTO {other.table} ({', '.join(pairs)})"
    row = ", ".join(value.sql for value in pairs.values())
    return _Inserting(
        lambda rows: (
            f"{head} SELECT {row} FROM {spot.table}{rows.looked_for} WHERE {rows.where} AND {where.sql}"  # noqa: S608
        ),
        Expression("", parameters_of(pairs.values())),
        frozenset({found[0].table.lower()}),
    )


def _places(text: Along, spot: Spot, places: Places) -> Iterable[Spot]:
    return (Spot(place, spot.scope, spot.fence) for place in places.of(text.table, spot.scope.settings))


def _along(text: Along, spot: Spot, other: Spot) -> Frame:
    column, of = other.column(text.column), spot.column(text.of)
    return lambda rows: (
        f"DELETE FROM {other.table} WHERE {column} IN "  # noqa: S608
        f"(SELECT {of} FROM {spot.table}{rows.looked_for} WHERE {rows.where})"
    )
