"""Where a profile's tables are in a database: names filled in from settings, patterns matched, what is missing."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import apsw

from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.expression import fill_name
from collectors.queue_profiles.schema import QueueProfile
from collectors.queue_profiles.settings import ProfileSettings


@dataclass(frozen=True, slots=True)
class DatabaseTable:
    """One ordinary table; `columns` in lower case. `has_autoincrement`: so the sequence of its row numbers never goes back."""

    name: str
    columns: frozenset[str]
    has_autoincrement: bool


DatabaseTables = Mapping[str, DatabaseTable]  # by name in lower case, as SQLite compares names


@dataclass(frozen=True, slots=True)
class MatchedTable:
    """A table of the database that the profile names. `suffix`: what the `*` of a pattern matched; columns in lower case."""

    name: str
    suffix: str
    columns: frozenset[str]
    has_autoincrement: bool = False


@dataclass(frozen=True, slots=True)
class TableMatch:
    """The tables by the name or pattern that the profile gives them, in lower case; a name of `also` may have none.

    `missing`: sentences about what the profile requires and the database does not have.
    """

    tables: Mapping[str, tuple[MatchedTable, ...]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def tables_named(self, name: str, settings: ProfileSettings) -> tuple[MatchedTable, ...]:
        """The tables that a part of the profile names. Raises ProfileError when `detect` and `also` do not name it."""
        key = fill_name(name, settings).lower()
        if key not in self.tables:
            raise ProfileError(f"table {name!r} is not named in `detect`")
        return self.tables[key]

    @property
    def readable_columns(self) -> dict[str, frozenset[str]]:
        """Table -> columns that the profile may read, in lower case."""
        readable: dict[str, frozenset[str]] = {}
        for tables in self.tables.values():
            for table in tables:
                key = table.name.lower()
                readable[key] = readable.get(key, frozenset()) | table.columns
        return readable


def read_tables(database: apsw.Connection) -> DatabaseTables:
    """Read every ordinary table with its columns, in one statement. Raises apsw.Error.

    Views are no queues; a virtual table (root page 0) may need a module that only the application has.
    """
    rows = database.execute(
        "SELECT s.name, s.sql, c.name FROM sqlite_schema AS s JOIN pragma_table_xinfo(s.name) AS c "
        "WHERE s.type = 'table' AND s.rootpage > 0 AND s.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ).fetchall()
    columns_of: dict[str, set[str]] = {}
    autoincrement: dict[str, bool] = {}
    for table, sql, column in rows:
        columns_of.setdefault(str(table), set()).add(str(column).lower())
        autoincrement[str(table)] = re.search(r"\bAUTOINCREMENT\b", str(sql), re.IGNORECASE) is not None
    return {
        name.lower(): DatabaseTable(name, frozenset(columns), autoincrement[name])
        for name, columns in columns_of.items()
    }


def match_tables(profile: QueueProfile, settings: ProfileSettings, tables: DatabaseTables) -> TableMatch:
    """Find the profile's tables among those of a database."""
    matched: dict[str, tuple[MatchedTable, ...]] = {}
    missing: list[str] = []
    patterns: list[str] = []
    for required, declared in ((True, profile.detect), (False, profile.also)):
        for name, names in declared.items():
            table, columns = fill_name(name, settings), _filled_columns(names, settings)
            known = matched.get(table.lower(), ())
            matched[table.lower()] = _with_optional_columns(known, columns, tables) or tuple(
                _matching_tables(table, columns, tables)
            )
            if required and "*" in table:
                patterns.append(table)
            elif required and not matched[table.lower()]:
                missing.append(_describe_missing(table, columns, tables))
    if patterns and not any(matched[pattern.lower()] for pattern in patterns):
        missing.append(f"it has no table like {', '.join(patterns)} with its columns")
    return TableMatch(matched, tuple(missing))


def declared_tables(profile: QueueProfile, settings: ProfileSettings) -> DatabaseTables:
    """The tables as the profile describes them, to compile it without a database; `*` stands for itself."""
    tables: dict[str, DatabaseTable] = {}
    for name, names in (*profile.detect.items(), *profile.also.items()):
        table = fill_name(name, settings)
        columns = frozenset(map(str.lower, _filled_columns(names, settings)))
        known = tables[table.lower()].columns if table.lower() in tables else frozenset()
        tables[table.lower()] = DatabaseTable(table, known | columns, has_autoincrement=True)
    return tables


def _filled_columns(names: list[str], settings: ProfileSettings) -> tuple[str, ...]:
    """The declared columns by name, without those whose setting is empty."""
    return tuple(filled for name in names if (filled := fill_name(name, settings)))


def _matching_tables(name: str, declared: tuple[str, ...], tables: DatabaseTables) -> Iterator[MatchedTable]:
    columns = frozenset(map(str.lower, declared))
    if "*" not in name:
        table = tables.get(name.lower())
        if table is not None and columns <= table.columns:
            yield MatchedTable(table.name, "", columns, table.has_autoincrement)
        return
    before, _, after = name.partition("*")
    pattern = re.compile(f"{re.escape(before)}(.+){re.escape(after)}", re.IGNORECASE | re.DOTALL)
    for table in tables.values():
        match = pattern.fullmatch(table.name)
        if match is not None and columns <= table.columns:
            yield MatchedTable(table.name, match[1], columns, table.has_autoincrement)


def _with_optional_columns(
    matched: tuple[MatchedTable, ...], optional: tuple[str, ...], tables: DatabaseTables
) -> tuple[MatchedTable, ...]:
    """The tables of `detect` with their optional columns, each where the database has them all."""
    columns = frozenset(map(str.lower, optional))
    return tuple(
        replace(table, columns=table.columns | columns) if columns <= tables[table.name.lower()].columns else table
        for table in matched
    )


def _describe_missing(name: str, declared: tuple[str, ...], tables: DatabaseTables) -> str:
    table = tables.get(name.lower())
    if table is None:
        return f"it has no table {name}"
    columns = [column for column in declared if column.lower() not in table.columns]
    return f"table {name} has no column {', '.join(columns)}"
