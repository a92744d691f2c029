"""The statements that find and take the rows of a requeue or a purge: fixed frames behind a fence. Pure.

Rows are looked for outside the write lock. Each is then taken by its key, where the predicate holds once more and the
lease and its holder still are those that were seen: what changed meanwhile wins, and under the lock there are searches by
key only.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from collectors.queue_profiles.authorizer import Fence
from collectors.queue_profiles.count_queries import compiled_rows
from collectors.queue_profiles.expression import Expression, values
from collectors.queue_profiles.lease_expiry import StaleRows, compiled_stale
from collectors.queue_profiles.row_changes import CompiledStep, Step, To, Which, purge_step, requeue_steps
from collectors.queue_profiles.schema import Finished, Gate, ProfileError, Rows
from collectors.queue_profiles.schema import Step as StepText
from collectors.queue_profiles.statement import Bound, Moment, Spot, all_of, parameters_of
from collectors.queue_profiles.table_match import Places
from collectors.queue_profiles.time_formats import Value, written

__all__ = ("CompiledPurge", "CompiledRequeue", "Step", "Taking", "To", "finished_taking", "stale_taking", "strictest")
GATES: tuple[Gate, ...] = ("safe", "guarded", "workers_stopped")


@dataclass(frozen=True, slots=True)
class Taking:
    """The rows of one table that may be taken, and how. `older_than`: seconds past `since`; it only narrows.

    `past`: the same, with the rows that are spared because their `holder` lives. `along`: (table, column) of rows of
    other tables that go with them.
    """

    spot: Spot
    key: str
    queue: Expression
    attempts: str
    holder: Expression
    where: Expression
    past: Expression
    since: Moment
    compiled_steps: tuple[CompiledStep, ...]
    along: tuple[tuple[str, str], ...] = ()

    def victim(self, now: float, older_than: float | None = None) -> Bound:
        """For a person: SELECT key, queue, attempts or NULL, since when (epoch or NULL), holder of the row :key."""
        shown = f"{self.key}, {self.queue.sql}, {self.attempts}, {self.since.epoch}, {self.holder.sql}"
        sql = f"SELECT {shown} FROM {self.spot.table} WHERE {self.key} = :key AND {self._predicate(older_than)}"  # noqa: S608
        return self._bound(sql, self.where, now, older_than)

    def count(self, now: float, older_than: float | None = None) -> Bound:
        """SELECT how many rows, at most :limit."""
        return self._bound(self._counting(self._predicate(older_than)), self.where, now, older_than)

    def spared(self, now: float, older_than: float | None = None) -> Bound:
        """SELECT how many rows, at most :limit, whose lease ran out and whose holder lives."""
        past = f"{self._narrowed(self.past, older_than)} AND ({self.where.sql}) IS NOT TRUE"
        return self._bound(self._counting(past), all_of(self.past, self.where), now, older_than)

    def search(self, now: float, older_than: float | None = None) -> Bound:
        """SELECT of at most :limit rows by the best index: key, lease as it is stored, holder, number of the step."""
        sql = f"SELECT {self._found()} FROM {self.spot.table} WHERE {self._predicate(older_than)} LIMIT :limit"  # noqa: S608
        return self._bound(sql, all_of(self.where, *self._step_parts()), now, older_than)

    def walk(self, now: float, older_than: float | None = None) -> Bound:
        """The same as `search`, and its number, of the rows numbered above :after up to :upto, in that order."""
        row = self._row
        sql = (
            f"SELECT {self._found()}, {row} FROM {self.spot.table} NOT INDEXED "  # noqa: S608
            f"WHERE {row} > :after AND {row} <= :upto AND {self._predicate(older_than)}"
        )
        bound = self._bound(sql, all_of(self.where, *self._step_parts()), now, older_than)
        return bound._replace(fence=self._walking_fence)

    def stride(self) -> Bound:
        """SELECT the number of the row that comes :rows rows after the first above :after; nothing when there are fewer."""
        row = self._row
        sql = (
            f"SELECT {row} FROM {self.spot.table} NOT INDEXED WHERE {row} > :after "  # noqa: S608
            f"ORDER BY {row} LIMIT 1 OFFSET :rows"
        )
        return Bound(sql, {}, self._walking_fence)

    def width(self) -> Bound:
        """SELECT an upper bound on the number of rows, at no cost."""
        row = self._row
        sql = f"SELECT (SELECT max({row}) FROM {self.spot.table}) - (SELECT min({row}) FROM {self.spot.table}) + 1"  # noqa: S608
        return Bound(sql, {}, self._walking_fence)

    def steps(self, now: float, older_than: float | None = None) -> tuple[Step, ...]:
        """The steps by their number, for one row by :key that still has the lease :seen and the holder :holder."""
        these = f"{self.key} = :key AND {self.since.value.sql} IS :seen AND {self.holder.sql} IS :holder"
        return tuple(self._step(step, Which(these), now, older_than) for step in self.compiled_steps)

    def range_steps(self, now: float, older_than: float | None = None) -> tuple[Step, ...]:
        """The steps, to be run in this order, for all rows numbered from :first to :last: looked for and taken at once."""
        these = Which(f"{self._row} BETWEEN :first AND :last", " NOT INDEXED")
        steps = (self._step(step, these, now, older_than) for step in self.compiled_steps)
        return tuple(replace(step, fence=self._with_numbers(step.fence)) for step in steps)

    def _step(self, step: CompiledStep, which: Which, now: float, older_than: float | None) -> Step:
        meant = replace(which, where=f"{which.where} AND {self._predicate(older_than)}")
        parts = (self.where, self.since.value, self.holder, step.parameters)
        return Step(
            step.to,
            tuple(frame(meant) for frame in step.frames),
            {**values(parameters_of(parts), now), **self._narrowing(now, older_than)},
            step.fence,
        )

    @property
    def _row(self) -> str:
        return f"{self.spot.table}._rowid_"

    @property
    def _walking_fence(self) -> Fence:
        return self._with_numbers(self.spot.fence)

    def _with_numbers(self, fence: Fence) -> Fence:
        """SQLite asks for a row's number under the name `ROWID`."""
        table = self.spot.place.table.lower()
        columns = fence.readable.get(table, frozenset()) | {"rowid"}
        return replace(fence, readable={**fence.readable, table: columns})

    def _found(self) -> str:
        cases = " ".join(f"WHEN {step.where.sql} THEN {n}" for n, step in enumerate(self.compiled_steps))
        return f"{self.key}, {self.since.value.sql}, {self.holder.sql}, CASE {cases} END"

    def _step_parts(self) -> Iterable[Expression]:
        return (step.where for step in self.compiled_steps)

    def _counting(self, predicate: str) -> str:
        return f"SELECT count(*) FROM (SELECT 1 FROM {self.spot.table} WHERE {predicate} LIMIT :limit)"  # noqa: S608

    def _bound(self, sql: str, where: Expression, now: float, older_than: float | None) -> Bound:
        parts = (self.queue, self.holder, where, self.since.value)
        bound = {**values(parameters_of(parts), now), **self._narrowing(now, older_than)}
        return Bound(sql, bound, self.spot.fence, form=self.since.form, zone=self.since.zone)

    def _predicate(self, older_than: float | None) -> str:
        return self._narrowed(self.where, older_than)

    def _narrowed(self, where: Expression, older_than: float | None) -> str:
        return where.sql if older_than is None else f"{where.sql} AND {self.since.value.sql} < :older_than"

    def _narrowing(self, now: float, older_than: float | None) -> dict[str, Value]:
        if older_than is None:
            return {}
        return {"older_than": written(now - older_than, self.since.form, self.since.zone)}


@dataclass(frozen=True, slots=True)
class CompiledRequeue:
    """How stale leases are found and sent back: one taking for each table."""

    gate: Gate
    may_run_twice: bool
    takings: tuple[Taking, ...]


@dataclass(frozen=True, slots=True)
class CompiledPurge:
    """How finished rows are found and deleted. `frees_idempotency_keys`: afterwards a task may be enqueued again.

    `keyless` and `keyed`: of the same rows those that hold no such key, and those that do.
    """

    gate: Gate
    frees_idempotency_keys: bool
    takings: tuple[Taking, ...]
    keyless: tuple[Taking, ...]
    keyed: tuple[Taking, ...]


def stale_taking(stale: StaleRows, steps: list[StepText], places: Places) -> Taking:
    """Stale leases with the steps of requeue. Raises ProfileError."""
    rows = stale.rows
    return Taking(
        spot=rows.spot,
        key=rows.key,
        queue=rows.queue,
        attempts=rows.attempts,
        holder=stale.holder,
        where=stale.where,
        past=stale.past,
        since=stale.since,
        compiled_steps=tuple(requeue_steps(rows.spot, steps, places)),
    )


def finished_taking(text: Finished, spot: Spot, places: Places) -> Taking:
    """Finished rows with what goes along. Raises ProfileError."""
    rows = Rows.model_validate(
        {"state": "done", "from": text.table, "where": text.where, "queue": text.queue, "key": text.key, "stale": "1",
         "stale_since": text.finished}
    )  # fmt: skip
    compiled = compiled_rows(rows, spot)
    stale = compiled_stale(rows, compiled, places)
    if stale is None:
        raise ProfileError("`finished` is needed")
    along = tuple(
        (place.table, one.column) for one in text.along for place in places.of(one.table, spot.scope.settings)
    )
    step = purge_step(text.along, spot, places)
    return replace(stale_taking(stale, [], places), compiled_steps=(step,), along=along)


def tells_keys(taking: Taking, text: Finished) -> bool:
    """Whether the profile says which of these rows hold an idempotency key."""
    return text.idempotency_key is not None and not taking.spot.is_absent(text.idempotency_key)


def by_key(taking: Taking, text: Finished, *, told: bool) -> tuple[tuple[Taking, ...], tuple[Taking, ...]]:
    """The taking without the rows that hold an idempotency key, and those alone. Raises ProfileError.

    Where no part of the profile tells (`told`), every row counts as holding one; where one does, the others have none,
    and neither has a table that lacks the column.
    """
    if not told:
        return (), (taking,)
    name = text.idempotency_key or ""
    if not tells_keys(taking, text) or not taking.spot.has(name):
        return (taking,), ()
    column = taking.spot.column(name)
    return (_narrowed(taking, f"{column} IS NULL"),), (_narrowed(taking, f"{column} IS NOT NULL"),)


def _narrowed(taking: Taking, condition: str) -> Taking:
    where = Expression(f"{taking.where.sql} AND {condition}", taking.where.parameters)
    return replace(taking, where=where, past=where)


def strictest(gates: Iterable[Gate]) -> Gate:
    """The gate that holds for several: the strictest of them."""
    return max(gates, key=GATES.index)
