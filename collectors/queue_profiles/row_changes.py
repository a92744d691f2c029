"""Compiles the steps that change selected rows: fixed statements, each of which tests the row's predicate again. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from collectors.queue_profiles.authorizer import AccessRules
from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.expression import Expression
from collectors.queue_profiles.schema import DependentRowsSpec, InsertSpec, StepSpec
from collectors.queue_profiles.statement import TableContext, join_conditions, parameters_of
from collectors.queue_profiles.table_match import TableMatch
from collectors.queue_profiles.time_formats import SqlValue

RowDestination = Literal["dead", "waiting", "gone"]


@dataclass(frozen=True, slots=True)
class RowFilter:
    """The rows that a statement changes: its condition, and a hint for the search (` NOT INDEXED`, or an empty text)."""

    where: str
    index_hint: str = ""


# Builds a statement for the rows of a filter.
StatementFrame = Callable[[RowFilter], str]


@dataclass(frozen=True, slots=True)
class BoundStep:
    """A step with its values: `statements` run in this order, and the last one changes the rows themselves.

    They are for one row by `:key`, with `:seen` and `:holder`, or for all rows from `:first` to `:last`. All run in one
    transaction, within `allow_changes(database, step.access)`. `values` are those that do not depend on the rows.
    """

    destination: RowDestination
    statements: tuple[str, ...]
    values: dict[str, SqlValue]
    access: AccessRules


@dataclass(frozen=True, slots=True)
class CompiledStep:
    """A step before its rows and values are known; `parameters`: those of `frames`, without those of the row filter.

    `where`: holds for the rows of this step, which are those of no earlier step.
    """

    destination: RowDestination
    where: Expression
    frames: tuple[StatementFrame, ...]
    parameters: Expression
    access: AccessRules


def compile_requeue_steps(
    context: TableContext, specs: Iterable[StepSpec], match: TableMatch
) -> Iterable[CompiledStep]:
    """Compile the steps of a requeue; each is for the rows that no earlier step is for. Raises ProfileError."""
    earlier: list[Expression] = []
    for spec in specs:
        condition = context.compile_fragment(spec.where or "1")
        excluded = (Expression(f"{step.sql} IS NOT TRUE", step.parameters) for step in earlier)
        yield _compile_requeue_step(context, spec, join_conditions(condition, *excluded), match)
        earlier.append(condition)


def compile_purge_step(specs: Iterable[DependentRowsSpec], context: TableContext, match: TableMatch) -> CompiledStep:
    """Compile the deletion of a finished row: first the dependent rows of other tables. Raises ProfileError."""
    others = [(spec, other) for spec in specs for other in _dependent_tables(spec, context, match)]
    tables = {context.table.name.lower(), *(other.table.name.lower() for _, other in others)}
    access = AccessRules(match.readable_columns, deletes=frozenset(tables))
    frames = (*(_delete_dependents_frame(spec, context, other) for spec, other in others), _delete_frame(context))
    return CompiledStep("gone", Expression("(1)"), frames, Expression(""), access)


def _compile_requeue_step(context: TableContext, spec: StepSpec, where: Expression, match: TableMatch) -> CompiledStep:
    assigned = {name: value for name, value in (spec.set or {}).items() if not context.is_absent(name)}
    pairs = {context.quoted_column(name): context.compile_fragment(value) for name, value in assigned.items()}
    insert = None if spec.insert is None else _compile_insert(spec.insert, context, where, match)
    table = context.table.name.lower()
    access = AccessRules(
        match.readable_columns,
        updates={table: frozenset(column.strip('"').lower() for column in pairs)},
        inserts=frozenset() if insert is None else insert.into,
        deletes=frozenset() if pairs else frozenset({table}),
    )
    last = _update_frame(context, pairs, where) if pairs else _delete_frame(context, where)
    frames = (last,) if insert is None else (insert.frame, last)
    parameters = parameters_of((where, *((insert.row,) if insert else ()), *pairs.values()))
    return CompiledStep(spec.to, where, frames, Expression("", parameters), access)


def _update_frame(context: TableContext, pairs: dict[str, Expression], where: Expression) -> StatementFrame:
    assignments = ", ".join(f"{column} = {value.sql}" for column, value in pairs.items())
    return lambda rows: (
        f"UPDATE {context.quoted_table}{rows.index_hint} SET {assignments} WHERE {rows.where} AND {where.sql}"  # noqa: S608
    )


def _delete_frame(context: TableContext, where: Expression | None = None) -> StatementFrame:
    condition = "" if where is None else f" AND {where.sql}"
    return lambda rows: f"DELETE FROM {context.quoted_table}{rows.index_hint} WHERE {rows.where}{condition}"  # noqa: S608


@dataclass(frozen=True, slots=True)
class _CompiledInsert:
    """The insertion of a row into another table. `row`: the expressions of its values; `into`: the table in lower case."""

    frame: StatementFrame
    row: Expression
    into: frozenset[str]


def _compile_insert(spec: InsertSpec, context: TableContext, where: Expression, match: TableMatch) -> _CompiledInsert:
    tables = match.tables_named(spec.into, context.scope.settings)
    if len(tables) != 1:
        raise ProfileError(f"insert into {spec.into!r}: there must be exactly one such table")
    other = TableContext(tables[0], context.scope, context.access)
    pairs = {other.quoted_column(name): context.compile_fragment(value) for name, value in spec.values.items()}
    head = f"{'INSERT OR IGNORE' if spec.or_ignore else 'INSERT'} INTO {other.quoted_table} ({', '.join(pairs)})"
    row = ", ".join(value.sql for value in pairs.values())
    return _CompiledInsert(
        lambda rows: (
            f"{head} SELECT {row} FROM {context.quoted_table}{rows.index_hint} WHERE {rows.where} AND {where.sql}"  # noqa: S608
        ),
        Expression("", parameters_of(pairs.values())),
        frozenset({tables[0].name.lower()}),
    )


def _dependent_tables(spec: DependentRowsSpec, context: TableContext, match: TableMatch) -> Iterable[TableContext]:
    return (
        TableContext(table, context.scope, context.access)
        for table in match.tables_named(spec.table, context.scope.settings)
    )


def _delete_dependents_frame(spec: DependentRowsSpec, context: TableContext, other: TableContext) -> StatementFrame:
    column, of = other.quoted_column(spec.column), context.quoted_column(spec.of)
    return lambda rows: (
        f"DELETE FROM {other.quoted_table} WHERE {column} IN "  # noqa: S608
        f"(SELECT {of} FROM {context.quoted_table}{rows.index_hint} WHERE {rows.where})"
    )
