"""The statements that requeue or purge rows: fixed frames, each for one row by its key, behind a fence. Pure.

Victims are looked for first, outside the write lock where the caller likes; every statement then holds the predicate
against the row again, so what changed meanwhile wins, and the write lock is held for searches by key only.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from collectors.queue_profiles.counting import StaleRows, compiled_rows, compiled_stale
from collectors.queue_profiles.expression import Expression, values
from collectors.queue_profiles.fence import Fence
from collectors.queue_profiles.place import Places
from collectors.queue_profiles.schema import Along, Finished, Gate, Insert, ProfileError, Rows
from collectors.queue_profiles.schema import Step as StepText
from collectors.queue_profiles.statement import Bound, Moment, Spot, all_of, parameters_of
from collectors.queue_profiles.time_formats import Value, written

GATES: tuple[Gate, ...] = ("safe", "guarded", "workers_stopped")
To = Literal["dead", "waiting", "gone"]


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one row: `statements` in this order, each with `:key`; the last one changes the row itself.

    All run in one transaction, within `fence.changing(database, step.fence)`. The row is taken when the last one
    changed a row.
    """

    to: To
    statements: tuple[str, ...]
    values: dict[str, Value]
    fence: Fence


@dataclass(frozen=True, slots=True)
class CompiledStep:
    """One step before its values are known; `parameters` are those of `statements`, the predicate's apart."""

    to: To
    statements: tuple[str, ...]
    parameters: Expression
    fence: Fence


@dataclass(frozen=True, slots=True)
class Taking:
    """The rows of one table that may be taken, and how. `older_than`: seconds past `since`; it only narrows."""

    spot: Spot
    key: str
    queue: Expression
    attempts: str
    where: Expression
    since: Moment
    compiled_steps: tuple[CompiledStep, ...]

    def victims(self, now: float, older_than: float | None = None) -> Bound:
        """SELECT of at most :limit rows: key, queue, attempts or NULL, since when (epoch or NULL)."""
        sql = (
            f"SELECT {self.key}, {self.queue.sql}, {self.attempts}, {self.since.epoch} "  # noqa: S608
            f"FROM {self.spot.table} WHERE {self._predicate(older_than)} LIMIT :limit"
        )
        parts = (self.queue, self.where, self.since.value)
        bound = {**values(parameters_of(parts), now), **self._narrowing(now, older_than)}
        return Bound(sql, bound, self.spot.fence, form=self.since.form, zone=self.since.zone)

    def steps(self, now: float, older_than: float | None = None) -> tuple[Step, ...]:
        """The steps for one victim, to be tried in this order until one takes it."""
        return tuple(self._step(step, now, older_than) for step in self.compiled_steps)

    def _step(self, step: CompiledStep, now: float, older_than: float | None) -> Step:
        predicate = self._predicate(older_than)
        parts = (self.where, self.since.value, step.parameters)
        return Step(
            step.to,
            tuple(statement.replace(_PREDICATE, predicate) for statement in step.statements),
            {**values(parameters_of(parts), now), **self._narrowing(now, older_than)},
            step.fence,
        )

    def _predicate(self, older_than: float | None) -> str:
        return self.where.sql if older_than is None else f"{self.where.sql} AND {self.since.value.sql} < :older_than"

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
    """How finished rows are found and deleted. `frees_idempotency_keys`: afterwards a task may be enqueued again."""

    gate: Gate
    frees_idempotency_keys: bool
    takings: tuple[Taking, ...]


# Stands in a statement for the predicate, which has its final form only when `older_than` is known. No profile can
# write it: a zero byte is refused in expressions.
_PREDICATE = "\x00"


def stale_taking(stale: StaleRows, steps: list[StepText], places: Places) -> Taking:
    """Stale leases with the steps of requeue. Raises ProfileError."""
    rows = stale.rows
    return Taking(
        spot=rows.spot,
        key=rows.key,
        queue=rows.queue,
        attempts=rows.attempts,
        where=stale.where,
        since=stale.since,
        compiled_steps=tuple(_requeue_steps(rows.spot, rows.key, steps, places)),
    )


def finished_taking(text: Finished, spot: Spot, places: Places) -> Taking:
    """Finished rows with what goes along. Raises ProfileError."""
    rows = Rows.model_validate(
        {"state": "done", "from": text.table, "where": text.where, "queue": text.queue, "key": text.key, "stale": "1",
         "stale_since": text.finished}
    )  # fmt: skip
    compiled = compiled_rows(rows, spot)
    stale = compiled_stale(rows, compiled)
    if stale is None:
        raise ProfileError("`finished` is needed")
    children = [_along(one, spot, compiled.key, place) for one in text.along for place in _places(one, spot, places)]
    own = f"DELETE FROM {spot.table} WHERE {compiled.key} = :key AND {_PREDICATE}"  # noqa: S608
    fence = Fence(
        places.readable, deletes=frozenset({spot.place.table.lower(), *(table.lower() for table, _ in children)})
    )
    step = CompiledStep("gone", (*(sql for _, sql in children), own), Expression(""), fence)
    return Taking(spot, compiled.key, compiled.queue, "NULL", stale.where, stale.since, (step,))


def strictest(gates: Iterable[Gate]) -> Gate:
    """The gate that holds for several: the strictest of them."""
    return max(gates, key=GATES.index)


def _requeue_steps(spot: Spot, key: str, texts: list[StepText], places: Places) -> Iterable[CompiledStep]:
    taken: list[Expression] = []
    for text in texts:
        own = spot.fragment(text.where or "1")
        # What an earlier step takes is not for this one.
        left = (Expression(f"{earlier.sql} IS NOT TRUE", earlier.parameters) for earlier in taken)
        yield _requeue_step(spot, key, text, all_of(own, *left), places)
        taken.append(own)


def _requeue_step(spot: Spot, key: str, text: StepText, where: Expression, places: Places) -> CompiledStep:
    these = f"WHERE {key} = :key AND {_PREDICATE} AND {where.sql}"
    statements: list[str] = []
    parts = [where]
    inserts: frozenset[str] = frozenset()
    if text.insert is not None:
        insert, values_of_row, inserts = _insert(text.insert, spot, these, places)
        statements.append(insert)
        parts.append(values_of_row)
    assigned = {name: value for name, value in (text.set or {}).items() if not spot.is_absent(name)}
    pairs = {spot.column(name): spot.fragment(value) for name, value in assigned.items()}
    if pairs:
        assignments = ", ".join(f"{column} = {value.sql}" for column, value in pairs.items())
        statements.append(f"UPDATE {spot.table} SET {assignments} {these}")  # noqa: S608
    else:
        statements.append(f"DELETE FROM {spot.table} {these}")  # noqa: S608
    own = spot.place.table.lower()
    fence = Fence(
        places.readable,
        updates={own: frozenset(column.strip('"').lower() for column in pairs)},
        inserts=inserts,
        deletes=frozenset() if pairs else frozenset({own}),
    )
    parameters = Expression("", parameters_of((*parts, *pairs.values())))
    return CompiledStep(text.to, tuple(statements), parameters, fence)


def _insert(text: Insert, spot: Spot, these: str, places: Places) -> tuple[str, Expression, frozenset[str]]:
    found = places.of(text.into, spot.scope.settings)
    if len(found) != 1:
        raise ProfileError(f"insert into {text.into!r}: there must be exactly one such table")
    other = Spot(found[0], spot.scope, spot.fence)
    pairs = {other.column(name): spot.fragment(value) for name, value in text.values.items()}
    verb = "INSERT OR IGNORE" if text.or_ignore else "INSERT"
    row = ", ".join(value.sql for value in pairs.values())
    sql = f"{verb} INTO {other.table} ({', '.join(pairs)}) SELECT {row} FROM {spot.table} {these}"  # noqa: S608
    return sql, Expression("", parameters_of(pairs.values())), frozenset({found[0].table.lower()})


def _places(text: Along, spot: Spot, places: Places) -> Iterable[Spot]:
    return (Spot(place, spot.scope, spot.fence) for place in places.of(text.table, spot.scope.settings))


def _along(text: Along, spot: Spot, key: str, other: Spot) -> tuple[str, str]:
    sql = (
        f"DELETE FROM {other.table} WHERE {other.column(text.column)} IN (SELECT {spot.column(text.of)} "  # noqa: S608
        f"FROM {spot.table} WHERE {key} = :key AND {_PREDICATE})"
    )
    return other.place.table, sql
