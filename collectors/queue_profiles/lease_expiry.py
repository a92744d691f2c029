"""When a lease is stale, said once: for the gauge, for the victims that are looked for, and for each that is taken. Pure.

A lease is past when its end is. It is stale unless its holder lives, as far as the file or this host tells, and the
profile's patience with a living holder is not over.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from collectors.queue_profiles.count_queries import CompiledRowSet, count_template
from collectors.queue_profiles.expression import Expression
from collectors.queue_profiles.holder_liveness import FUNCTION_NAME
from collectors.queue_profiles.schema import AliveSpec, HolderSpec, ProfileError, RowSetSpec
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
    """The stale leases of one row set. `past`: their leases ran out, whoever lives. `holder`: who holds a row, or NULL."""

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


def compile_stale_rows(text: RowSetSpec, rows: CompiledRowSet, places: TableMatch) -> StaleRowSet | None:
    """The row set's stale leases, None where it does not tell. Raises ProfileError."""
    if text.stale is None or text.stale_since is None:
        return None
    spot, holder = rows.context, text.holder
    since = spot.compile_moment(text.stale_since)
    past = join_conditions(rows.where, spot.compile_fragment(text.stale), since.time_check)
    if holder is None or spot.is_absent(holder.name):
        return StaleRowSet(rows, past, since, past)
    spared = _not_spared(holder, spot, since, places)
    return StaleRowSet(rows, join_conditions(past, spared), since, past, spot.compile_fragment(holder.name))


def _not_spared(holder: HolderSpec, spot: TableContext, since: MomentExpression, places: TableMatch) -> Expression:
    """Holds where nobody lives, or the patience with who lives is over."""
    if holder.patience not in spot.scope.settings.numbers:
        raise ProfileError(f"holder.patience: no setting is called {holder.patience!r} and is a number")
    recent = spot.compile_fragment(f"@ago({holder.patience}):{since.time_format}")
    living = (*_alive_on_host(holder, spot), *_alive_by_table(holder.alive, spot, places))
    sql = f"({since.value.sql} >= {recent.sql} AND ({' OR '.join(one.sql for one in living)})) IS NOT TRUE"
    return Expression(sql, parameters_of((since.value, recent, *living)))


def _alive_on_host(holder: HolderSpec, spot: TableContext) -> Iterator[Expression]:
    name = spot.compile_fragment(holder.name)
    since = None if holder.since is None or spot.is_absent(holder.since) else spot.compile_moment(holder.since)
    if since is None or since.time_format in LOCAL_FORMATS:  # SQL alone cannot make a moment of a local time
        yield Expression(f"{FUNCTION_NAME}({name.sql}, NULL)", name.parameters)
    else:
        yield Expression(f"{FUNCTION_NAME}({name.sql}, {since.as_epoch})", parameters_of((name, since.value)))


def _alive_by_table(alive: AliveSpec | None, spot: TableContext, places: TableMatch) -> Iterator[Expression]:
    for place in places.tables_named(alive.table, spot.scope.settings) if alive is not None else ():
        where = spot.compile_fragment(alive.where) if alive is not None else NO_HOLDER
        other = TableContext(place, spot.scope, spot.access)
        yield Expression(f"EXISTS (SELECT 1 FROM {other.quoted_table} WHERE {where.sql})", where.parameters)  # noqa: S608
