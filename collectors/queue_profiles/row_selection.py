"""Compiles the statements that select and change the rows of a requeue or a purge: fixed frames, restricted access. Pure.

Rows are selected outside the write lock. Each is then changed by its key, if the predicate still holds and the lease and
its holder are those that were seen: a change in between wins, and under the lock there are searches by key only.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from collectors.queue_profiles.authorizer import AccessRules
from collectors.queue_profiles.count_queries import compile_row_set
from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.expression import Expression, bound_values
from collectors.queue_profiles.lease_expiry import StaleRowSet, compile_stale_rows
from collectors.queue_profiles.row_changes import (
    BoundStep,
    CompiledStep,
    RowFilter,
    compile_purge_step,
    compile_requeue_steps,
)
from collectors.queue_profiles.schema import ActionGate, FinishedRowsSpec, RowSetSpec, StepSpec
from collectors.queue_profiles.statement import (
    BoundStatement,
    MomentExpression,
    TableContext,
    join_conditions,
    parameters_of,
)
from collectors.queue_profiles.table_match import TableMatch
from collectors.queue_profiles.time_formats import SqlValue, format_moment

GATES_BY_STRICTNESS: tuple[ActionGate, ...] = ("safe", "guarded", "workers_stopped")


@dataclass(frozen=True, slots=True)
class RowSelection:
    """The rows of one table that an action may change, and its steps. `older_than`: seconds past `since`; it only narrows.

    `where`: the rows. `expired`: the same and the rows that are spared because their `holder` is alive. `dependents`:
    (table, column) of rows of other tables that are deleted with them.
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

    @property
    def table_name(self) -> str:
        """The table's name as the database has it."""
        return self.context.table.name

    def candidate_statement(self, now: float, older_than: float | None = None) -> BoundStatement:
        """SELECT what a preview shows of the row :key: key, queue, attempts or NULL, since when (epoch or NULL), holder."""
        columns = f"{self.key}, {self.queue.sql}, {self.attempts}, {self.since.as_epoch}, {self.holder.sql}"
        sql = f"SELECT {columns} FROM {self.context.quoted_table} WHERE {self.key} = :key AND {self._where_sql(older_than)}"  # noqa: S608
        return self._bind_statement(sql, self.where, now, older_than)

    def count_statement(self, now: float, older_than: float | None = None) -> BoundStatement:
        """SELECT the number of rows, at most :limit."""
        return self._bind_statement(self._count_sql(self._where_sql(older_than)), self.where, now, older_than)

    def spared_count_statement(self, now: float, older_than: float | None = None) -> BoundStatement:
        """SELECT the number of rows, at most :limit, with an expired lease and a live holder."""
        spared = f"{self._narrowed_sql(self.expired, older_than)} AND ({self.where.sql}) IS NOT TRUE"
        return self._bind_statement(self._count_sql(spared), join_conditions(self.expired, self.where), now, older_than)

    def search_statement(self, now: float, older_than: float | None = None) -> BoundStatement:
        """SELECT of at most :limit rows by the best index: key, lease as it is stored, holder, number of the step."""
        where = self._where_sql(older_than)
        sql = f"SELECT {self._selected_columns()} FROM {self.context.quoted_table} WHERE {where} LIMIT :limit"  # noqa: S608
        return self._bind_statement(sql, join_conditions(self.where, *self._step_conditions()), now, older_than)

    def walk_statement(self, now: float, older_than: float | None = None) -> BoundStatement:
        """SELECT the same as `search_statement`, and the rowid, of the rows with rowid above :after up to :upto, in order."""
        row = self._rowid_sql
        sql = (
            f"SELECT {self._selected_columns()}, {row} FROM {self.context.quoted_table} NOT INDEXED "  # noqa: S608
            f"WHERE {row} > :after AND {row} <= :upto AND {self._where_sql(older_than)}"
        )
        bound = self._bind_statement(sql, join_conditions(self.where, *self._step_conditions()), now, older_than)
        return bound._replace(access=self._walk_access)

    def stride_statement(self) -> BoundStatement:
        """SELECT the rowid of the row that is :rows rows after the first above :after; no row when there are fewer."""
        row = self._rowid_sql
        sql = (
            f"SELECT {row} FROM {self.context.quoted_table} NOT INDEXED WHERE {row} > :after "  # noqa: S608
            f"ORDER BY {row} LIMIT 1 OFFSET :rows"
        )
        return BoundStatement(sql, {}, self._walk_access)

    def rowid_span_statement(self) -> BoundStatement:
        """SELECT an upper bound on the number of rows of the table, at no cost."""
        row, table = self._rowid_sql, self.context.quoted_table
        sql = f"SELECT (SELECT max({row}) FROM {table}) - (SELECT min({row}) FROM {table}) + 1"  # noqa: S608
        return BoundStatement(sql, {}, self._walk_access)

    def bind_row_steps(self, now: float, older_than: float | None = None) -> tuple[BoundStep, ...]:
        """The steps by their number, for the row :key if it still has the lease :seen and the holder :holder."""
        rows = RowFilter(f"{self.key} = :key AND {self.since.value.sql} IS :seen AND {self.holder.sql} IS :holder")
        return tuple(self._bind_step(step, rows, now, older_than) for step in self.compiled_steps)

    def bind_range_steps(self, now: float, older_than: float | None = None) -> tuple[BoundStep, ...]:
        """The steps, to be run in this order, for all rows with rowid from :first to :last that match the predicate."""
        rows = RowFilter(f"{self._rowid_sql} BETWEEN :first AND :last", " NOT INDEXED")
        steps = (self._bind_step(step, rows, now, older_than) for step in self.compiled_steps)
        return tuple(replace(step, access=self._with_rowid(step.access)) for step in steps)

    def _bind_step(self, step: CompiledStep, rows: RowFilter, now: float, older_than: float | None) -> BoundStep:
        narrowed = replace(rows, where=f"{rows.where} AND {self._where_sql(older_than)}")
        parts = (self.where, self.since.value, self.holder, step.parameters)
        return BoundStep(
            step.destination,
            tuple(frame(narrowed) for frame in step.frames),
            {**bound_values(parameters_of(parts), now), **self._older_than_value(now, older_than)},
            step.access,
        )

    @property
    def _rowid_sql(self) -> str:
        return f"{self.context.quoted_table}._rowid_"

    @property
    def _walk_access(self) -> AccessRules:
        return self._with_rowid(self.context.access)

    def _with_rowid(self, access: AccessRules) -> AccessRules:
        """Allow the rowid too: SQLite names it `ROWID` in the requests to the authorizer."""
        table = self.table_name.lower()
        columns = access.readable_columns.get(table, frozenset()) | {"rowid"}
        return replace(access, readable_columns={**access.readable_columns, table: columns})

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
    """How stale leases are selected and requeued: one selection for each table."""

    gate: ActionGate
    may_run_twice: bool
    selections: tuple[RowSelection, ...]


@dataclass(frozen=True, slots=True)
class CompiledPurge:
    """How finished rows are selected and deleted. `frees_idempotency_keys`: afterwards the same task may be enqueued again.

    `keyless` and `keyed`: of the same rows those without such a key, and those with one.
    """

    gate: ActionGate
    frees_idempotency_keys: bool
    selections: tuple[RowSelection, ...]
    keyless: tuple[RowSelection, ...]
    keyed: tuple[RowSelection, ...]


def stale_selection(stale: StaleRowSet, steps: list[StepSpec], match: TableMatch) -> RowSelection:
    """Select stale leases, with the steps of requeue. Raises ProfileError."""
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
        compiled_steps=tuple(compile_requeue_steps(rows.context, steps, match)),
    )


def finished_selection(spec: FinishedRowsSpec, context: TableContext, match: TableMatch) -> RowSelection:
    """Select finished rows, with the step that deletes them and their dependents. Raises ProfileError."""
    rows = RowSetSpec.model_validate(
        {"state": "done", "from": spec.table, "where": spec.where, "queue": spec.queue, "key": spec.key, "stale": "1",
         "stale_since": spec.finished}
    )  # fmt: skip
    compiled = compile_row_set(rows, context)
    stale = compile_stale_rows(rows, compiled, match)
    if stale is None:
        raise ProfileError("`finished` is needed")
    dependents = tuple(
        (table.name, dependent.column)
        for dependent in spec.along
        for table in match.tables_named(dependent.table, context.scope.settings)
    )
    step = compile_purge_step(spec.along, context, match)
    return replace(stale_selection(stale, [], match), compiled_steps=(step,), dependents=dependents)


def declares_keys(selection: RowSelection, spec: FinishedRowsSpec) -> bool:
    """Whether the profile says which of these rows hold an idempotency key."""
    return spec.idempotency_key is not None and not selection.context.is_absent(spec.idempotency_key)


def split_by_key(
    selection: RowSelection, spec: FinishedRowsSpec, *, any_declared: bool
) -> tuple[tuple[RowSelection, ...], tuple[RowSelection, ...]]:
    """Split into the rows without an idempotency key and those with one. Raises ProfileError.

    Where no part of the profile declares the key (`any_declared`), every row counts as holding one; where one does, the
    rows of the other parts hold none, and neither do those of a table without the column.
    """
    if not any_declared:
        return (), (selection,)
    name = spec.idempotency_key or ""
    if not declares_keys(selection, spec) or not selection.context.has_column(name):
        return (selection,), ()
    column = selection.context.quoted_column(name)
    return (_with_condition(selection, f"{column} IS NULL"),), (_with_condition(selection, f"{column} IS NOT NULL"),)


def _with_condition(selection: RowSelection, condition: str) -> RowSelection:
    where = Expression(f"{selection.where.sql} AND {condition}", selection.where.parameters)
    return replace(selection, where=where, expired=where)


def strictest_gate(gates: Iterable[ActionGate]) -> ActionGate:
    """The gate that holds for several: the strictest of them."""
    return max(gates, key=GATES_BY_STRICTNESS.index)
