"""Which queues lie in this file? By tables and columns; a profile that the operator chose comes first."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import apsw

from collectors.queue_profiles.authorizer import allow_reading
from collectors.queue_profiles.compile import CompiledProfile, compile_profile, join_profiles
from collectors.queue_profiles.count_queries import CompiledRowSet, IndexedQueues
from collectors.queue_profiles.schema import ProfileError, QueueProfile, load_profile
from collectors.queue_profiles.settings import ProfileSettings, required_settings, resolve_settings, setting_variants
from collectors.queue_profiles.table_match import DatabaseTables, TableMatch, match_tables, read_tables
from collectors.target import Target

AUTO = "auto"
SHIPPED_DIRECTORY = Path(__file__).parent / "shipped"


@dataclass(frozen=True, slots=True)
class ProfileMatch:
    """A profile that fits, with the settings it fits with and where its tables are."""

    profile: QueueProfile
    settings: ProfileSettings
    tables: TableMatch


def detect_profile(database: apsw.Connection, target: Target) -> CompiledProfile | None:
    """The profile of this database, or several as one; None when no shipped one fits.

    Raises ProfileError when the operator's choice does not exist, does not fit or has wrong settings; apsw.Error.
    """
    found = matching_profiles(read_tables(database), target)
    if not found:
        return None
    return _with_index_counts(database, join_profiles(tuple(_compile_match(match, found) for match in found)))


def shipped_profiles() -> tuple[QueueProfile, ...]:
    """The profiles that come with queuekeeper, by name."""
    return _load_shipped()


def find_profile(choice: str) -> QueueProfile:
    """The profile of this name, or in the file of this path. Raises ProfileError."""
    if _is_path(choice):
        return _load_file(Path(choice), _modified_ns(choice))
    for profile in shipped_profiles():
        if profile.name == choice:
            return profile
    known = ", ".join(profile.name for profile in shipped_profiles())
    raise ProfileError(f"no profile is called {choice!r}; known: {known}, or the path of a file of your own")


def matching_profiles(tables: DatabaseTables, target: Target) -> tuple[ProfileMatch, ...]:
    """Every profile that fits, by name. Raises ProfileError about the operator's choice or settings."""
    if target.profile != AUTO:
        return (_configured_match(tables, target),)
    found = [
        match
        for profile in shipped_profiles()
        if not required_settings(profile)
        for match in _matches_of_profile(profile, tables, target)
    ]
    known = {name for match in found for name in match.profile.settings}
    # A setting that none of the found profiles knows is a mistake, not one for another database's profile.
    for name in target.settings if found else ():
        if name not in known:
            words = ", ".join(sorted(known)) or "none"
            raise ProfileError(f"profile {found[0].profile.name}: settings.{name}: no such setting; known: {words}")
    return tuple(found)


def missing_parts(profile: QueueProfile, tables: DatabaseTables, target: Target) -> tuple[str, ...]:
    """What this database lacks of a profile, as sentences; nothing when it has all. Raises ProfileError."""
    tried = [
        match_tables(profile, resolve_settings(profile, given), tables).missing
        for given in setting_variants(profile, target.settings)
    ]
    return min(tried, key=len)


def _compile_match(match: ProfileMatch, found: tuple[ProfileMatch, ...]) -> CompiledProfile:
    """With several in one file, each queue's name begins with its profile's: the same name may be in both."""
    name = match.profile.name
    if len(found) == 1:
        return compile_profile(match.profile, match.settings, match.tables)
    if sum(other.profile.name == name for other in found) > 1:  # one system twice, under two names of its tables
        name = f"{name}:{next(iter(match.tables.readable_columns))}"
    return compile_profile(match.profile, match.settings, match.tables, f"{name}/")


def _configured_match(tables: DatabaseTables, target: Target) -> ProfileMatch:
    profile = find_profile(target.profile)
    try:
        for given in setting_variants(profile, target.settings):
            settings = resolve_settings(profile, {**target.settings, **given})
            places = match_tables(profile, settings, tables)
            if not places.missing:
                return ProfileMatch(profile, settings, places)
    except ProfileError as error:
        raise ProfileError(f"profile {profile.name}: {error}") from error
    raise ProfileError(
        f"profile {profile.name} does not fit {target.path}: {missing_parts(profile, tables, target)[0]}"
    )


def _matches_of_profile(profile: QueueProfile, tables: DatabaseTables, target: Target) -> Iterator[ProfileMatch]:
    seen: set[frozenset[str]] = set()
    for given in setting_variants(profile, target.settings):
        places = match_tables(profile, resolve_settings(profile, given), tables)
        if not places.missing and (spots := frozenset(places.readable_columns)) not in seen:
            seen.add(spots)
            yield ProfileMatch(profile, resolve_settings(profile, given), places)


def _with_index_counts(database: apsw.Connection, made: CompiledProfile) -> CompiledProfile:
    """Where an index starts with the queue, names are looked up on it, and counted where it holds all that is needed."""
    unique = {_table_and_column(rows): rows for rows in made.rows if rows.queue_column}
    indexed = {pair: rows for pair, rows in unique.items() if _leads_index(database, rows)}
    rows = tuple(replace(one, by_queue=_can_count_by_queue(database, one, set(indexed))) for one in made.rows)
    quick = [(i, one) for i, one in enumerate(rows) if one.by_queue and not one.slow]
    named = {pair: tuple(found for found in quick if _table_and_column(found[1]) == pair) for pair in indexed}
    return replace(
        made, rows=rows, indexed_queues=tuple(IndexedQueues(indexed[pair], counted) for pair, counted in named.items())
    )


def _table_and_column(rows: CompiledRowSet) -> tuple[str, str]:
    return rows.quoted_table, rows.queue_column


def _can_count_by_queue(database: apsw.Connection, rows: CompiledRowSet, indexed: set[tuple[str, str]]) -> bool:
    """Whether each queue can be counted on an index alone, many times faster than by visiting the rows."""
    if rows.since is not None or rows.where.parameters or _table_and_column(rows) not in indexed:
        return False
    with allow_reading(database, rows.access):
        plan = database.execute("EXPLAIN QUERY PLAN " + rows.queue_count_statement().sql, {"limit": 1}).fetchall()
    counting = [str(row[3]) for row in plan if f"SEARCH {rows.context.table.name} " in str(row[3])]
    # Both the search for the names and the counting itself: one that visits rows would be slower than by state.
    return bool(counting) and all("COVERING INDEX" in line for line in counting)


def _leads_index(database: apsw.Connection, rows: CompiledRowSet) -> bool:
    """Whether a whole (not partial) index starts with the column that names the queue."""
    sql = (
        "SELECT l.name, i.name FROM pragma_index_list(?) AS l JOIN pragma_index_info(l.name) AS i "
        "WHERE i.seqno = 0 AND NOT l.partial"
    )
    leading = database.execute(sql, (rows.context.table.name,)).fetchall()
    column = rows.queue_column.strip('"').lower()
    return any(name is not None and str(name).lower() == column for _, name in leading)


def _is_path(choice: str) -> bool:
    return "/" in choice or choice.endswith((".yaml", ".yml"))


def _modified_ns(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=1)
def _load_shipped() -> tuple[QueueProfile, ...]:
    return tuple(load_profile(path, shipped=True) for path in sorted(SHIPPED_DIRECTORY.glob("*.yaml")))


@lru_cache(maxsize=64)
def _load_file(path: Path, _changed: int) -> QueueProfile:
    return load_profile(path)
