"""A profile, made into statements: fixed frames around its expressions, every value bound, every identifier quoted.

Pure. Statements read only what the profile's `detect` names; `fence.reading` holds them to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from collectors.queue_profiles.expression import Expression, expression, time_format, values
from collectors.queue_profiles.schema import (
    Gate,
    LeaseKind,
    Profile,
    ProfileError,
    Requeue,
    Rows,
    State,
    TimeFormat,
)
from collectors.queue_profiles.schema import Step as StepText
from collectors.queue_profiles.time_formats import Value, epoch_sql, is_time_sql, written

# A longer queue name is cut: it is a label value.
QUEUE_NAME_LENGTH = 128
# At most this many distinct queues are looked up by name.
QUEUE_BOUND = 1000


@dataclass(frozen=True, slots=True)
class Bound:
    """A statement and its values. Where the SQL has `:limit`, the caller adds that value.

    `per_queue`: the limit bounds each queue for itself, not all of them together.
    """

    sql: str
    values: dict[str, Value]
    per_queue: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One UPDATE of at most `:limit` rows, which go to `to`."""

    to: Literal["dead", "waiting"]
    update: Bound


@dataclass(frozen=True, slots=True)
class Moment:
    """A column that holds a time, quoted, and its format."""

    column: str
    form: TimeFormat


@dataclass(frozen=True, slots=True)
class CompiledRows:
    """One row set. Columns are quoted SQL; `queue_column` is empty when the queue is an expression or missing.

    `by_queue`: an index starts with the queue and holds all that `where` needs, so each queue is counted on it alone.
    """

    state: State
    table: str
    queue: str
    queue_column: str
    where: Expression
    since: Moment | None
    key: str
    attempts: str
    by_queue: bool = False

    def count_by_queue(self) -> Bound:
        """SELECT queue, count, NULL, each queue over at most :limit rows, where neither times nor moments matter."""
        sql = (
            f"{_found(self.table, self.queue_column)} SELECT {_label('name')}, number, NULL FROM (SELECT name, "  # noqa: S608
            f"(SELECT count(*) FROM (SELECT 1 FROM {self.table} WHERE {self.queue_column} IS one.name AND "
            f"{self.where.sql} LIMIT :limit)) AS number FROM (SELECT name FROM found WHERE name IS NOT NULL "
            f"UNION ALL SELECT NULL LIMIT {QUEUE_BOUND}) AS one) WHERE number > 0"
        )
        return Bound(sql, {}, per_queue=True)


@dataclass(frozen=True, slots=True)
class StaleRows:
    """The stale leases of one row set: the only place that says when a lease is stale."""

    rows: CompiledRows
    where: Expression
    since: Moment


@dataclass(frozen=True, slots=True)
class CompiledStep:
    """One step of requeue: assignments, and which of the stale rows it takes."""

    to: Literal["dead", "waiting"]
    assignments: Expression
    where: Expression


@dataclass(frozen=True, slots=True)
class CompiledRequeue:
    """How stale leases are found and sent back. `older_than`: seconds past stale_since; it only narrows."""

    gate: Gate
    may_run_twice: bool
    stale: StaleRows
    compiled_steps: tuple[CompiledStep, ...]
    settings: Mapping[str, float]

    def victims(self, now: float, older_than: float | None = None) -> Bound:
        """SELECT of at most :limit stale leases: key, queue, attempts or NULL, stale since (epoch or NULL)."""
        rows, since = self.stale.rows, self.stale.since
        where = self._narrowed(older_than)
        sql = (
            f"SELECT {rows.key}, {rows.queue}, {rows.attempts}, {epoch_sql(since.column, since.form)} "  # noqa: S608
            f"FROM {rows.table} WHERE {where.sql} LIMIT :limit"
        )
        return Bound(sql, self._values(where, now, older_than))

    def steps(self, now: float, older_than: float | None = None) -> tuple[Step, ...]:
        """The UPDATEs, each of at most :limit rows; run them in this order in one transaction.

        No ORDER BY: on an index the search must stop at the limit.
        """
        return tuple(Step(step.to, self._update(step, now, older_than)) for step in self.compiled_steps)

    def _update(self, step: CompiledStep, now: float, older_than: float | None) -> Bound:
        rows = self.stale.rows
        where = _all_of(self._narrowed(older_than), step.where)
        sql = (
            f"UPDATE {rows.table} SET {step.assignments.sql} WHERE {rows.key} IN "  # noqa: S608
            f"(SELECT {rows.key} FROM {rows.table} WHERE {where.sql} LIMIT :limit)"
        )
        both = Expression("", where.parameters + step.assignments.parameters)
        return Bound(sql, self._values(both, now, older_than))

    def _narrowed(self, older_than: float | None) -> Expression:
        if older_than is None:
            return self.stale.where
        return _all_of(self.stale.where, Expression(f"{self.stale.since.column} < :older_than"))

    def _values(self, where: Expression, now: float, older_than: float | None) -> dict[str, Value]:
        bound = values(where.parameters, now, self.settings)
        if older_than is not None:
            bound["older_than"] = written(now - older_than, self.stale.since.form)
        return bound


@dataclass(frozen=True, slots=True)
class CompiledProfile:
    """A profile's statements. `readable`: table -> columns that they may read, all in lower case.

    `indexed_queues`: (table, column), quoted, where an index starts with the column that names the queue.
    """

    name: str
    lease_kind: LeaseKind
    rows: tuple[CompiledRows, ...]
    stale_rows: tuple[StaleRows, ...]
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
        return tuple(self._count(stale.rows, stale.where, stale.since, now) for stale in self.stale_rows)

    def queues(self) -> tuple[Bound, ...]:
        """SELECT at most :limit queue names, jumping from name to name on an index; nothing without such an index."""
        return tuple(Bound(_queue_names(table, column), {}) for table, column in self.indexed_queues)

    def _count(self, rows: CompiledRows, where: Expression, since: Moment | None, now: float) -> Bound:
        if rows.by_queue and where is rows.where:
            return rows.count_by_queue()
        column = since.column if since else "NULL"
        oldest = epoch_sql("min(moment)", since.form) if since else "NULL"
        sql = (
            f"SELECT queue, count(*), {oldest} FROM (SELECT {rows.queue} AS queue, {column} AS moment "  # noqa: S608
            f"FROM {rows.table} WHERE {where.sql} LIMIT :limit) GROUP BY queue"
        )
        return Bound(sql, values(where.parameters, now, self.settings))


def compiled(profile: Profile, settings: Mapping[str, float]) -> CompiledProfile:
    """Compile a profile with the operator's settings. Raises ProfileError that names the profile and the place."""
    try:
        return _compiled(profile, settings)
    except ProfileError as error:
        raise ProfileError(f"profile {profile.name}: {error}") from error


def _compiled(profile: Profile, chosen: Mapping[str, float]) -> CompiledProfile:
    settings = _settings(profile, chosen)
    rows = tuple(_rows(profile, one, settings) for one in profile.rows)
    judged = (_stale(profile, text, one, settings) for text, one in zip(profile.rows, rows, strict=True))
    stale = tuple(one for one in judged if one is not None)
    requeue = profile.actions.requeue
    return CompiledProfile(
        name=profile.name,
        lease_kind=profile.lease,
        rows=rows,
        stale_rows=stale,
        readable={table.lower(): frozenset(map(str.lower, names)) for table, names in profile.detect.items()},
        settings=settings,
        requeue=None if requeue is None else _requeue(profile, requeue, stale[0], settings),
    )


def _settings(profile: Profile, chosen: Mapping[str, float]) -> dict[str, float]:
    for name, value in chosen.items():
        if name not in profile.settings:
            known = ", ".join(profile.settings) or "none"
            raise ProfileError(f"settings.{name}: no such setting; known: {known}")
        if not 0 <= value < float("inf"):
            raise ProfileError(f"settings.{name}: {value!r} is not a number of seconds")
    return {name: float(chosen.get(name, setting.default)) for name, setting in profile.settings.items()}


def _rows(profile: Profile, text: Rows, settings: Mapping[str, float]) -> CompiledRows:
    columns = _columns(profile, text.table)
    column = quoted(text.queue) if text.queue is not None and text.queue.lower() in columns else ""
    queue = column or ("''" if text.queue is None else _fragment(profile, text.queue, settings).sql)
    return CompiledRows(
        state=text.state,
        table=quoted(text.table),
        queue=_label(queue),
        queue_column=column,
        where=_bracketed(_fragment(profile, text.where, settings)),
        since=_moment(profile, columns, text.since) if text.since else None,
        key=_column(columns, text.key) if text.key else "",
        attempts=_column(columns, text.attempts) if text.attempts else "NULL",
    )


def _stale(profile: Profile, text: Rows, rows: CompiledRows, settings: Mapping[str, float]) -> StaleRows | None:
    if text.stale is None or text.stale_since is None:
        return None
    since = _moment(profile, _columns(profile, text.table), text.stale_since)
    readable = Expression(is_time_sql(since.column, since.form))
    where = _all_of(rows.where, _bracketed(_fragment(profile, text.stale, settings)), readable)
    return StaleRows(rows, where, since)


def _requeue(profile: Profile, requeue: Requeue, stale: StaleRows, settings: Mapping[str, float]) -> CompiledRequeue:
    steps: list[CompiledStep] = []
    taken: list[Expression] = []
    columns = next(_columns(profile, rows.table) for rows in profile.rows if rows.stale)
    for step in requeue.steps:
        own = _bracketed(_fragment(profile, step.where or "1", settings))
        # What an earlier step takes is not for this one, also when the earlier one stopped at its limit.
        left = (Expression(f"{earlier.sql} IS NOT TRUE", earlier.parameters) for earlier in taken)
        steps.append(CompiledStep(step.to, _assignments(profile, step, columns, settings), _all_of(own, *left)))
        taken.append(own)
    return CompiledRequeue(requeue.when, requeue.may_run_twice, stale, tuple(steps), settings)


def _assignments(
    profile: Profile, step: StepText, columns: frozenset[str], settings: Mapping[str, float]
) -> Expression:
    pairs = [(_column(columns, name), _fragment(profile, text, settings)) for name, text in step.set.items()]
    sql = ", ".join(f"{column} = ({value.sql})" for column, value in pairs)
    return Expression(sql, tuple(parameter for _, value in pairs for parameter in value.parameters))


def _fragment(profile: Profile, text: str, settings: Mapping[str, float]) -> Expression:
    return expression(text, settings, profile.time)


def _bracketed(one: Expression) -> Expression:
    return Expression(f"({one.sql})", one.parameters)


def _all_of(*parts: Expression) -> Expression:
    parameters = tuple(parameter for part in parts for parameter in part.parameters)
    return Expression(" AND ".join(part.sql for part in parts), parameters)


def _columns(profile: Profile, table: str) -> frozenset[str]:
    """The declared columns of a table, in lower case, as SQLite compares names."""
    for name, columns in profile.detect.items():
        if name.lower() == table.lower():
            return frozenset(map(str.lower, columns))
    raise ProfileError(f"table {table!r} is not named in `detect`")


def _column(columns: frozenset[str], name: str) -> str:
    if name.lower() not in columns:
        raise ProfileError(f"column {name!r} is not named in `detect`")
    return quoted(name)


def _moment(profile: Profile, columns: frozenset[str], text: str) -> Moment:
    name, _, form = text.partition(":")
    return Moment(_column(columns, name), time_format(form, text) if form else profile.time)


def _label(queue: str) -> str:
    return f"substr(CAST(coalesce({queue}, '') AS TEXT), 1, {QUEUE_NAME_LENGTH})"


def _queue_names(table: str, column: str) -> str:
    return f"{_found(table, column)} SELECT {_label('name')} FROM found WHERE name IS NOT NULL LIMIT :limit"  # noqa: S608


def _found(table: str, column: str) -> str:
    """The distinct values of a column, each found by one step on an index that starts with it."""
    return (
        f"WITH RECURSIVE found(name) AS (SELECT min({column}) FROM {table} UNION ALL "  # noqa: S608
        f"SELECT (SELECT min({column}) FROM {table} WHERE {column} > found.name) FROM found "
        f"WHERE found.name IS NOT NULL)"
    )


def quoted(name: str) -> str:
    """An identifier as SQL (https://sqlite.org/lang_keywords.html)."""
    return '"' + name.replace('"', '""') + '"'
