"""Compiles when a lease is stale: the one predicate of the gauge, of the selection and of each row's requeue. Pure.

A lease is expired when its end has passed. It is then stale, unless its holder is alive as far as the file or this host
tells, and the profile's patience with a live holder is not over.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from collectors.queue_profiles.count_queries import CompiledRowSet, count_template
from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.expression import Expression
from collectors.queue_profiles.holder_liveness import FUNCTION_NAME
from collectors.queue_profiles.schema import AliveSpec, HolderSpec, RowSetSpec
from collectors.queue_profiles.statement import (
    BoundStatement,
    MomentExpression,
    StatementTemplate,
    TableContext,
    join_conditions,
    parameters_of,
)
from collectors.queue_profiles.table_match import TableMatch
from collectors.queue_profiles.time_formats import LOCAL_FORMATS

NO_HOLDER = Expression("NULL")


@dataclass(frozen=True)
class StaleRowSet:
    """The stale leases of one row set. `expired`: all expired leases, live holders too. `holder`: of a row, or NULL."""

    row_set: CompiledRowSet
    where: Expression
    since: MomentExpression
    expired: Expression
    holder: Expression = NO_HOLDER

    def count_statement(self, now: float) -> BoundStatement:
        """SELECT queue, stale leases, oldest `stale_since`, over at most :limit rows."""
        return self._count_template.bind_at(now)

    @cached_property
    def _count_template(self) -> StatementTemplate:
        return count_template(self.row_set, self.where, self.since)


def compile_stale_rows(spec: RowSetSpec, rows: CompiledRowSet, match: TableMatch) -> StaleRowSet | None:
    """Compile the row set's stale leases, None where it declares none. Raises ProfileError."""
    if spec.stale is None or spec.stale_since is None:
        return None
    context, holder = rows.context, spec.holder
    since = context.compile_moment(spec.stale_since)
    expired = join_conditions(rows.where, context.compile_fragment(spec.stale), since.time_check)
    if holder is None or context.is_absent(holder.name):
        return StaleRowSet(rows, expired, since, expired)
    not_spared = _not_spared(holder, context, since, match)
    holder_name = context.compile_fragment(holder.name)
    return StaleRowSet(rows, join_conditions(expired, not_spared), since, expired, holder_name)


def _not_spared(holder: HolderSpec, context: TableContext, since: MomentExpression, match: TableMatch) -> Expression:
    """Holds where the holder is not alive, or the patience with a live holder is over."""
    if holder.patience not in context.scope.settings.numbers:
        raise ProfileError(f"holder.patience: no setting is called {holder.patience!r} and is a number")
    recent = context.compile_fragment(f"@ago({holder.patience}):{since.time_format}")
    living = (*_alive_on_host(holder, context), *_alive_by_table(holder.alive, context, match))
    sql = f"({since.value.sql} >= {recent.sql} AND ({' OR '.join(condition.sql for condition in living)})) IS NOT TRUE"
    return Expression(sql, parameters_of((since.value, recent, *living)))


def _alive_on_host(holder: HolderSpec, context: TableContext) -> Iterator[Expression]:
    name = context.compile_fragment(holder.name)
    since = None if holder.since is None or context.is_absent(holder.since) else context.compile_moment(holder.since)
    if since is None or since.time_format in LOCAL_FORMATS:  # SQL alone cannot convert a local time
        yield Expression(f"{FUNCTION_NAME}({name.sql}, NULL)", name.parameters)
    else:
        yield Expression(f"{FUNCTION_NAME}({name.sql}, {since.as_epoch})", parameters_of((name, since.value)))


def _alive_by_table(alive: AliveSpec | None, context: TableContext, match: TableMatch) -> Iterator[Expression]:
    for table in match.tables_named(alive.table, context.scope.settings) if alive is not None else ():
        where = context.compile_fragment(alive.where) if alive is not None else NO_HOLDER
        other = TableContext(table, context.scope, context.access)
        yield Expression(f"EXISTS (SELECT 1 FROM {other.quoted_table} WHERE {where.sql})", where.parameters)  # noqa: S608
