"""Detects by tables and columns which queues a database file holds; a profile that the operator chose comes first."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import apsw

from collectors.queue_profiles.authorizer import allow_reading
from collectors.queue_profiles.compile import CompiledProfile, compile_profile, join_profiles
from collectors.queue_profiles.count_queries import CompiledRowSet, IndexedQueues
from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.schema import QueueProfile, load_profile
from collectors.queue_profiles.settings import ProfileSettings, required_settings, resolve_settings, setting_variants
from collectors.queue_profiles.table_match import DatabaseTables, TableMatch, match_tables, read_tables
from collectors.target import Target

AUTO = "auto"
SHIPPED_DIRECTORY = Path(__file__).parent / "shipped"


@dataclass(frozen=True, slots=True)
class ProfileMatch:
    """A profile that fits a database, with the settings with which it fits and its tables there."""

    profile: QueueProfile
    settings: ProfileSettings
    tables: TableMatch


def detect_profile(database: apsw.Connection, target: Target) -> CompiledProfile | None:
    """Compile the profile of this database, or several joined as one; None when no shipped profile fits.

    Raises ProfileError when the operator's choice does not exist, does not fit or has wrong settings; apsw.Error.
    """
    matches = matching_profiles(read_tables(database), target)
    if not matches:
        return None
    return _with_index_counts(database, join_profiles(tuple(_compile_match(match, matches) for match in matches)))


def shipped_profiles() -> tuple[QueueProfile, ...]:
    """The profiles that come with queuekeeper, in the order of their names."""
    return _load_shipped()


def find_profile(choice: str) -> QueueProfile:
    """Return the profile of this name, or load it from the file of this path. Raises ProfileError."""
    if _is_path(choice):
        return _load_file(Path(choice), _modified_ns(choice))
    for profile in shipped_profiles():
        if profile.name == choice:
            return profile
    known = ", ".join(profile.name for profile in shipped_profiles())
    raise ProfileError(f"no profile is called {choice!r}; known: {known}, or the path of a file of your own")


def matching_profiles(tables: DatabaseTables, target: Target) -> tuple[ProfileMatch, ...]:
    """Every profile that fits, in the order of names. Raises ProfileError about the operator's choice or settings."""
    if target.profile != AUTO:
        return (_configured_match(tables, target),)
    matches = [
        match
        for profile in shipped_profiles()
        if not required_settings(profile)
        for match in _matches_of_profile(profile, tables, target)
    ]
    known = {name for match in matches for name in match.profile.settings}
    # A setting that none of the matching profiles has is a mistake, not one for another database's profile.
    for name in target.settings if matches else ():
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise ProfileError(f"profile {matches[0].profile.name}: settings.{name}: no such setting; known: {names}")
    return tuple(matches)


def missing_parts(profile: QueueProfile, tables: DatabaseTables, target: Target) -> tuple[str, ...]:
    """Sentences about what the profile requires and this database does not have. Raises ProfileError."""
    missing_by_variant = [
        match_tables(profile, resolve_settings(profile, given), tables).missing
        for given in setting_variants(profile, target.settings)
    ]
    return min(missing_by_variant, key=len)


def _compile_match(match: ProfileMatch, matches: tuple[ProfileMatch, ...]) -> CompiledProfile:
    """Compile one of the matches. With several, the profile's name is put before each queue's: both may have the name."""
    name = match.profile.name
    if len(matches) == 1:
        return compile_profile(match.profile, match.settings, match.tables)
    if (
        sum(other.profile.name == name for other in matches) > 1
    ):  # the same queue library twice, under two names of its tables
        name = f"{name}:{next(iter(match.tables.readable_columns))}"
    return compile_profile(match.profile, match.settings, match.tables, f"{name}/")


def _configured_match(tables: DatabaseTables, target: Target) -> ProfileMatch:
    profile = find_profile(target.profile)
    try:
        for given in setting_variants(profile, target.settings):
            settings = resolve_settings(profile, {**target.settings, **given})
            match = match_tables(profile, settings, tables)
            if not match.missing:
                return ProfileMatch(profile, settings, match)
    except ProfileError as error:
        raise ProfileError(f"profile {profile.name}: {error}") from error
    raise ProfileError(
        f"profile {profile.name} does not fit {target.path}: {missing_parts(profile, tables, target)[0]}"
    )


def _matches_of_profile(profile: QueueProfile, tables: DatabaseTables, target: Target) -> Iterator[ProfileMatch]:
    seen: set[frozenset[str]] = set()
    for given in setting_variants(profile, target.settings):
        match = match_tables(profile, resolve_settings(profile, given), tables)
        if not match.missing and (names := frozenset(match.readable_columns)) not in seen:
            seen.add(names)
            yield ProfileMatch(profile, resolve_settings(profile, given), match)


def _with_index_counts(database: apsw.Connection, profile: CompiledProfile) -> CompiledProfile:
    """Use indexes that start with the queue: to look up the names, and to count where the index has all columns needed."""
    unique = {_table_and_column(rows): rows for rows in profile.rows if rows.queue_column}
    indexed = {pair: rows for pair, rows in unique.items() if _leads_index(database, rows)}
    row_sets = tuple(replace(rows, by_queue=_can_count_by_queue(database, rows, set(indexed))) for rows in profile.rows)
    quick = [(i, rows) for i, rows in enumerate(row_sets) if rows.by_queue and not rows.slow]
    queues = tuple(
        IndexedQueues(rows, tuple(counted for counted in quick if _table_and_column(counted[1]) == pair))
        for pair, rows in indexed.items()
    )
    return replace(profile, rows=row_sets, indexed_queues=queues)


def _table_and_column(rows: CompiledRowSet) -> tuple[str, str]:
    return rows.quoted_table, rows.queue_column


def _can_count_by_queue(database: apsw.Connection, rows: CompiledRowSet, indexed: set[tuple[str, str]]) -> bool:
    """Whether each queue can be counted on an index alone, many times faster than by visiting the rows."""
    if rows.since is not None or rows.where.parameters or _table_and_column(rows) not in indexed:
        return False
    with allow_reading(database, rows.access):
        plan = database.execute("EXPLAIN QUERY PLAN " + rows.queue_count_statement().sql, {"limit": 1}).fetchall()
    searches = [str(row[3]) for row in plan if f"SEARCH {rows.table_name} " in str(row[3])]
    # Both the search for the names and the count: a search that visits rows would be slower than counting by state.
    return bool(searches) and all("COVERING INDEX" in line for line in searches)


def _leads_index(database: apsw.Connection, rows: CompiledRowSet) -> bool:
    """Whether a whole (not partial) index starts with the column that names the queue."""
    sql = (
        "SELECT l.name, i.name FROM pragma_index_list(?) AS l JOIN pragma_index_info(l.name) AS i "
        "WHERE i.seqno = 0 AND NOT l.partial"
    )
    first_columns = database.execute(sql, (rows.table_name,)).fetchall()
    column = rows.queue_column.strip('"').lower()
    return any(name is not None and str(name).lower() == column for _, name in first_columns)


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
