"""When a lease is stale, said once: for the gauge, for the victims that are looked for, and for each that is taken. Pure.

A lease is past when its end is. It is stale unless its holder lives, as far as the file or this host tells, and the
profile's patience with a living holder is not over.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from collectors.queue_profiles.count_queries import CompiledRows, count_of
from collectors.queue_profiles.expression import Expression
from collectors.queue_profiles.holder_liveness import FUNCTION
from collectors.queue_profiles.schema import Alive, Holder, ProfileError, Rows
from collectors.queue_profiles.statement import Bound, Moment, Spot, Statement, all_of, parameters_of
from collectors.queue_profiles.table_match import Places
from collectors.queue_profiles.time_formats import LOCAL_FORMATS

NOBODY = Expression("NULL")


@dataclass(frozen=True)
class StaleRows:
    """The stale leases of one row set. `past`: their leases ran out, whoever lives. `holder`: who holds a row, or NULL."""

    rows: CompiledRows
    where: Expression
    since: Moment
    past: Expression
    holder: Expression = NOBODY

    def count(self, now: float) -> Bound:
        """SELECT queue, stale leases, oldest `stale_since`, over at most :limit rows."""
        return self._counting.at(now)

    @cached_property
    def _counting(self) -> Statement:
        return count_of(self.rows, self.where, self.since)


def compiled_stale(text: Rows, rows: CompiledRows, places: Places) -> StaleRows | None:
    """The row set's stale leases, None where it does not tell. Raises ProfileError."""
    if text.stale is None or text.stale_since is None:
        return None
    spot, holder = rows.spot, text.holder
    since = spot.moment(text.stale_since)
    past = all_of(rows.where, spot.fragment(text.stale), since.readable)
    if holder is None or spot.is_absent(holder.name):
        return StaleRows(rows, past, since, past)
    spared = _spared(holder, spot, since, places)
    return StaleRows(rows, all_of(past, spared), since, past, spot.fragment(holder.name))


def _spared(holder: Holder, spot: Spot, since: Moment, places: Places) -> Expression:
    """Holds where nobody lives, or the patience with who lives is over."""
    if holder.patience not in spot.scope.settings.numbers:
        raise ProfileError(f"holder.patience: no setting is called {holder.patience!r} and is a number")
    recent = spot.fragment(f"@ago({holder.patience}):{since.form}")
    living = (*_on_this_host(holder, spot), *_told_by(holder.alive, spot, places))
    sql = f"({since.value.sql} >= {recent.sql} AND ({' OR '.join(one.sql for one in living)})) IS NOT TRUE"
    return Expression(sql, parameters_of((since.value, recent, *living)))


def _on_this_host(holder: Holder, spot: Spot) -> Iterator[Expression]:
    name = spot.fragment(holder.name)
    since = None if holder.since is None or spot.is_absent(holder.since) else spot.moment(holder.since)
    if since is None or since.form in LOCAL_FORMATS:  # SQL alone cannot make a moment of a local time
        yield Expression(f"{FUNCTION}({name.sql}, NULL)", name.parameters)
    else:
        yield Expression(f"{FUNCTION}({name.sql}, {since.epoch})", parameters_of((name, since.value)))


def _told_by(alive: Alive | None, spot: Spot, places: Places) -> Iterator[Expression]:
    for place in places.of(alive.table, spot.scope.settings) if alive is not None else ():
        where = spot.fragment(alive.where) if alive is not None else NOBODY
        other = Spot(place, spot.scope, spot.fence)
        yield Expression(f"EXISTS (SELECT 1 FROM {other.table} WHERE {where.sql})", where.parameters)  # noqa: S608
