"""What happens to rows that are taken: fixed statements, each of which holds the predicate against them once more. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from collectors.queue_profiles.authorizer import AccessRules
from collectors.queue_profiles.expression import Expression
from collectors.queue_profiles.schema import DependentRowsSpec, InsertSpec, ProfileError
from collectors.queue_profiles.schema import StepSpec as StepText
from collectors.queue_profiles.statement import TableContext, join_conditions, parameters_of
from collectors.queue_profiles.table_match import TableMatch
from collectors.queue_profiles.time_formats import SqlValue

RowDestination = Literal["dead", "waiting", "gone"]


@dataclass(frozen=True, slots=True)
class RowFilter:
    """The rows that a statement means: its `where`, and how they are looked for (`NOT INDEXED`, or nothing)."""

    where: str
    index_hint: str = ""


# Makes a statement once it is known which rows are meant.
StatementFrame = Callable[[RowFilter], str]


@dataclass(frozen=True, slots=True)
class BoundStep:
    """What happens to rows: `statements` in this order, the last of which changes the rows themselves.

    Of one row by `:key`, with `:seen` and `:holder`, or of all from `:first` to `:last`. All run in one transaction, within
    `fence.changing(database, step.fence)`. `values` are those that do not depend on the rows.
    """

    destination: RowDestination
    statements: tuple[str, ...]
    values: dict[str, SqlValue]
    access: AccessRules


@dataclass(frozen=True, slots=True)
class CompiledStep:
    """One step before its rows and values are known; `parameters` are those of `frames`, the rows' apart.

    `where`: the rows that are for this step and for none before it.
    """

    destination: RowDestination
    where: Expression
    frames: tuple[StatementFrame, ...]
    parameters: Expression
    access: AccessRules


def compile_requeue_steps(spot: TableContext, texts: Iterable[StepText], places: TableMatch) -> Iterable[CompiledStep]:
    """The steps of a requeue; each takes what no earlier one did. Raises ProfileError."""
    taken: list[Expression] = []
    for text in texts:
        own = spot.compile_fragment(text.where or "1")
        left = (Expression(f"{earlier.sql} IS NOT TRUE", earlier.parameters) for earlier in taken)
        yield _compile_requeue_step(spot, text, join_conditions(own, *left), places)
        taken.append(own)


def compile_purge_step(along: Iterable[DependentRowsSpec], spot: TableContext, places: TableMatch) -> CompiledStep:
    """Rows of other tables that go with a finished row, then the row itself. Raises ProfileError."""
    others = [(one, place) for one in along for place in _dependent_tables(one, spot, places)]
    tables = {spot.table.name.lower(), *(place.table.name.lower() for _, place in others)}
    fence = AccessRules(places.readable_columns, deletes=frozenset(tables))
    frames = (*(_delete_dependents_frame(one, spot, place) for one, place in others), _delete_frame(spot))
    return CompiledStep("gone", Expression("(1)"), frames, Expression(""), fence)


def _compile_requeue_step(spot: TableContext, text: StepText, where: Expression, places: TableMatch) -> CompiledStep:
    assigned = {name: value for name, value in (text.set or {}).items() if not spot.is_absent(name)}
    pairs = {spot.quoted_column(name): spot.compile_fragment(value) for name, value in assigned.items()}
    insert = None if text.insert is None else _compile_insert(text.insert, spot, where, places)
    own = spot.table.name.lower()
    fence = AccessRules(
        places.readable_columns,
        updates={own: frozenset(column.strip('"').lower() for column in pairs)},
        inserts=frozenset() if insert is None else insert.into,
        deletes=frozenset() if pairs else frozenset({own}),
    )
    last = _update_frame(spot, pairs, where) if pairs else _delete_frame(spot, where)
    frames = (last,) if insert is None else (insert.frame, last)
    parameters = parameters_of((where, *((insert.row,) if insert else ()), *pairs.values()))
    return CompiledStep(text.to, where, frames, Expression("", parameters), fence)


def _update_frame(spot: TableContext, pairs: dict[str, Expression], where: Expression) -> StatementFrame:
    assignments = ", ".join(f"{column} = {value.sql}" for column, value in pairs.items())
    return lambda rows: (
        f"UPDATE {spot.quoted_table}{rows.index_hint} SET {assignments} WHERE {rows.where} AND {where.sql}"  # noqa: S608
    )


def _delete_frame(spot: TableContext, where: Expression | None = None) -> StatementFrame:
    also = "" if where is None else f" AND {where.sql}"
    return lambda rows: f"DELETE FROM {spot.quoted_table}{rows.index_hint} WHERE {rows.where}{also}"  # noqa: S608


@dataclass(frozen=True, slots=True)
class _CompiledInsert:
    """A row for another table; `row`: the expressions that it is made of."""

    frame: StatementFrame
    row: Expression
    into: frozenset[str]


def _compile_insert(text: InsertSpec, spot: TableContext, where: Expression, places: TableMatch) -> _CompiledInsert:
    found = places.tables_named(text.into, spot.scope.settings)
    if len(found) != 1:
        raise ProfileError(f"insert into {text.into!r}: there must be exactly one such table")
    other = TableContext(found[0], spot.scope, spot.access)
    pairs = {other.quoted_column(name): spot.compile_fragment(value) for name, value in text.values.items()}
    head = f"{'INSERT OR IGNORE' if text.or_ignore else 'INSERT'} INTO {other.quoted_table} ({', '.join(pairs)})"
    row = ", ".join(value.sql for value in pairs.values())
    return _CompiledInsert(
        lambda rows: (
            f"{head} SELECT {row} FROM {spot.quoted_table}{rows.index_hint} WHERE {rows.where} AND {where.sql}"  # noqa: S608
        ),
        Expression("", parameters_of(pairs.values())),
        frozenset({found[0].name.lower()}),
    )


def _dependent_tables(text: DependentRowsSpec, spot: TableContext, places: TableMatch) -> Iterable[TableContext]:
    return (
        TableContext(place, spot.scope, spot.access) for place in places.tables_named(text.table, spot.scope.settings)
    )


def _delete_dependents_frame(text: DependentRowsSpec, spot: TableContext, other: TableContext) -> StatementFrame:
    column, of = other.quoted_column(text.column), spot.quoted_column(text.of)
    return lambda rows: (
        f"DELETE FROM {other.quoted_table} WHERE {column} IN "  # noqa: S608
        f"(SELECT {of} FROM {spot.quoted_table}{rows.index_hint} WHERE {rows.where})"
    )
