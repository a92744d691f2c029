"""The statements that find and take the rows of a requeue or a purge: fixed frames behind a fence. Pure.

Rows are looked for outside the write lock. Each is then taken by its key, where the predicate holds once more and the
lease and its holder still are those that were seen: what changed meanwhile wins, and under the lock there are searches by
key only.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from collectors.queue_profiles.authorizer import AccessRules
from collectors.queue_profiles.count_queries import compile_row_set
from collectors.queue_profiles.expression import Expression, bound_values
from collectors.queue_profiles.lease_expiry import StaleRowSet, compile_stale_rows
from collectors.queue_profiles.row_changes import (
    BoundStep,
    CompiledStep,
    RowDestination,
    RowFilter,
    compile_purge_step,
    compile_requeue_steps,
)
from collectors.queue_profiles.schema import ActionGate, FinishedRowsSpec, ProfileError, RowSetSpec
from collectors.queue_profiles.schema import StepSpec as StepText
from collectors.queue_profiles.statement import (
    BoundStatement,
    MomentExpression,
    TableContext,
    join_conditions,
    parameters_of,
)
from collectors.queue_profiles.table_match import TableMatch
from collectors.queue_profiles.time_formats import SqlValue, format_moment

__all__ = (
    "BoundStep",
    "CompiledPurge",
    "CompiledRequeue",
    "RowDestination",
    "RowSelection",
    "finished_selection",
    "stale_selection",
    "strictest_gate",
)
GATES_BY_STRICTNESS: tuple[ActionGate, ...] = ("safe", "guarded", "workers_stopped")


@dataclass(frozen=True, slots=True)
class RowSelection:
    """The rows of one table that may be taken, and how. `older_than`: seconds past `since`; it only narrows.

    `past`: the same, with the rows that are spared because their `holder` lives. `along`: (table, column) of rows of
    other tables that go with them.
    """

    context: TableContext
    key: str
    queue: Expression
    attempts: str
    holder: Expression
    where: Expression
    expired: Expression
    since: MomentExpression
    compiled_steps: tuple[CompiledStep, ...]
    dependents: tuple[tuple[str, str], ...] = ()

    def candidate_statement(self, now: float, older_than: float | None = None) -> BoundStatement:
        """For a person: SELECT key, queue, attempts or NULL, since when (epoch or NULL), holder of the row :key."""
        shown = f"{self.key}, {self.queue.sql}, {self.attempts}, {self.since.as_epoch}, {self.holder.sql}"
        sql = (
            f"SELECT {shown} FROM {self.context.quoted_table} WHERE {self.key} = :key AND {self._where_sql(older_than)}"  # noqa: S608
        )
        return self._bind_statement(sql, self.where, now, older_than)

    def count_statement(self, now: float, older_than: float | None = None) -> BoundStatement:
        """SELECT how many rows, at most :limit."""
        return self._bind_statement(self._count_sql(self._where_sql(older_than)), self.where, now, older_than)

    def spared_count_statement(self, now: float, older_than: float | None = None) -> BoundStatement:
        """SELECT how many rows, at most :limit, whose lease ran out and whose holder lives."""
        past = f"{self._narrowed_sql(self.expired, older_than)} AND ({self.where.sql}) IS NOT TRUE"
        return self._bind_statement(self._count_sql(past), join_conditions(self.expired, self.where), now, older_than)

    def search_statement(self, now: float, older_than: float | None = None) -> BoundStatement:
        """SELECT of at most :limit rows by the best index: key, lease as it is stored, holder, number of the step."""
        sql = f"SELECT {self._selected_columns()} FROM {self.context.quoted_table} WHERE {self._where_sql(older_than)} LIMIT :limit"  # noqa: S608
        return self._bind_statement(sql, join_conditions(self.where, *self._step_conditions()), now, older_than)

    def walk_statement(self, now: float, older_than: float | None = None) -> BoundStatement:
        """The same as `search`, and its number, of the rows numbered above :after up to :upto, in that order."""
        row = self._rowid_sql
        sql = (
            f"SELECT {self._selected_columns()}, {row} FROM {self.context.quoted_table} NOT INDEXED "  # noqa: S608
            f"WHERE {row} > :after AND {row} <= :upto AND {self._where_sql(older_than)}"
        )
        bound = self._bind_statement(sql, join_conditions(self.where, *self._step_conditions()), now, older_than)
        return bound._replace(access=self._walk_access)

    def stride_statement(self) -> BoundStatement:
        """SELECT the number of the row that comes :rows rows after the first above :after; nothing when there are fewer."""
        row = self._rowid_sql
        sql = (
            f"SELECT {row} FROM {self.context.quoted_table} NOT INDEXED WHERE {row} > :after "  # noqa: S608
            f"ORDER BY {row} LIMIT 1 OFFSET :rows"
        )
        return BoundStatement(sql, {}, self._walk_access)

    def rowid_span_statement(self) -> BoundStatement:
        """SELECT an upper bound on the number of rows, at no cost."""
        row = self._rowid_sql
        sql = f"SELECT (SELECT max({row}) FROM {self.context.quoted_table}) - (SELECT min({row}) FROM {self.context.quoted_table}) + 1"  # noqa: S608
        return BoundStatement(sql, {}, self._walk_access)

    def bind_row_steps(self, now: float, older_than: float | None = None) -> tuple[BoundStep, ...]:
        """The steps by their number, for one row by :key that still has the lease :seen and the holder :holder."""
        these = f"{self.key} = :key AND {self.since.value.sql} IS :seen AND {self.holder.sql} IS :holder"
        return tuple(self._bind_step(step, RowFilter(these), now, older_than) for step in self.compiled_steps)

    def bind_range_steps(self, now: float, older_than: float | None = None) -> tuple[BoundStep, ...]:
        """The steps, to be run in this order, for all rows numbered from :first to :last: looked for and taken at once."""
        these = RowFilter(f"{self._rowid_sql} BETWEEN :first AND :last", " NOT INDEXED")
        steps = (self._bind_step(step, these, now, older_than) for step in self.compiled_steps)
        return tuple(replace(step, access=self._with_rowid(step.access)) for step in steps)

    def _bind_step(self, step: CompiledStep, which: RowFilter, now: float, older_than: float | None) -> BoundStep:
        meant = replace(which, where=f"{which.where} AND {self._where_sql(older_than)}")
        parts = (self.where, self.since.value, self.holder, step.parameters)
        return BoundStep(
            step.destination,
            tuple(frame(meant) for frame in step.frames),
            {**bound_values(parameters_of(parts), now), **self._older_than_value(now, older_than)},
            step.access,
        )

    @property
    def _rowid_sql(self) -> str:
        return f"{self.context.quoted_table}._rowid_"

    @property
    def _walk_access(self) -> AccessRules:
        return self._with_rowid(self.context.access)

    def _with_rowid(self, fence: AccessRules) -> AccessRules:
        """SQLite asks for a row's number under the name `ROWID`."""
        table = self.context.table.name.lower()
        columns = fence.readable_columns.get(table, frozenset()) | {"rowid"}
        return replace(fence, readable_columns={**fence.readable_columns, table: columns})

    def _selected_columns(self) -> str:
        cases = " ".join(f"WHEN {step.where.sql} THEN {n}" for n, step in enumerate(self.compiled_steps))
        return f"{self.key}, {self.since.value.sql}, {self.holder.sql}, CASE {cases} END"

    def _step_conditions(self) -> Iterable[Expression]:
        return (step.where for step in self.compiled_steps)

    def _count_sql(self, predicate: str) -> str:
        return f"SELECT count(*) FROM (SELECT 1 FROM {self.context.quoted_table} WHERE {predicate} LIMIT :limit)"  # noqa: S608

    def _bind_statement(self, sql: str, where: Expression, now: float, older_than: float | None) -> BoundStatement:
        parts = (self.queue, self.holder, where, self.since.value)
        bound = {**bound_values(parameters_of(parts), now), **self._older_than_value(now, older_than)}
        return BoundStatement(sql, bound, self.context.access, time_format=self.since.time_format, zone=self.since.zone)

    def _where_sql(self, older_than: float | None) -> str:
        return self._narrowed_sql(self.where, older_than)

    def _narrowed_sql(self, where: Expression, older_than: float | None) -> str:
        return where.sql if older_than is None else f"{where.sql} AND {self.since.value.sql} < :older_than"

    def _older_than_value(self, now: float, older_than: float | None) -> dict[str, SqlValue]:
        if older_than is None:
            return {}
        return {"older_than": format_moment(now - older_than, self.since.time_format, self.since.zone)}


@dataclass(frozen=True, slots=True)
class CompiledRequeue:
    """How stale leases are found and sent back: one taking for each table."""

    gate: ActionGate
    may_run_twice: bool
    selections: tuple[RowSelection, ...]


@dataclass(frozen=True, slots=True)
class CompiledPurge:
    """How finished rows are found and deleted. `frees_idempotency_keys`: afterwards a task may be enqueued again.

    `keyless` and `keyed`: of the same rows those that hold no such key, and those that do.
    """

    gate: ActionGate
    frees_idempotency_keys: bool
    selections: tuple[RowSelection, ...]
    keyless: tuple[RowSelection, ...]
    keyed: tuple[RowSelection, ...]


def stale_selection(stale: StaleRowSet, steps: list[StepText], places: TableMatch) -> RowSelection:
    """Stale leases with the steps of requeue. Raises ProfileError."""
    rows = stale.row_set
    return RowSelection(
        context=rows.context,
        key=rows.key,
        queue=rows.queue,
        attempts=rows.attempts,
        holder=stale.holder,
        where=stale.where,
        expired=stale.expired,
        since=stale.since,
        compiled_steps=tuple(compile_requeue_steps(rows.context, steps, places)),
    )


def finished_selection(text: FinishedRowsSpec, spot: TableContext, places: TableMatch) -> RowSelection:
    """Finished rows with what goes along. Raises ProfileError."""
    rows = RowSetSpec.model_validate(
        {"state": "done", "from": text.table, "where": text.where, "queue": text.queue, "key": text.key, "stale": "1",
         "stale_since": text.finished}
    )  # fmt: skip
    compiled = compile_row_set(rows, spot)
    stale = compile_stale_rows(rows, compiled, places)
    if stale is None:
        raise ProfileError("`finished` is needed")
    along = tuple(
        (place.name, one.column) for one in text.along for place in places.tables_named(one.table, spot.scope.settings)
    )
    step = compile_purge_step(text.along, spot, places)
    return replace(stale_selection(stale, [], places), compiled_steps=(step,), dependents=along)


def declares_keys(taking: RowSelection, text: FinishedRowsSpec) -> bool:
    """Whether the profile says which of these rows hold an idempotency key."""
    return text.idempotency_key is not None and not taking.context.is_absent(text.idempotency_key)


def split_by_key(
    taking: RowSelection, text: FinishedRowsSpec, *, told: bool
) -> tuple[tuple[RowSelection, ...], tuple[RowSelection, ...]]:
    """The taking without the rows that hold an idempotency key, and those alone. Raises ProfileError.

    Where no part of the profile tells (`told`), every row counts as holding one; where one does, the others have none,
    and neither has a table that lacks the column.
    """
    if not told:
        return (), (taking,)
    name = text.idempotency_key or ""
    if not declares_keys(taking, text) or not taking.context.has_column(name):
        return (taking,), ()
    column = taking.context.quoted_column(name)
    return (_with_condition(taking, f"{column} IS NULL"),), (_with_condition(taking, f"{column} IS NOT NULL"),)


def _with_condition(taking: RowSelection, condition: str) -> RowSelection:
    where = Expression(f"{taking.where.sql} AND {condition}", taking.where.parameters)
    return replace(taking, where=where, expired=where)


def strictest_gate(gates: Iterable[ActionGate]) -> ActionGate:
    """The gate that holds for several: the strictest of them."""
    return max(gates, key=GATES_BY_STRICTNESS.index)
