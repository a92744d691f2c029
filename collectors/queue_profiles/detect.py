"""Which queue lies in this file? By its tables and columns; a profile that the operator chose comes first."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import apsw

from collectors.queue_profiles.compile import CompiledProfile, CompiledRows, compiled, quoted
from collectors.queue_profiles.schema import Profile, ProfileError, load
from collectors.target import Target

AUTO = "auto"
SHIPPED = Path(__file__).parent / "shipped"


def profile_for(database: apsw.Connection, target: Target) -> CompiledProfile | None:
    """The profile of this database; None when no shipped one fits.

    Raises ProfileError when the operator's choice does not exist, does not fit or has wrong settings; apsw.Error.
    """
    if target.profile != AUTO:
        chosen = named(target.profile)
        if (lacking := missing(database, chosen)) is not None:
            raise ProfileError(f"profile {chosen.name} does not fit {target.path}: {lacking}")
        return _compiled_for(database, chosen, target)
    for profile in shipped():
        if missing(database, profile) is None:
            return _compiled_for(database, profile, target)
    return None


def shipped() -> tuple[Profile, ...]:
    """The profiles that come with queuekeeper, by name."""
    return tuple(_loaded(path, 0) for path in sorted(SHIPPED.glob("*.yaml")))


def named(choice: str) -> Profile:
    """The profile of this name, or in the file of this path. Raises ProfileError."""
    if "/" in choice or choice.endswith((".yaml", ".yml")):
        path = Path(choice)
        return _loaded(path, path.stat().st_mtime_ns if path.exists() else 0)
    for profile in shipped():
        if profile.name == choice:
            return profile
    known = ", ".join(profile.name for profile in shipped())
    raise ProfileError(f"no profile is called {choice!r}; known: {known}, or the path of a file of your own")


def missing(database: apsw.Connection, profile: Profile) -> str | None:
    """What of the profile's tables and columns this database lacks, as a sentence; None when it has all."""
    for table, wanted in profile.detect.items():
        have = {name.lower() for name in _columns(database, table)}
        if not have:
            return f"it has no table {table}"
        if lacking := [name for name in wanted if name.lower() not in have]:
            return f"table {table} has no column {', '.join(lacking)}"
    return None


def _columns(database: apsw.Connection, table: str) -> Iterator[str]:
    """The columns of a table, generated ones too; none when it is not there or is a view."""
    sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND lower(name) = lower(?)"
    if database.execute(sql, (table,)).get is None:
        return iter(())
    return iter(str(row[0]) for row in database.execute("SELECT name FROM pragma_table_xinfo(?)", (table,)).fetchall())


def _compiled_for(database: apsw.Connection, profile: Profile, target: Target) -> CompiledProfile:
    # Settings of a database whose profile is found by itself may be meant for another profile: name the trouble.
    made = compiled(profile, target.settings)
    pairs = dict.fromkeys((rows.table, rows.queue_column) for rows in made.rows if rows.queue_column)
    indexed = tuple(pair for pair in pairs if _leads_an_index(database, *pair))
    rows = tuple(replace(one, by_queue=_counts_by_queue(database, one, indexed)) for one in made.rows)
    return replace(made, rows=rows, indexed_queues=indexed)


def _counts_by_queue(database: apsw.Connection, rows: CompiledRows, indexed: tuple[tuple[str, str], ...]) -> bool:
    """Whether each queue can be counted on an index alone, many times faster than by visiting the rows."""
    if rows.since is not None or rows.where.parameters or (rows.table, rows.queue_column) not in indexed:
        return False
    plan = database.execute("EXPLAIN QUERY PLAN " + rows.count_by_queue().sql, {"limit": 1}).fetchall()
    counting = [str(row[3]) for row in plan if f"SEARCH {rows.table.strip(chr(34))} " in str(row[3])]
    # Both the search for the names and the counting itself: one that visits rows would be slower than by state.
    return bool(counting) and all("COVERING INDEX" in line for line in counting)


def _leads_an_index(database: apsw.Connection, table: str, column: str) -> bool:
    """Whether a whole (not partial) index starts with this column. Both are quoted names."""
    sql = (
        "SELECT l.name, i.name FROM pragma_index_list(?) AS l JOIN pragma_index_info(l.name) AS i "
        "WHERE i.seqno = 0 AND NOT l.partial"
    )
    rows = database.execute(sql, (table.strip('"'),)).fetchall()
    return any(name is not None and quoted(str(name)).lower() == column.lower() for _, name in rows)


@lru_cache(maxsize=64)
def _loaded(path: Path, _changed: int) -> Profile:
    return load(path)
