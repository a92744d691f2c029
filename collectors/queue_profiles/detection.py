"""Which queues lie in this file? By tables and columns; a profile that the operator chose comes first."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import apsw

from collectors.queue_profiles.authorizer import reading
from collectors.queue_profiles.compile import CompiledProfile, compiled, joined
from collectors.queue_profiles.count_queries import CompiledRows, NamedQueues
from collectors.queue_profiles.schema import Profile, ProfileError, load
from collectors.queue_profiles.settings import Settings, required, settings_of, variants
from collectors.queue_profiles.table_match import Places, places_of
from collectors.queue_profiles.tables import Tables, read_tables
from collectors.target import Target

AUTO = "auto"
SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True, slots=True)
class Match:
    """A profile that fits, with the settings it fits with and where its tables are."""

    profile: Profile
    settings: Settings
    places: Places


def profile_for(database: apsw.Connection, target: Target) -> CompiledProfile | None:
    """The profile of this database, or several as one; None when no shipped one fits.

    Raises ProfileError when the operator's choice does not exist, does not fit or has wrong settings; apsw.Error.
    """
    found = matches(read_tables(database), target)
    if not found:
        return None
    return _with_indexes(database, joined(tuple(_compiled(match, found) for match in found)))


def shipped() -> tuple[Profile, ...]:
    """The profiles that come with queuekeeper, by name."""
    return _shipped()


def named(choice: str) -> Profile:
    """The profile of this name, or in the file of this path. Raises ProfileError."""
    if _is_path(choice):
        return _loaded(Path(choice), _changed(choice))
    for profile in shipped():
        if profile.name == choice:
            return profile
    known = ", ".join(profile.name for profile in shipped())
    raise ProfileError(f"no profile is called {choice!r}; known: {known}, or the path of a file of your own")


def matches(tables: Tables, target: Target) -> tuple[Match, ...]:
    """Every profile that fits, by name. Raises ProfileError about the operator's choice or settings."""
    if target.profile != AUTO:
        return (_chosen(tables, target),)
    found = [match for profile in shipped() if not required(profile) for match in _fitting(profile, tables, target)]
    known = {name for match in found for name in match.profile.settings}
    # A setting that none of the found profiles knows is a mistake, not one for another database's profile.
    for name in target.settings if found else ():
        if name not in known:
            words = ", ".join(sorted(known)) or "none"
            raise ProfileError(f"profile {found[0].profile.name}: settings.{name}: no such setting; known: {words}")
    return tuple(found)


def lacking(profile: Profile, tables: Tables, target: Target) -> tuple[str, ...]:
    """What this database lacks of a profile, as sentences; nothing when it has all. Raises ProfileError."""
    tried = [
        places_of(profile, settings_of(profile, given), tables).lacking for given in variants(profile, target.settings)
    ]
    return min(tried, key=len)


def _compiled(match: Match, found: tuple[Match, ...]) -> CompiledProfile:
    """With several in one file, each queue's name begins with its profile's: the same name may be in both."""
    name = match.profile.name
    if len(found) == 1:
        return compiled(match.profile, match.settings, match.places)
    if sum(other.profile.name == name for other in found) > 1:  # one system twice, under two names of its tables
        name = f"{name}:{next(iter(match.places.readable))}"
    return compiled(match.profile, match.settings, match.places, f"{name}/")


def _chosen(tables: Tables, target: Target) -> Match:
    profile = named(target.profile)
    try:
        for given in variants(profile, target.settings):
            settings = settings_of(profile, {**target.settings, **given})
            places = places_of(profile, settings, tables)
            if not places.lacking:
                return Match(profile, settings, places)
    except ProfileError as error:
        raise ProfileError(f"profile {profile.name}: {error}") from error
    raise ProfileError(f"profile {profile.name} does not fit {target.path}: {lacking(profile, tables, target)[0]}")


def _fitting(profile: Profile, tables: Tables, target: Target) -> Iterator[Match]:
    seen: set[frozenset[str]] = set()
    for given in variants(profile, target.settings):
        places = places_of(profile, settings_of(profile, given), tables)
        if not places.lacking and (spots := frozenset(places.readable)) not in seen:
            seen.add(spots)
            yield Match(profile, settings_of(profile, given), places)


def _with_indexes(database: apsw.Connection, made: CompiledProfile) -> CompiledProfile:
    """Where an index starts with the queue, names are looked up on it, and counted where it holds all that is needed."""
    unique = {_pair(rows): rows for rows in made.rows if rows.queue_column}
    indexed = {pair: rows for pair, rows in unique.items() if _leads_an_index(database, rows)}
    rows = tuple(replace(one, by_queue=_counts_by_queue(database, one, set(indexed))) for one in made.rows)
    quick = [(i, one) for i, one in enumerate(rows) if one.by_queue and not one.slow]
    named = {pair: tuple(found for found in quick if _pair(found[1]) == pair) for pair in indexed}
    return replace(made, rows=rows, named=tuple(NamedQueues(indexed[pair], counted) for pair, counted in named.items()))


def _pair(rows: CompiledRows) -> tuple[str, str]:
    return rows.table, rows.queue_column


def _counts_by_queue(database: apsw.Connection, rows: CompiledRows, indexed: set[tuple[str, str]]) -> bool:
    """Whether each queue can be counted on an index alone, many times faster than by visiting the rows."""
    if rows.since is not None or rows.where.parameters or _pair(rows) not in indexed:
        return False
    with reading(database, rows.fence):
        plan = database.execute("EXPLAIN QUERY PLAN " + rows.count_by_queue().sql, {"limit": 1}).fetchall()
    counting = [str(row[3]) for row in plan if f"SEARCH {rows.spot.place.table} " in str(row[3])]
    # Both the search for the names and the counting itself: one that visits rows would be slower than by state.
    return bool(counting) and all("COVERING INDEX" in line for line in counting)


def _leads_an_index(database: apsw.Connection, rows: CompiledRows) -> bool:
    """Whether a whole (not partial) index starts with the column that names the queue."""
    sql = (
        "SELECT l.name, i.name FROM pragma_index_list(?) AS l JOIN pragma_index_info(l.name) AS i "
        "WHERE i.seqno = 0 AND NOT l.partial"
    )
    leading = database.execute(sql, (rows.spot.place.table,)).fetchall()
    column = rows.queue_column.strip('"').lower()
    return any(name is not None and str(name).lower() == column for _, name in leading)


def _is_path(choice: str) -> bool:
    return "/" in choice or choice.endswith((".yaml", ".yml"))


def _changed(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=1)
def _shipped() -> tuple[Profile, ...]:
    return tuple(load(path, shipped=True) for path in sorted(SHIPPED.glob("*.yaml")))


@lru_cache(maxsize=64)
def _loaded(path: Path, _changed: int) -> Profile:
    return load(path)
