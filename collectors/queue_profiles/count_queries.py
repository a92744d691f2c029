"""The statements that count a row set: fixed frames around the profile's expressions. Pure."""

from dataclasses import dataclass
from functools import cached_property

from collectors.queue_profiles.authorizer import Fence
from collectors.queue_profiles.expression import Expression
from collectors.queue_profiles.schema import Rows, State, Workers
from collectors.queue_profiles.statement import Bound, Moment, Spot, Statement, parameters_of
from collectors.queue_profiles.time_formats import epoch_sql

_SEQUENCES = Fence({"sqlite_sequence": frozenset({"name", "seq"})})
# At most this many distinct queues are looked up by name.
QUEUE_BOUND = 1000
NO_IDENTITY = Expression("NULL")
# What `_found` found, and the queue without a name.
_SOME_NAMES = f"(SELECT name FROM found WHERE name IS NOT NULL UNION ALL SELECT NULL LIMIT {QUEUE_BOUND})"  # noqa: S608


@dataclass(frozen=True)
class CompiledRows:
    """One row set. Columns are SQL; `queue_column` is empty when the queue is an expression or missing.

    `by_queue`: an index starts with the queue and holds all that `where` needs, so each queue is counted on it alone.
    """

    state: State
    spot: Spot
    queue: Expression
    queue_column: str
    where: Expression
    since: Moment | None
    head: str
    head_is: Expression
    key: str
    attempts: str
    slow: bool
    by_queue: bool = False

    @property
    def table(self) -> str:
        """The table's name as SQL."""
        return self.spot.table

    @property
    def fence(self) -> Fence:
        """What its statements may read."""
        return self.spot.fence

    def count(self, now: float) -> Bound:
        """SELECT queue, count, oldest `since` (or NULL), over at most :limit rows."""
        return self.count_by_queue() if self.by_queue else self._counting.at(now)

    def count_by_queue(self) -> Bound:
        """SELECT queue, count, NULL, each queue over at most :limit rows, where neither times nor moments matter."""
        sql = (
            f"{_found(self.table, self.queue_column)} SELECT {self.spot.labelled('name')}, {self.number_in('one')}, NULL "  # noqa: S608
            f"FROM {_SOME_NAMES} AS one"
        )
        return Bound(sql, {}, self.fence, per_queue=True)

    def number_in(self, queue: str) -> str:
        """SQL for the number of its rows in the queue of `queue`.name, at most :limit."""
        return (
            f"(SELECT count(*) FROM (SELECT 1 FROM {self.table} WHERE {self.queue_column} IS {queue}.name AND "  # noqa: S608
            f"{self.where.sql} LIMIT :limit))"
        )

    def heads(self, now: float) -> Bound | None:
        """SELECT queue, smallest `head`, its row's `head_is`, over at most :limit rows; None without a `head`.

        With a single min() SQLite takes the bare column from the row of the minimum
        (https://sqlite.org/lang_select.html#bareagg).
        """
        return self._heading.at(now) if self.head else None

    def count_and_heads(self, now: float) -> Bound | None:
        """SELECT queue, count, oldest `since`, smallest `head`, its `head_is`: both in one; None where that needs two."""
        if not self.head or self.by_queue or (self.since is not None and self.head_is != NO_IDENTITY):
            return None
        return self._counting_and_heading.at(now)

    @cached_property
    def _counting(self) -> Statement:
        return count_of(self, self.where, self.since)

    @cached_property
    def _heading(self) -> Statement:
        sql = (
            f"SELECT queue, min(head), identity FROM (SELECT {self.queue.sql} AS queue, {self.head} AS head, "  # noqa: S608
            f"{self.head_is.sql} AS identity FROM {self.table} WHERE {self.where.sql} LIMIT :limit) GROUP BY queue"
        )
        return Statement(sql, parameters_of((self.queue, self.head_is, self.where)), self.fence)

    @cached_property
    def _counting_and_heading(self) -> Statement:
        return count_of(self, self.where, self.since, with_head=True)


@dataclass(frozen=True)
class NamedQueues:
    """The queues that an index names at no cost, and the row sets that are counted on it alone, as `by_queue` says.

    `rows`: one row set of the table; `counted`: which of the profile's row sets, by position.
    """

    rows: CompiledRows
    counted: tuple[tuple[int, CompiledRows], ...] = ()

    def names(self) -> Bound:
        """SELECT at most :limit queue names, jumping from name to name on an index that starts with the queue."""
        rows = self.rows
        sql = (
            f"{_found(rows.table, rows.queue_column)} SELECT {rows.spot.labelled('name')} FROM found "  # noqa: S608
            "WHERE name IS NOT NULL LIMIT :limit"
        )
        return Bound(sql, {}, rows.fence)

    def names_and_counts(self) -> Bound:
        """SELECT whether it is a name, queue, count of each of `counted`; each count over at most :limit rows."""
        return self._counting.at(0.0)

    @cached_property
    def _counting(self) -> Statement:
        rows = self.rows
        numbers = "".join(f", {one.number_in('one')}" for _, one in self.counted)
        sql = (
            f"{_found(rows.table, rows.queue_column)} SELECT name IS NOT NULL, {rows.spot.labelled('name')}{numbers} "  # noqa: S608
            f"FROM {_SOME_NAMES} AS one"
        )
        return Statement(sql, (), rows.fence, per_queue=True)


@dataclass(frozen=True)
class CompiledWorkers:
    """The workers of one table."""

    spot: Spot
    stale: Expression

    def count(self, now: float) -> Bound:
        """SELECT workers, stale ones, over at most :limit rows."""
        return self._counting.at(now)

    @cached_property
    def _counting(self) -> Statement:
        sql = (
            f"SELECT count(*), coalesce(sum(gone), 0) FROM (SELECT {self.stale.sql} IS TRUE AS gone "  # noqa: S608
            f"FROM {self.spot.table} LIMIT :limit)"
        )
        return Statement(sql, self.stale.parameters, self.spot.fence)


@dataclass(frozen=True, slots=True)
class Sequence:
    """A table whose AUTOINCREMENT numbers every row that it ever had (https://sqlite.org/autoinc.html)."""

    table: str

    def statement(self) -> Bound:
        """SELECT the last number given; no row when the table never had one."""
        return Bound("SELECT seq FROM sqlite_sequence WHERE name = :name", {"name": self.table}, _SEQUENCES)


def compiled_rows(text: Rows, spot: Spot) -> CompiledRows:
    """A row set on one table. Raises ProfileError."""
    head = "" if text.head is None or spot.is_absent(text.head) else spot.column(text.head)
    return CompiledRows(
        state=text.state,
        spot=spot,
        queue=spot.label(text.queue),
        queue_column=spot.queue_column(text.queue),
        where=spot.fragment(text.where),
        since=None if text.since is None or spot.is_absent(text.since) else spot.moment(text.since),
        head=head,
        head_is=spot.fragment(text.head_is) if text.head_is else NO_IDENTITY,
        key=spot.column(text.key) if text.key else "",
        attempts=spot.column(text.attempts) if text.attempts and not spot.is_absent(text.attempts) else "NULL",
        slow=text.slow,
    )


def compiled_workers(text: Workers, spot: Spot) -> CompiledWorkers:
    """The workers of one table. Raises ProfileError."""
    return CompiledWorkers(spot, spot.fragment(text.stale))


def count_of(rows: CompiledRows, where: Expression, since: Moment | None, *, with_head: bool = False) -> Statement:
    """SELECT queue, count, oldest `since`, over at most :limit rows where `where` holds; then the smallest head."""
    moment = since.value.sql if since else "NULL"
    # The time of the minimum, not the minimum of the times: only one value per queue is converted.
    oldest = epoch_sql("min(moment)", since.form) if since else "NULL"
    asked, given = (
        (", min(head), identity", f", {rows.head} AS head, {rows.head_is.sql} AS identity") if with_head else ("", "")
    )
    sql = (
        f"SELECT queue, count(*), {oldest}{asked} FROM (SELECT {rows.queue.sql} AS queue, {moment} AS moment{given} "  # noqa: S608
        f"FROM {rows.table} WHERE {where.sql} LIMIT :limit) GROUP BY queue"
    )
    parts = (rows.queue, where, *((since.value,) if since else ()), *((rows.head_is,) if with_head else ()))
    return Statement(
        sql,
        parameters_of(parts),
        rows.fence,
        form=since.form if since else None,
        zone=since.zone if since else "",
    )


def _found(table: str, column: str) -> str:
    """The distinct values of a column, each found by one step on an index that starts with it."""
    return (
        f"WITH RECURSIVE found(name) AS (SELECT min({column}) FROM {table} UNION ALL "  # noqa: S608
        f"SELECT (SELECT min({column}) FROM {table} WHERE {column} > found.name) FROM found "
        f"WHERE found.name IS NOT NULL)"
    )
