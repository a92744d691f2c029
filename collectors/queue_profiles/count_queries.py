"""Compiles the statements that count a row set: fixed frames around the profile's expressions. Pure."""

from dataclasses import dataclass
from functools import cached_property

from collectors.queue_profiles.authorizer import AccessRules
from collectors.queue_profiles.expression import Expression
from collectors.queue_profiles.schema import RowSetSpec, TaskState, WorkersSpec
from collectors.queue_profiles.statement import (
    BoundStatement,
    MomentExpression,
    StatementTemplate,
    TableContext,
    parameters_of,
)
from collectors.queue_profiles.time_formats import epoch_sql

_SEQUENCE_ACCESS = AccessRules({"sqlite_sequence": frozenset({"name", "seq"})})
# At most this many distinct queues are looked up by name.
QUEUE_BOUND = 1000
NO_IDENTITY = Expression("NULL")
# The names of `_distinct_names_sql`, and the queue without a name.
_BOUNDED_NAMES = f"(SELECT name FROM distinct_names WHERE name IS NOT NULL UNION ALL SELECT NULL LIMIT {QUEUE_BOUND})"  # noqa: S608


@dataclass(frozen=True)
class CompiledRowSet:
    """One row set on one table. Columns are SQL; `queue_column` is empty when the queue is an expression or missing.

    `by_queue`: an index starts with the queue and has all columns of `where`, so each queue is counted on it alone.
    """

    state: TaskState
    context: TableContext
    queue: Expression
    queue_column: str
    where: Expression
    since: MomentExpression | None
    head: str
    head_identity: Expression
    key: str
    attempts: str
    slow: bool
    by_queue: bool = False

    @property
    def quoted_table(self) -> str:
        """The table's name as SQL."""
        return self.context.quoted_table

    @property
    def table_name(self) -> str:
        """The table's name as the database has it."""
        return self.context.table.name

    @property
    def access(self) -> AccessRules:
        """What its statements may read."""
        return self.context.access

    def count_statement(self, now: float) -> BoundStatement:
        """SELECT queue, count, oldest `since` (or NULL), over at most :limit rows."""
        return self.queue_count_statement() if self.by_queue else self._count_template.bind_at(now)

    def queue_count_statement(self) -> BoundStatement:
        """SELECT queue, count, NULL, each queue over at most :limit rows, for a row set without times in its predicate."""
        names = _distinct_names_sql(self.quoted_table, self.queue_column)
        counted = f"{self.context.label_sql('name')}, {self.row_count_sql('listed')}, NULL"
        sql = f"{names} SELECT {counted} FROM {_BOUNDED_NAMES} AS listed"  # noqa: S608
        return BoundStatement(sql, {}, self.access, per_queue=True)

    def row_count_sql(self, queue: str) -> str:
        """SQL for the number of rows in the queue that is named by the column `name` of `queue`, at most :limit."""
        return (
            f"(SELECT count(*) FROM (SELECT 1 FROM {self.quoted_table} WHERE {self.queue_column} IS {queue}.name AND "  # noqa: S608
            f"{self.where.sql} LIMIT :limit))"
        )

    def head_statement(self, now: float) -> BoundStatement | None:
        """SELECT queue, smallest `head`, identity of its row, over at most :limit rows; None without a `head`.

        With a single min() SQLite takes the bare column from the row of the minimum
        (https://sqlite.org/lang_select.html#bareagg).
        """
        return self._head_template.bind_at(now) if self.head else None

    def count_and_head_statement(self, now: float) -> BoundStatement | None:
        """SELECT queue, count, oldest `since`, smallest `head`, its identity; None where that needs two statements."""
        if not self.head or self.by_queue or (self.since is not None and self.head_identity != NO_IDENTITY):
            return None
        return self._count_and_head_template.bind_at(now)

    @cached_property
    def _count_template(self) -> StatementTemplate:
        return count_template(self, self.where, self.since)

    @cached_property
    def _head_template(self) -> StatementTemplate:
        sql = (
            f"SELECT queue, min(head), identity FROM (SELECT {self.queue.sql} AS queue, {self.head} AS head, "  # noqa: S608
            f"{self.head_identity.sql} AS identity FROM {self.quoted_table} WHERE {self.where.sql} LIMIT :limit) GROUP BY queue"
        )
        return StatementTemplate(sql, parameters_of((self.queue, self.head_identity, self.where)), self.access)

    @cached_property
    def _count_and_head_template(self) -> StatementTemplate:
        return count_template(self, self.where, self.since, with_head=True)


@dataclass(frozen=True)
class IndexedQueues:
    """The queues that an index names at no cost, and the row sets that are counted on that index alone (`by_queue`).

    `row_set`: one row set of the table; `counted`: the counted ones, each with its position in the profile.
    """

    row_set: CompiledRowSet
    counted: tuple[tuple[int, CompiledRowSet], ...] = ()

    def names_statement(self) -> BoundStatement:
        """SELECT at most :limit queue names, one step each on an index that starts with the queue."""
        rows = self.row_set
        names = _distinct_names_sql(rows.quoted_table, rows.queue_column)
        sql = f"{names} SELECT {rows.context.label_sql('name')} FROM distinct_names WHERE name IS NOT NULL LIMIT :limit"  # noqa: S608
        return BoundStatement(sql, {}, rows.access)

    def names_and_counts_statement(self) -> BoundStatement:
        """SELECT whether it is a name, queue, count of each of `counted`; each count over at most :limit rows."""
        return self._names_and_counts_template.bind_at(0.0)

    @cached_property
    def _names_and_counts_template(self) -> StatementTemplate:
        rows = self.row_set
        names = _distinct_names_sql(rows.quoted_table, rows.queue_column)
        numbers = "".join(f", {counted.row_count_sql('listed')}" for _, counted in self.counted)
        columns = f"name IS NOT NULL, {rows.context.label_sql('name')}{numbers}"
        sql = f"{names} SELECT {columns} FROM {_BOUNDED_NAMES} AS listed"  # noqa: S608
        return StatementTemplate(sql, (), rows.access, per_queue=True)


@dataclass(frozen=True)
class CompiledWorkers:
    """The statement that counts the workers of one table."""

    context: TableContext
    stale: Expression

    def count_statement(self, now: float) -> BoundStatement:
        """SELECT workers, stale ones, over at most :limit rows."""
        return self._count_template.bind_at(now)

    @cached_property
    def _count_template(self) -> StatementTemplate:
        sql = (
            f"SELECT count(*), coalesce(sum(gone), 0) FROM (SELECT {self.stale.sql} IS TRUE AS gone "  # noqa: S608
            f"FROM {self.context.quoted_table} LIMIT :limit)"
        )
        return StatementTemplate(sql, self.stale.parameters, self.context.access)


@dataclass(frozen=True, slots=True)
class InsertSequence:
    """A table whose AUTOINCREMENT numbers every row that it ever had (https://sqlite.org/autoinc.html)."""

    table: str

    def last_number_statement(self) -> BoundStatement:
        """SELECT the last number that was given; no row when the table never had one."""
        return BoundStatement(
            "SELECT seq FROM sqlite_sequence WHERE name = :name", {"name": self.table}, _SEQUENCE_ACCESS
        )


def compile_row_set(spec: RowSetSpec, context: TableContext) -> CompiledRowSet:
    """Compile a row set on one table. Raises ProfileError."""
    head = "" if spec.head is None or context.is_absent(spec.head) else context.quoted_column(spec.head)
    return CompiledRowSet(
        state=spec.state,
        context=context,
        queue=context.queue_label(spec.queue),
        queue_column=context.find_queue_column(spec.queue),
        where=context.compile_fragment(spec.where),
        since=None if spec.since is None or context.is_absent(spec.since) else context.compile_moment(spec.since),
        head=head,
        head_identity=context.compile_fragment(spec.head_is) if spec.head_is else NO_IDENTITY,
        key=context.quoted_column(spec.key) if spec.key else "",
        attempts=context.quoted_column(spec.attempts)
        if spec.attempts and not context.is_absent(spec.attempts)
        else "NULL",
        slow=spec.slow,
    )


def compile_workers(spec: WorkersSpec, context: TableContext) -> CompiledWorkers:
    """Compile the count of the workers of one table. Raises ProfileError."""
    return CompiledWorkers(context, context.compile_fragment(spec.stale))


def count_template(
    rows: CompiledRowSet, where: Expression, since: MomentExpression | None, *, with_head: bool = False
) -> StatementTemplate:
    """SELECT queue, count, oldest `since`, over at most :limit rows where `where` holds; with the smallest head if asked."""
    moment = since.value.sql if since else "NULL"
    # The time of the minimum, not the minimum of the times: only one value per queue is converted.
    oldest = epoch_sql("min(moment)", since.time_format) if since else "NULL"
    outer, inner = "", ""
    if with_head:
        outer, inner = ", min(head), identity", f", {rows.head} AS head, {rows.head_identity.sql} AS identity"
    sql = (
        f"SELECT queue, count(*), {oldest}{outer} FROM (SELECT {rows.queue.sql} AS queue, {moment} AS moment{inner} "  # noqa: S608
        f"FROM {rows.quoted_table} WHERE {where.sql} LIMIT :limit) GROUP BY queue"
    )
    parts = (rows.queue, where, *((since.value,) if since else ()), *((rows.head_identity,) if with_head else ()))
    return StatementTemplate(
        sql,
        parameters_of(parts),
        rows.access,
        time_format=since.time_format if since else None,
        zone=since.zone if since else "",
    )


def _distinct_names_sql(table: str, column: str) -> str:
    """WITH clause `distinct_names`: the distinct values of a column, each by one step on an index that starts with it."""
    return (
        f"WITH RECURSIVE distinct_names(name) AS (SELECT min({column}) FROM {table} UNION ALL "  # noqa: S608
        f"SELECT (SELECT min({column}) FROM {table} WHERE {column} > distinct_names.name) FROM distinct_names "
        f"WHERE distinct_names.name IS NOT NULL)"
    )
