"""A profile on the tables of one database, made into statements: fixed frames, every value bound, every name quoted.

Pure. Statements touch only what the profile declares: each carries the fence that holds it to that.
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
    ProfileError,
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
    """What is to be read of one file: one profile's statements, or (`joined`) those of several.

    `rowids_unused`: names in lower case of tables that a VACUUM may number anew; `statistics`: ANALYZE may add its table.
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

    @property
    def task_states(self) -> tuple[TaskState, ...]:
        """The states that it knows, each once."""
        return tuple(dict.fromkeys(rows.state for rows in self.rows))

    @property
    def has_heads(self) -> bool:
        """Whether the first task in line can be told."""
        return any(rows.head for rows in self.rows if rows.state == "waiting")

    def count_statements(self, now: float) -> tuple[tuple[TaskState, BoundStatement], ...]:
        """For each row set: SELECT queue, count, oldest `since` (epoch or NULL), over at most :limit rows."""
        return tuple((rows.state, rows.count_statement(now)) for rows in self.rows)

    def stale_count_statements(self, now: float) -> tuple[BoundStatement, ...]:
        """For each row set with leases: SELECT queue, stale leases, oldest stale_since, over at most :limit rows."""
        return tuple(stale.count_statement(now) for stale in self.stale_rows)

    def head_statements(self, now: float) -> tuple[BoundStatement, ...]:
        """For each waiting row set with a head: SELECT queue, head, what tells it from another task of that number."""
        waiting = (rows.head_statement(now) for rows in self.rows if rows.state == "waiting")
        return tuple(bound for bound in waiting if bound is not None)

    def worker_count_statements(self, now: float) -> tuple[BoundStatement, ...]:
        """For each table of workers: SELECT workers, stale ones."""
        return tuple(one.count_statement(now) for one in self.worker_tables)

    def queue_name_statements(self) -> tuple[BoundStatement, ...]:
        """SELECT at most :limit queue names, jumping from name to name on an index; nothing without such an index."""
        return tuple(one.names_statement() for one in self.indexed_queues)


def compile_profile(
    profile: QueueProfile, settings: ProfileSettings, places: TableMatch, prefix: str = ""
) -> CompiledProfile:
    """Compile a profile for the tables that it was found on. Raises ProfileError that names the profile and the place.

    `prefix` stands before each queue's name.
    """
    try:
        return _compile_parts(profile, settings, places, prefix)
    except ProfileError as error:
        raise ProfileError(f"profile {profile.name}: {error}") from error


def join_profiles(profiles: tuple[CompiledProfile, ...]) -> CompiledProfile:
    """Several profiles of one file as one. Its requeue and purge take the strictest gate of all."""
    if len(profiles) == 1:
        return profiles[0]
    requeues = [one.requeue for one in profiles if one.requeue is not None]
    purges = [one.purge for one in profiles if one.purge is not None]
    return CompiledProfile(
        name="+".join(one.name for one in profiles),
        lease_kind="+".join(dict.fromkeys(one.lease_kind for one in profiles)),
        rows=tuple(rows for one in profiles for rows in one.rows),
        stale_rows=tuple(stale for one in profiles for stale in one.stale_rows),
        worker_tables=tuple(workers for one in profiles for workers in one.worker_tables),
        sequences=tuple(sequence for one in profiles for sequence in one.sequences),
        settings={name: value for one in profiles for name, value in one.settings.items()},
        requeue=_join_requeues(requeues),
        purge=_join_purges(purges),
        rowids_unused=frozenset().union(*(one.rowids_unused for one in profiles)),
        statistics=all(one.statistics for one in profiles),
    )


def _compile_parts(
    profile: QueueProfile, settings: ProfileSettings, places: TableMatch, prefix: str
) -> CompiledProfile:
    spots = _ProfileTables(profile, settings, places, prefix)
    stale: list[StaleRowSet] = []
    rows: list[CompiledRowSet] = []
    for text, spot in spots.each_part(profile.rows):
        rows.append(compile_row_set(text, spot))
        if (judged := compile_stale_rows(text, rows[-1], places)) is not None:
            stale.append(judged)
    actions = profile.actions
    return CompiledProfile(
        name=profile.name,
        lease_kind=profile.lease if stale else "none",
        rows=tuple(rows),
        stale_rows=tuple(stale),
        worker_tables=tuple(compile_workers(text, spot) for text, spot in spots.each_part(_as_tuple(profile.workers))),
        sequences=tuple(_compile_sequences(profile, settings, places)),
        settings={**settings.numbers, **settings.texts, **{name: ",".join(w) for name, w in settings.words.items()}},
        requeue=_compile_requeue(actions.requeue, stale, settings, places),
        purge=_compile_purge(actions.purge, spots),
        rowids_unused=frozenset(fill_name(name, settings).lower() for name in profile.rowids_unused),
        statistics=profile.statistics,
    )


@dataclass(frozen=True, slots=True)
class _ProfileTables:
    """Where the parts of one profile stand."""

    profile: QueueProfile
    settings: ProfileSettings
    match: TableMatch
    prefix: str

    def each_part(self, parts: Iterable[Part]) -> Iterator[tuple[Part, TableContext]]:
        """Each part that applies, with each of its tables."""
        form = parse_time_format(fill_name(self.profile.time, self.settings), "time")
        fence = AccessRules(self.match.readable_columns)
        for part in parts:
            if _part_applies(part, self.settings):
                for place in self.match.tables_named(part.table, self.settings):
                    scope = ExpressionScope(self.settings, form, place.name, place.suffix)
                    yield part, TableContext(place, scope, fence, self.prefix)


def _part_applies(part: RowSetSpec | WorkersSpec | FinishedRowsSpec | StepSpec, settings: ProfileSettings) -> bool:
    for name in (*part.given, *part.without):
        if name not in settings.setting_names:
            raise ProfileError(f"no setting is called {name!r}")
    return all(map(settings.is_filled, part.given)) and not any(map(settings.is_filled, part.without))


def _as_tuple(workers: WorkersSpec | None) -> tuple[WorkersSpec, ...]:
    return () if workers is None else (workers,)


def _compile_sequences(
    profile: QueueProfile, settings: ProfileSettings, places: TableMatch
) -> Iterator[InsertSequence]:
    for name in profile.enqueued:
        yield from (
            InsertSequence(place.name) for place in places.tables_named(name, settings) if place.has_autoincrement
        )


def _compile_requeue(
    requeue: RequeueSpec | None, stale: list[StaleRowSet], settings: ProfileSettings, places: TableMatch
) -> CompiledRequeue | None:
    steps = [step for step in requeue.steps if _part_applies(step, settings)] if requeue else []
    if requeue is None or not steps or not stale:
        return None
    takings = tuple(stale_selection(one, steps, places) for one in stale)
    return CompiledRequeue(requeue.when, requeue.may_run_twice, takings)


def _compile_purge(purge: PurgeSpec | None, spots: _ProfileTables) -> CompiledPurge | None:
    if purge is None:
        return None
    made = [(text, finished_selection(text, spot, spots.match)) for text, spot in spots.each_part(purge.rows)]
    takings = tuple(taking for _, taking in made)
    if not takings:
        return None
    if not purge.frees_idempotency_keys:
        return CompiledPurge(purge.when, False, takings, takings, ())
    told = any(declares_keys(taking, text) for text, taking in made)
    parts = [split_by_key(taking, text, told=told) for text, taking in made]
    keyless = tuple(taking for without, _ in parts for taking in without)
    keyed = tuple(taking for _, holding in parts for taking in holding)
    return CompiledPurge(purge.when, True, takings, keyless, keyed)


def _join_requeues(all_of_them: list[CompiledRequeue]) -> CompiledRequeue | None:
    if not all_of_them:
        return None
    return CompiledRequeue(
        strictest_gate(one.gate for one in all_of_them),
        any(one.may_run_twice for one in all_of_them),
        tuple(taking for one in all_of_them for taking in one.selections),
    )


def _join_purges(all_of_them: list[CompiledPurge]) -> CompiledPurge | None:
    if not all_of_them:
        return None
    return CompiledPurge(
        strictest_gate(one.gate for one in all_of_them),
        any(one.frees_idempotency_keys for one in all_of_them),
        tuple(taking for one in all_of_them for taking in one.selections),
        tuple(taking for one in all_of_them for taking in one.keyless),
        tuple(taking for one in all_of_them for taking in one.keyed),
    )
