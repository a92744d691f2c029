"""A profile on the tables of one database, made into statements: fixed frames, every value bound, every name quoted.

Pure. Statements touch only what the profile declares: each carries the fence that holds it to that.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from collectors.queue_profiles.authorizer import Fence
from collectors.queue_profiles.count_queries import (
    CompiledRows,
    CompiledWorkers,
    NamedQueues,
    Sequence,
    compiled_rows,
    compiled_workers,
)
from collectors.queue_profiles.expression import Scope, filled, time_format
from collectors.queue_profiles.lease_expiry import StaleRows, compiled_stale
from collectors.queue_profiles.row_selection import (
    CompiledPurge,
    CompiledRequeue,
    by_key,
    finished_taking,
    stale_taking,
    strictest,
    tells_keys,
)
from collectors.queue_profiles.schema import Finished, Profile, ProfileError, Purge, Requeue, Rows, State, Step, Workers
from collectors.queue_profiles.settings import Chosen, Settings
from collectors.queue_profiles.statement import Bound, Spot
from collectors.queue_profiles.table_match import Places

Part = TypeVar("Part", Rows, Workers, Finished)


@dataclass(frozen=True, slots=True)
class CompiledProfile:
    """What is to be read of one file: one profile's statements, or (`joined`) those of several.

    `rowids_unused`: names in lower case of tables that a VACUUM may number anew; `statistics`: ANALYZE may add its table.
    """

    name: str
    lease_kind: str
    rows: tuple[CompiledRows, ...] = ()
    stale_rows: tuple[StaleRows, ...] = ()
    worker_tables: tuple[CompiledWorkers, ...] = ()
    sequences: tuple[Sequence, ...] = ()
    settings: Mapping[str, Chosen] = field(default_factory=dict)
    requeue: CompiledRequeue | None = None
    purge: CompiledPurge | None = None
    named: tuple[NamedQueues, ...] = ()
    rowids_unused: frozenset[str] = frozenset()
    statistics: bool = True

    @property
    def states(self) -> tuple[State, ...]:
        """The states that it knows, each once."""
        return tuple(dict.fromkeys(rows.state for rows in self.rows))

    @property
    def has_heads(self) -> bool:
        """Whether the first task in line can be told."""
        return any(rows.head for rows in self.rows if rows.state == "waiting")

    def counts(self, now: float) -> tuple[tuple[State, Bound], ...]:
        """For each row set: SELECT queue, count, oldest `since` (epoch or NULL), over at most :limit rows."""
        return tuple((rows.state, rows.count(now)) for rows in self.rows)

    def stale(self, now: float) -> tuple[Bound, ...]:
        """For each row set with leases: SELECT queue, stale leases, oldest stale_since, over at most :limit rows."""
        return tuple(stale.count(now) for stale in self.stale_rows)

    def heads(self, now: float) -> tuple[Bound, ...]:
        """For each waiting row set with a head: SELECT queue, head, what tells it from another task of that number."""
        waiting = (rows.heads(now) for rows in self.rows if rows.state == "waiting")
        return tuple(bound for bound in waiting if bound is not None)

    def workers(self, now: float) -> tuple[Bound, ...]:
        """For each table of workers: SELECT workers, stale ones."""
        return tuple(one.count(now) for one in self.worker_tables)

    def queues(self) -> tuple[Bound, ...]:
        """SELECT at most :limit queue names, jumping from name to name on an index; nothing without such an index."""
        return tuple(one.names() for one in self.named)


def compiled(profile: Profile, settings: Settings, places: Places, prefix: str = "") -> CompiledProfile:
    """Compile a profile for the tables that it was found on. Raises ProfileError that names the profile and the place.

    `prefix` stands before each queue's name.
    """
    try:
        return _compiled(profile, settings, places, prefix)
    except ProfileError as error:
        raise ProfileError(f"profile {profile.name}: {error}") from error


def joined(profiles: tuple[CompiledProfile, ...]) -> CompiledProfile:
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
        requeue=_joined_requeue(requeues),
        purge=_joined_purge(purges),
        rowids_unused=frozenset().union(*(one.rowids_unused for one in profiles)),
        statistics=all(one.statistics for one in profiles),
    )


def _compiled(profile: Profile, settings: Settings, places: Places, prefix: str) -> CompiledProfile:
    spots = _Spots(profile, settings, places, prefix)
    stale: list[StaleRows] = []
    rows: list[CompiledRows] = []
    for text, spot in spots.each(profile.rows):
        rows.append(compiled_rows(text, spot))
        if (judged := compiled_stale(text, rows[-1], places)) is not None:
            stale.append(judged)
    actions = profile.actions
    return CompiledProfile(
        name=profile.name,
        lease_kind=profile.lease if stale else "none",
        rows=tuple(rows),
        stale_rows=tuple(stale),
        worker_tables=tuple(compiled_workers(text, spot) for text, spot in spots.each(_listed(profile.workers))),
        sequences=tuple(_sequences(profile, settings, places)),
        settings={**settings.numbers, **settings.texts, **{name: ",".join(w) for name, w in settings.words.items()}},
        requeue=_requeue(actions.requeue, stale, settings, places),
        purge=_purge(actions.purge, spots),
        rowids_unused=frozenset(filled(name, settings).lower() for name in profile.rowids_unused),
        statistics=profile.statistics,
    )


@dataclass(frozen=True, slots=True)
class _Spots:
    """Where the parts of one profile stand."""

    profile: Profile
    settings: Settings
    places: Places
    prefix: str

    def each(self, parts: Iterable[Part]) -> Iterator[tuple[Part, Spot]]:
        """Each part that applies, with each of its tables."""
        form = time_format(filled(self.profile.time, self.settings), "time")
        fence = Fence(self.places.readable)
        for part in parts:
            if _applies(part, self.settings):
                for place in self.places.of(part.table, self.settings):
                    scope = Scope(self.settings, form, place.table, place.suffix)
                    yield part, Spot(place, scope, fence, self.prefix)


def _applies(part: Rows | Workers | Finished | Step, settings: Settings) -> bool:
    for name in (*part.given, *part.without):
        if name not in settings.known:
            raise ProfileError(f"no setting is called {name!r}")
    return all(map(settings.filled, part.given)) and not any(map(settings.filled, part.without))


def _listed(workers: Workers | None) -> tuple[Workers, ...]:
    return () if workers is None else (workers,)


def _sequences(profile: Profile, settings: Settings, places: Places) -> Iterator[Sequence]:
    for name in profile.enqueued:
        yield from (Sequence(place.table) for place in places.of(name, settings) if place.counts_inserts)


def _requeue(
    requeue: Requeue | None, stale: list[StaleRows], settings: Settings, places: Places
) -> CompiledRequeue | None:
    steps = [step for step in requeue.steps if _applies(step, settings)] if requeue else []
    if requeue is None or not steps or not stale:
        return None
    takings = tuple(stale_taking(one, steps, places) for one in stale)
    return CompiledRequeue(requeue.when, requeue.may_run_twice, takings)


def _purge(purge: Purge | None, spots: _Spots) -> CompiledPurge | None:
    if purge is None:
        return None
    made = [(text, finished_taking(text, spot, spots.places)) for text, spot in spots.each(purge.rows)]
    takings = tuple(taking for _, taking in made)
    if not takings:
        return None
    if not purge.frees_idempotency_keys:
        return CompiledPurge(purge.when, False, takings, takings, ())
    told = any(tells_keys(taking, text) for text, taking in made)
    parts = [by_key(taking, text, told=told) for text, taking in made]
    keyless = tuple(taking for without, _ in parts for taking in without)
    keyed = tuple(taking for _, holding in parts for taking in holding)
    return CompiledPurge(purge.when, True, takings, keyless, keyed)


def _joined_requeue(all_of_them: list[CompiledRequeue]) -> CompiledRequeue | None:
    if not all_of_them:
        return None
    return CompiledRequeue(
        strictest(one.gate for one in all_of_them),
        any(one.may_run_twice for one in all_of_them),
        tuple(taking for one in all_of_them for taking in one.takings),
    )


def _joined_purge(all_of_them: list[CompiledPurge]) -> CompiledPurge | None:
    if not all_of_them:
        return None
    return CompiledPurge(
        strictest(one.gate for one in all_of_them),
        any(one.frees_idempotency_keys for one in all_of_them),
        tuple(taking for one in all_of_them for taking in one.takings),
        tuple(taking for one in all_of_them for taking in one.keyless),
        tuple(taking for one in all_of_them for taking in one.keyed),
    )
