"""Compiles a profile for the tables of one database into statements: fixed frames, bound values, quoted names.

Pure. Statements access only what the profile declares: each carries the access rules that enforce this.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from collectors.queue_profiles.authorizer import AccessRules
from collectors.queue_profiles.count_queries import (
    CompiledRowSet,
    CompiledWorkers,
    IndexedQueues,
    InsertSequence,
    compile_row_set,
    compile_workers,
)
from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.expression import ExpressionScope, fill_name, parse_time_format
from collectors.queue_profiles.lease_expiry import StaleRowSet, compile_stale_rows
from collectors.queue_profiles.row_selection import (
    CompiledPurge,
    CompiledRequeue,
    declares_keys,
    finished_selection,
    split_by_key,
    stale_selection,
    strictest_gate,
)
from collectors.queue_profiles.schema import (
    FinishedRowsSpec,
    PurgeSpec,
    QueueProfile,
    RequeueSpec,
    RowSetSpec,
    StepSpec,
    TaskState,
    WorkersSpec,
)
from collectors.queue_profiles.settings import ProfileSettings, SettingValue
from collectors.queue_profiles.statement import BoundStatement, TableContext
from collectors.queue_profiles.table_match import TableMatch

Part = TypeVar("Part", RowSetSpec, WorkersSpec, FinishedRowsSpec)


@dataclass(frozen=True, slots=True)
class CompiledProfile:
    """The statements of the profile of one file, or of several profiles joined.

    `rowids_unused`: names in lower case of tables whose rows a VACUUM may renumber; `statistics`: ANALYZE may add its table.
    `tables`: the names in lower case of all tables that the profile names: the rows of a queue come and go.
    """

    name: str
    lease_kind: str
    rows: tuple[CompiledRowSet, ...] = ()
    stale_rows: tuple[StaleRowSet, ...] = ()
    worker_tables: tuple[CompiledWorkers, ...] = ()
    sequences: tuple[InsertSequence, ...] = ()
    settings: Mapping[str, SettingValue] = field(default_factory=dict)
    requeue: CompiledRequeue | None = None
    purge: CompiledPurge | None = None
    indexed_queues: tuple[IndexedQueues, ...] = ()
    rowids_unused: frozenset[str] = frozenset()
    statistics: bool = True
    tables: frozenset[str] = frozenset()

    @property
    def task_states(self) -> tuple[TaskState, ...]:
        """The task states that the profile declares, each once."""
        return tuple(dict.fromkeys(rows.state for rows in self.rows))

    @property
    def has_heads(self) -> bool:
        """Whether the profile can tell which waiting task is first."""
        return any(rows.head for rows in self.rows if rows.state == "waiting")

    def count_statements(self, now: float) -> tuple[tuple[TaskState, BoundStatement], ...]:
        """For each row set: SELECT queue, count, oldest `since` (epoch or NULL), over at most :limit rows."""
        return tuple((rows.state, rows.count_statement(now)) for rows in self.rows)

    def stale_count_statements(self, now: float) -> tuple[BoundStatement, ...]:
        """For each row set with leases: SELECT queue, stale leases, oldest stale_since, over at most :limit rows."""
        return tuple(stale.count_statement(now) for stale in self.stale_rows)

    def head_statements(self, now: float) -> tuple[BoundStatement, ...]:
        """For each waiting row set with a head: SELECT queue, head, identity of the task with that number."""
        waiting = (rows.head_statement(now) for rows in self.rows if rows.state == "waiting")
        return tuple(bound for bound in waiting if bound is not None)

    def worker_count_statements(self, now: float) -> tuple[BoundStatement, ...]:
        """For each table of workers: SELECT workers, stale ones."""
        return tuple(workers.count_statement(now) for workers in self.worker_tables)

    def queue_name_statements(self) -> tuple[BoundStatement, ...]:
        """SELECT at most :limit queue names, one index step for each name; no statement without such an index."""
        return tuple(queues.names_statement() for queues in self.indexed_queues)


def compile_profile(
    profile: QueueProfile, settings: ProfileSettings, match: TableMatch, prefix: str = ""
) -> CompiledProfile:
    """Compile a profile for the tables that it matched. Raises ProfileError that names the profile and the place in it.

    `prefix` is put before each queue's name.
    """
    try:
        return _compile_parts(profile, settings, match, prefix)
    except ProfileError as error:
        raise ProfileError(f"profile {profile.name}: {error}") from error


def join_profiles(profiles: tuple[CompiledProfile, ...]) -> CompiledProfile:
    """Join several profiles of one file. The requeue and purge of the result take the strictest gate of all."""
    if len(profiles) == 1:
        return profiles[0]
    requeues = [profile.requeue for profile in profiles if profile.requeue is not None]
    purges = [profile.purge for profile in profiles if profile.purge is not None]
    return CompiledProfile(
        name="+".join(profile.name for profile in profiles),
        lease_kind="+".join(dict.fromkeys(profile.lease_kind for profile in profiles)),
        rows=tuple(rows for profile in profiles for rows in profile.rows),
        stale_rows=tuple(stale for profile in profiles for stale in profile.stale_rows),
        worker_tables=tuple(workers for profile in profiles for workers in profile.worker_tables),
        sequences=tuple(sequence for profile in profiles for sequence in profile.sequences),
        settings={name: value for profile in profiles for name, value in profile.settings.items()},
        requeue=_join_requeues(requeues),
        purge=_join_purges(purges),
        rowids_unused=frozenset().union(*(profile.rowids_unused for profile in profiles)),
        statistics=all(profile.statistics for profile in profiles),
        tables=frozenset().union(*(profile.tables for profile in profiles)),
    )


def _compile_parts(profile: QueueProfile, settings: ProfileSettings, match: TableMatch, prefix: str) -> CompiledProfile:
    tables = _ProfileTables(profile, settings, match, prefix)
    stale: list[StaleRowSet] = []
    rows: list[CompiledRowSet] = []
    for spec, context in tables.each_part(profile.rows):
        rows.append(compile_row_set(spec, context))
        if (stale_set := compile_stale_rows(spec, rows[-1], match)) is not None:
            stale.append(stale_set)
    actions = profile.actions
    return CompiledProfile(
        name=profile.name,
        lease_kind=profile.lease if stale else "none",
        rows=tuple(rows),
        stale_rows=tuple(stale),
        worker_tables=tuple(
            compile_workers(spec, context) for spec, context in tables.each_part(_as_tuple(profile.workers))
        ),
        sequences=tuple(_compile_sequences(profile, settings, match)),
        settings={**settings.numbers, **settings.texts, **{name: ",".join(w) for name, w in settings.words.items()}},
        requeue=_compile_requeue(actions.requeue, stale, settings, match),
        purge=_compile_purge(actions.purge, tables),
        rowids_unused=frozenset(fill_name(name, settings).lower() for name in profile.rowids_unused),
        statistics=profile.statistics,
        tables=frozenset(match.readable_columns),
    )


@dataclass(frozen=True, slots=True)
class _ProfileTables:
    """The matched tables of one profile, with what is needed to compile its parts on them."""

    profile: QueueProfile
    settings: ProfileSettings
    match: TableMatch
    prefix: str

    def each_part(self, parts: Iterable[Part]) -> Iterator[tuple[Part, TableContext]]:
        """Yield each part that applies, with each of its tables. Raises ProfileError."""
        time_format = parse_time_format(fill_name(self.profile.time, self.settings), "time")
        access = AccessRules(self.match.readable_columns)
        for part in parts:
            if _part_applies(part, self.settings):
                for table in self.match.tables_named(part.table, self.settings):
                    scope = ExpressionScope(self.settings, time_format, table.name, table.suffix)
                    yield part, TableContext(table, scope, access, self.prefix)


def _part_applies(part: RowSetSpec | WorkersSpec | FinishedRowsSpec | StepSpec, settings: ProfileSettings) -> bool:
    for name in (*part.given, *part.without):
        if name not in settings.setting_names:
            raise ProfileError(f"no setting is called {name!r}")
    return all(map(settings.is_filled, part.given)) and not any(map(settings.is_filled, part.without))


def _as_tuple(workers: WorkersSpec | None) -> tuple[WorkersSpec, ...]:
    return () if workers is None else (workers,)


def _compile_sequences(profile: QueueProfile, settings: ProfileSettings, match: TableMatch) -> Iterator[InsertSequence]:
    for name in profile.enqueued:
        yield from (
            InsertSequence(table.name) for table in match.tables_named(name, settings) if table.has_autoincrement
        )


def _compile_requeue(
    requeue: RequeueSpec | None, stale: list[StaleRowSet], settings: ProfileSettings, match: TableMatch
) -> CompiledRequeue | None:
    steps = [step for step in requeue.steps if _part_applies(step, settings)] if requeue else []
    if requeue is None or not steps or not stale:
        return None
    selections = tuple(stale_selection(stale_set, steps, match) for stale_set in stale)
    return CompiledRequeue(requeue.when, requeue.may_run_twice, selections)


def _compile_purge(purge: PurgeSpec | None, tables: _ProfileTables) -> CompiledPurge | None:
    if purge is None:
        return None
    compiled = [
        (spec, finished_selection(spec, context, tables.match)) for spec, context in tables.each_part(purge.rows)
    ]
    selections = tuple(selection for _, selection in compiled)
    if not selections:
        return None
    if not purge.frees_idempotency_keys:
        return CompiledPurge(purge.when, False, selections, selections, ())
    any_declared = any(declares_keys(selection, spec) for spec, selection in compiled)
    parts = [split_by_key(selection, spec, any_declared=any_declared) for spec, selection in compiled]
    keyless = tuple(selection for without_key, _ in parts for selection in without_key)
    keyed = tuple(selection for _, with_key in parts for selection in with_key)
    return CompiledPurge(purge.when, True, selections, keyless, keyed)


def _join_requeues(requeues: list[CompiledRequeue]) -> CompiledRequeue | None:
    if not requeues:
        return None
    return CompiledRequeue(
        strictest_gate(requeue.gate for requeue in requeues),
        any(requeue.may_run_twice for requeue in requeues),
        tuple(selection for requeue in requeues for selection in requeue.selections),
    )


def _join_purges(purges: list[CompiledPurge]) -> CompiledPurge | None:
    if not purges:
        return None
    return CompiledPurge(
        strictest_gate(purge.gate for purge in purges),
        any(purge.frees_idempotency_keys for purge in purges),
        tuple(selection for purge in purges for selection in purge.selections),
        tuple(selection for purge in purges for selection in purge.keyless),
        tuple(selection for purge in purges for selection in purge.keyed),
    )
