"""Where a profile's tables are in a database: names filled in from settings, patterns matched, what is missing. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from collectors.queue_profiles.expression import fill_name
from collectors.queue_profiles.schema import ProfileError, QueueProfile
from collectors.queue_profiles.settings import ProfileSettings
from collectors.queue_profiles.tables import DatabaseTable, DatabaseTables


@dataclass(frozen=True, slots=True)
class MatchedTable:
    """One table of the database that plays a part. `suffix`: what a pattern's `*` stands for; columns in lower case."""

    table: str
    suffix: str
    columns: frozenset[str]
    counts_inserts: bool = False


@dataclass(frozen=True, slots=True)
class TableMatch:
    """The tables by the name or pattern that the profile gives them, in lower case. `optional` names may have none."""

    found: Mapping[str, tuple[MatchedTable, ...]] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()

    def tables_named(self, name: str, settings: ProfileSettings) -> tuple[MatchedTable, ...]:
        """The tables that a part of the profile names. Raises ProfileError when `detect` and `also` do not."""
        key = fill_name(name, settings).lower()
        if key not in self.found:
            raise ProfileError(f"table {name!r} is not named in `detect`")
        return self.found[key]

    @property
    def readable_columns(self) -> dict[str, frozenset[str]]:
        """Table -> columns that the profile may read, in lower case."""
        readable: dict[str, frozenset[str]] = {}
        for places in self.found.values():
            for place in places:
                key = place.table.lower()
                readable[key] = readable.get(key, frozenset()) | place.columns
        return readable


def match_tables(profile: QueueProfile, settings: ProfileSettings, tables: DatabaseTables) -> TableMatch:
    """Look for the profile's tables; `lacking` says in sentences what a database must have and this one has not."""
    found: dict[str, tuple[MatchedTable, ...]] = {}
    lacking: list[str] = []
    patterns: list[str] = []
    for required, declared in ((True, profile.detect), (False, profile.also)):
        for name, columns in declared.items():
            table, wanted = fill_name(name, settings), _filled_columns(columns, settings)
            known = found.get(table.lower(), ())
            found[table.lower()] = _with_optional_columns(known, wanted, tables) or tuple(
                _matching_tables(table, wanted, tables)
            )
            if required and "*" in table:
                patterns.append(table)
            elif required and not found[table.lower()]:
                lacking.append(_describe_missing(table, wanted, tables))
    if patterns and not any(found[pattern.lower()] for pattern in patterns):
        lacking.append(f"it has no table like {', '.join(patterns)} with its columns")
    return TableMatch(found, tuple(lacking))


def declared_tables(profile: QueueProfile, settings: ProfileSettings) -> DatabaseTables:
    """The tables as the profile describes them, for looking at a profile without a database; `*` stands for itself."""
    tables: dict[str, DatabaseTable] = {}
    for name, columns in (*profile.detect.items(), *profile.also.items()):
        table = fill_name(name, settings)
        wanted = frozenset(map(str.lower, _filled_columns(columns, settings)))
        before = tables[table.lower()].columns if table.lower() in tables else frozenset()
        tables[table.lower()] = DatabaseTable(table, before | wanted, counts_inserts=True)
    return tables


def _filled_columns(columns: list[str], settings: ProfileSettings) -> tuple[str, ...]:
    """The columns by name; one whose setting is empty is not there."""
    return tuple(name for column in columns if (name := fill_name(column, settings)))


def _matching_tables(name: str, wanted: tuple[str, ...], tables: DatabaseTables) -> Iterator[MatchedTable]:
    columns = frozenset(map(str.lower, wanted))
    if "*" not in name:
        table = tables.get(name.lower())
        if table is not None and columns <= table.columns:
            yield MatchedTable(table.name, "", columns, table.counts_inserts)
        return
    before, _, after = name.partition("*")
    pattern = re.compile(f"{re.escape(before)}(.+){re.escape(after)}", re.IGNORECASE | re.DOTALL)
    for table in tables.values():
        match = pattern.fullmatch(table.name)
        if match is not None and columns <= table.columns:
            yield MatchedTable(table.name, match[1], columns, table.counts_inserts)


def _with_optional_columns(
    known: tuple[MatchedTable, ...], wanted: tuple[str, ...], tables: DatabaseTables
) -> tuple[MatchedTable, ...]:
    """Tables of `detect` with the columns that they may have besides, each where it has them all."""
    more = frozenset(map(str.lower, wanted))
    has = {place.table: more <= tables[place.table.lower()].columns for place in known}
    return tuple(replace(one, columns=one.columns | more) if has[one.table] else one for one in known)


def _describe_missing(name: str, wanted: tuple[str, ...], tables: DatabaseTables) -> str:
    table = tables.get(name.lower())
    if table is None:
        return f"it has no table {name}"
    lacking = [column for column in wanted if column.lower() not in table.columns]
    return f"table {name} has no column {', '.join(lacking)}"
