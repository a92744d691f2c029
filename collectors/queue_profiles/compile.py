"""A profile, made into statements: fixed frames around its expressions, every value bound, every identifier quoted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from collectors.queue_profiles.expression import Expression, Parameter, expression, time_format, values
from collectors.queue_profiles.schema import Gate, LeaseKind, Profile, ProfileError, Requeue, Rows, State, TimeFormat
from collectors.queue_profiles.schema import Step as StepText
from collectors.queue_profiles.time_formats import Value, epoch_sql, written

# A longer queue name is cut: it is a label value.
QUEUE_NAME_LENGTH = 128


@dataclass(frozen=True, slots=True)
class Bound:
    """A statement and its values. Where the SQL has `:limit`, the caller adds that value."""

    sql: str
    values: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Step:
    """One UPDATE of at most `:limit` rows, which go to `to`."""

    to: Literal["dead", "waiting"]
    update: Bound


@dataclass(frozen=True, slots=True)
class CompiledRows:
    """One row set: its table, the column names in SQL (NULL where the profile has none) and its predicates."""

    state: State
    table: str
    queue: str
    where: Expression
    since: str
    key: str = ""
    attempts: str = "NULL"
    stale: Expression | None = None
    stale_column: str = ""
    stale_format: TimeFormat = "unix_f"

    def lease_rows(self) -> Expression:
        """The predicate of a stale lease: the only place that puts it together."""
        assert self.stale is not None
        return _all_of(self.where, self.stale)


@dataclass(frozen=True, slots=True)
class CompiledStep:
    """One step of requeue: assignments, and which of the stale rows it takes."""

    to: Literal["dead", "waiting"]
    assignments: Expression
    where: Expression


@dataclass(frozen=True, slots=True)
class CompiledRequeue:
    """How stale leases are found and sent back. `older_than`: seconds past stale_since; it only narrows the predicate."""

    gate: Gate
    may_run_twice: bool
    rows: CompiledRows
    compiled_steps: tuple[CompiledStep, ...]
    settings: Mapping[str, float]

    def victims(self, now: float, older_than: float | None = None) -> Bound:
        """SELECT of at most :limit stale leases: key, queue, attempts or NULL, stale since (epoch or NULL)."""
        rows = self.rows
        where = self._narrowed(older_than)
        sql = (
            f"SELECT {rows.key}, {rows.queue}, {rows.attempts}, {epoch_sql(rows.stale_column, rows.stale_format)} "  # noqa: S608
            f"FROM {rows.table} WHERE {where.sql} LIMIT :limit"
        )
        return Bound(sql, self._values(where, now, older_than))

    def steps(self, now: float, older_than: float | None = None) -> tuple[Step, ...]:
        """The UPDATEs, each of at most :limit rows; run them in this order in one transaction.

        No ORDER BY: on an index the search must stop at the limit.
        """
        return tuple(Step(step.to, self._update(step, now, older_than)) for step in self.compiled_steps)

    def _update(self, step: CompiledStep, now: float, older_than: float | None) -> Bound:
        rows, where = self.rows, _all_of(self._narrowed(older_than), step.where)
        sql = (
            f"UPDATE {rows.table} SET {step.assignments.sql} WHERE {rows.key} IN "  # noqa: S608
            f"(SELECT {rows.key} FROM {rows.table} WHERE {where.sql} LIMIT :limit)"
        )
        both = Expression("", where.parameters + step.assignments.parameters)
        return Bound(sql, self._values(both, now, older_than))

    def _narrowed(self, older_than: float | None) -> Expression:
        stale = self.rows.lease_rows()
        if older_than is None:
            return stale
        return _all_of(stale, Expression(f"{self.rows.stale_column} < :older_than"))

    def _values(self, where: Expression, now: float, older_than: float | None) -> dict[str, Value]:
        bound = values(where.parameters, now, self.settings)
        if older_than is not None:
            bound["older_than"] = written(now - older_than, self.rows.stale_format)
        return bound


@dataclass(frozen=True, slots=True)
class CompiledProfile:
    """A profile's statements. `readable`: table -> columns, in lower case, that they may read.

    `indexed_queues`: (table, queue expression) of tables where an index starts with the queue's column.
    """

    name: str
    lease_kind: LeaseKind
    rows: tuple[CompiledRows, ...]
    readable: Mapping[str, frozenset[str]]
    settings: Mapping[str, float]
    requeue: CompiledRequeue | None
    indexed_queues: tuple[tuple[str, str], ...] = ()

    @property
    def states(self) -> tuple[State, ...]:
        """The states that it knows, each once."""
        return tuple(dict.fromkeys(rows.state for rows in self.rows))

    def counts(self, now: float) -> tuple[tuple[State, Bound], ...]:
        """For each row set: SELECT queue, count, oldest `since` (epoch or NULL), over at most :limit rows."""
        return tuple((rows.state, self._count(rows, rows.where, rows.since, now)) for rows in self.rows)

    def stale(self, now: float) -> tuple[Bound, ...]:
        """For each row set with leases: SELECT queue, stale leases, oldest stale_since, over at most :limit rows."""
        return tuple(
            self._count(rows, rows.lease_rows(), _epoch_of_min(rows.stale_column, rows.stale_format), now)
            for rows in self.rows
            if rows.stale is not None
        )

    def queues(self) -> tuple[Bound, ...]:
        """SELECT at most :limit queue names, jumping from name to name on an index; none without such an index."""
        return tuple(
            Bound(
                f"WITH RECURSIVE found(name) AS (SELECT min({column}) FROM {table} UNION ALL "  # noqa: S608
                f"SELECT (SELECT min({column}) FROM {table} WHERE {column} > found.name) FROM found "
                f"WHERE found.name IS NOT NULL) SELECT {_label('name')} FROM found WHERE name IS NOT NULL LIMIT :limit",
                {},
            )
            for table, column in self.indexed_queues
        )

    def _count(self, rows: CompiledRows, where: Expression, oldest: str, now: float) -> Bound:
        column = rows.stale_column if where is not rows.where else rows.since_column
        sql = (
            f"SELECT queue, count(*), {oldest} FROM (SELECT {rows.queue} AS queue, {column} AS moment "  # noqa: S608
            f"FROM {rows.table} WHERE {where.sql} LIMIT :limit) GROUP BY queue"
        )
        return Bound(sql, values(where.parameters, now, self.settings))
