"""Checks as much of a file as can be checked here: an application may have collations, functions and tokenizers of its own.

`integrity_check` gives up where an index needs one of them, and that says nothing about the pages. So then the structure of
all pages is checked by a quick check, which compares no keys, on a connection with a stand-in for each collation and without
virtual tables; then each table is checked for itself, and those that cannot be are named.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import apsw

from actions.backups.check_messages import is_about_rows, is_missing_extension
from collectors.queue_profiles.quoting import quote_identifier

OpenConnection = Callable[[], AbstractContextManager[apsw.Connection]]
_TABLES = (
    "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow', 'virtual') ORDER BY name"
)


@dataclass(frozen=True, slots=True)
class ProvableCheck:
    """`problems`: damage in SQLite's words; `unchecked`: what only the application can judge, each with why."""

    problems: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


def check_provable(open_connection: OpenConnection, most: int = 3) -> ProvableCheck:
    """Check a file that no process writes; at most so many problems. Raises apsw.Error where SQLite cannot read it."""
    with open_connection() as connection:
        try:
            return _judge_lines(str(line) for (line,) in connection.execute(f"PRAGMA integrity_check({int(most)})"))
        except apsw.SQLError:
            pass
    with open_connection() as connection:
        structure = check_structure(connection, most)
    with open_connection() as connection:
        parts = [_check_table(connection, str(name)) for (name,) in connection.execute(_TABLES).fetchall()]
    problems = (*structure, *(text for part in parts for text in part.problems))
    return ProvableCheck(
        tuple(dict.fromkeys(problems))[:most], tuple(text for part in parts for text in part.unchecked)
    )


def check_structure(connection: apsw.Connection, most: int) -> tuple[str, ...]:
    """Check all pages but not the order of keys, on a connection that serves for nothing else. Raises apsw.Error."""
    stand_in_for_extensions(connection)
    connection.drop_modules(None)
    lines = (str(line) for (line,) in connection.execute(f"PRAGMA quick_check({int(most)})"))
    return _judge_lines(lines).problems


def stand_in_for_extensions(connection: apsw.Connection) -> None:
    """Have an unknown collation compare bytes: enough to count rows and to walk pages, never to judge the order of keys."""
    connection.collation_needed(lambda asking, name: asking.create_collation(name, _compare_texts))


def _compare_texts(one: str, other: str) -> int:
    return (one > other) - (one < other)


def _check_table(connection: apsw.Connection, table: str) -> ProvableCheck:
    try:
        return _judge_lines(
            str(line) for (line,) in connection.execute(f"PRAGMA integrity_check({quote_identifier(table)})")
        )
    except apsw.SQLError as error:
        return ProvableCheck(unchecked=(f"{table} ({error})",))


def _judge_lines(lines: Iterable[str]) -> ProvableCheck:
    """Damage apart from what is none: rows that break a declared rule are copied as they are, an extension is missing."""
    known = [line for line in lines if line != "ok"]
    unchecked = [line for line in known if is_missing_extension(line) or is_about_rows(line)]
    return ProvableCheck(tuple(line for line in known if line not in unchecked), tuple(unchecked))


def count_rows(connection: apsw.Connection, tables: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Each table with its number of rows, also where an index has a collation that is not known here. Raises apsw.Error."""
    for table in tables:
        try:
            yield table, int(str(connection.execute(f"SELECT count(*) FROM {quote_identifier(table)}").get))  # noqa: S608
        except apsw.SQLError:
            stand_in_for_extensions(connection)
            yield table, int(str(connection.execute(f"SELECT count(*) FROM {quote_identifier(table)}").get))  # noqa: S608
