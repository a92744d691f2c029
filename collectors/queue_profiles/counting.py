"""The statements that count a row set: fixed frames around the profile's expressions. Pure."""

from dataclasses import dataclass

from collectors.queue_profiles.expression import Expression, values
from collectors.queue_profiles.fence import Fence
from collectors.queue_profiles.schema import Rows, State, Workers
from collectors.queue_profiles.statement import Bound, Moment, Spot, parameters_of
from collectors.queue_profiles.time_formats import epoch_sql

# At most this many distinct queues are looked up by name.
QUEUE_BOUND = 1000


@dataclass(frozen=True, slots=True)
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
        return self.count_by_queue() if self.by_queue else count_of(self, self.where, self.since, now)

    def count_by_queue(self) -> Bound:
        """SELECT queue, count, NULL, each queue over at most :limit rows, where neither times nor moments matter."""
        sql = (
            f"{_found(self.table, self.queue_column)} SELECT {self.spot.labelled('name')}, number, NULL FROM (SELECT "  # noqa: S608
            f"name, (SELECT count(*) FROM (SELECT 1 FROM {self.table} WHERE {self.queue_column} IS one.name AND "
            f"{self.where.sql} LIMIT :limit)) AS number FROM (SELECT name FROM found WHERE name IS NOT NULL "
            f"UNION ALL SELECT NULL LIMIT {QUEUE_BOUND}) AS one) WHERE number > 0"
        )
        return Bound(sql, {}, self.fence, per_queue=True)

    def heads(self, now: float) -> Bound | None:
        """SELECT queue, smallest `head`, its row's `head_is`, over at most :limit rows; None without a `head`.

        With a single min() SQLite takes the bare column from the row of the minimum
        (https://sqlite.org/lang_select.html#bareagg).
        """
        if not self.head:
            return None
        sql = (
            f"SELECT queue, min(head), identity FROM (SELECT {self.queue.sql} AS queue, {self.head} AS head, "  # noqa: S608
            f"{self.head_is.sql} AS identity FROM {self.table} WHERE {self.where.sql} LIMIT :limit) GROUP BY queue"
        )
        return Bound(sql, values(parameters_of((self.queue, self.head_is, self.where)), now), self.fence)

    def names(self) -> Bound:
        """SELECT at most :limit queue names, jumping from name to name on an index that starts with the queue."""
        sql = (
            f"{_found(self.table, self.queue_column)} SELECT {self.spot.labelled('name')} FROM found "  # noqa: S608
            "WHERE name IS NOT NULL LIMIT :limit"
        )
        return Bound(sql, {}, self.fence)


@dataclass(frozen=True, slots=True)
class CompiledWorkers:
    """The workers of one table."""

    spot: Spot
    stale: Expression

    def count(self, now: float) -> Bound:
        """SELECT workers, stale ones, over at most :limit rows."""
        sql = (
            f"SELECT count(*), coalesce(sum(gone), 0) FROM (SELECT {self.stale.sql} IS TRUE AS gone "  # noqa: S608
            f"FROM {self.spot.table} LIMIT :limit)"
        )
        return Bound(sql, values(self.stale.parameters, now), self.spot.fence)


@dataclass(frozen=True, slots=True)
class Sequence:
    """A table whose AUTOINCREMENT numbers every row that it ever had (https://sqlite.org/autoinc.html)."""

    table: str

    def statement(self) -> Bound:
        """SELECT the last number given; no row when the table never had one."""
        fence = Fence({"sqlite_sequence": frozenset({"name", "seq"})})
        return Bound("SELECT seq FROM sqlite_sequence WHERE name = :name", {"name": self.table}, fence)


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
        head_is=spot.fragment(text.head_is) if text.head_is else Expression("NULL"),
        key=spot.column(text.key) if text.key else "",
        attempts=spot.column(text.attempts) if text.attempts and not spot.is_absent(text.attempts) else "NULL",
        slow=text.slow,
    )


def compiled_workers(text: Workers, spot: Spot) -> CompiledWorkers:
    """The workers of one table. Raises ProfileError."""
    return CompiledWorkers(spot, spot.fragment(text.stale))


def count_of(rows: CompiledRows, where: Expression, since: Moment | None, now: float) -> Bound:
    """SELECT queue, count, oldest `since`, over at most :limit rows where `where` holds."""
    moment = since.value.sql if since else "NULL"
    # The time of the minimum, not the minimum of the times: only one value per queue is converted.
    oldest = epoch_sql("min(moment)", since.form) if since else "NULL"
    sql = (
        f"SELECT queue, count(*), {oldest} FROM (SELECT {rows.queue.sql} AS queue, "  # noqa: S608
        f"{moment} AS moment FROM {rows.table} WHERE {where.sql} LIMIT :limit) GROUP BY queue"
    )
    parts = (rows.queue, where, *((since.value,) if since else ()))
    return Bound(
        sql,
        values(parameters_of(parts), now),
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
