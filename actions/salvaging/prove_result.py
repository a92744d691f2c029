"""Checks the new file as any other database: SQLite must find nothing wrong in what was built."""

from pathlib import Path

import apsw

from collectors.access.connection import open_immutable


def find_problems(path: Path) -> str:
    """What SQLite's integrity check reports of a file, the first problem; empty when it is whole."""
    try:
        with open_immutable(path) as connection:
            problem = connection.execute("PRAGMA integrity_check(1)").get
    except apsw.Error as error:
        return str(error)
    return "" if problem == "ok" else str(problem)
