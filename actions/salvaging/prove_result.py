"""Checks the new file as any other database: SQLite must find nothing wrong in what was built.

A virtual table is judged by its own module, which sees the rows that its tables lost: that is told, and no fault of the file.
"""

from dataclasses import dataclass
from pathlib import Path

import apsw

from collectors.access.connection import open_immutable
from collectors.queue_profiles.quoting import quote_identifier


@dataclass(frozen=True, slots=True)
class ResultProof:
    """`problem`: what is wrong with the file, empty when it is whole. `notes`: what modules say of their virtual tables."""

    problem: str
    notes: tuple[str, ...] = ()


def prove_result(path: Path) -> ResultProof:
    """What SQLite's integrity check reports of the file; of each table by itself where it has virtual ones."""
    try:
        with open_immutable(path) as connection:
            virtual = connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage = 0"
            ).fetchall()
            if not virtual:
                return ResultProof(_check_whole(connection))
            stored = connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0"
            ).fetchall()
            problems = (_check_table(connection, str(name)) for (name,) in stored)
            problem = next((words for words in problems if words), "")
            checked = ((str(name), _check_table(connection, str(name))) for (name,) in virtual)
            notes = (
                f"virtual table {name}: {words}; have the application rebuild it" for name, words in checked if words
            )
            return ResultProof(problem, tuple(notes))
    except apsw.Error as error:
        return ResultProof(str(error))


def _check_whole(connection: apsw.Connection) -> str:
    problem = str(connection.execute("PRAGMA integrity_check(1)").get)
    return "" if problem == "ok" else problem


def _check_table(connection: apsw.Connection, name: str) -> str:
    try:
        problem = str(connection.execute(f"PRAGMA integrity_check({quote_identifier(name)})").get)
    except apsw.Error as error:
        return str(error)
    return "" if problem == "ok" else problem
