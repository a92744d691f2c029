"""Reads what the collectors of one poll want to know in one statement, so that their values belong to one moment.

SQLite holds its read lock while a statement runs. Python waits for its interpreter lock after every call of SQLite, and
where other threads of the process compute, each of these waits is longer than the call: in a transaction of several
statements they would all be spent with the lock held, out of reach of `interrupt()`. So one statement copies the rows of
all of them into a table in memory. No Python code runs during it, and its end releases the lock.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import apsw

from collectors.queue_profiles.authorizer import AccessRules, allow_preparing, join_access_rules
from collectors.queue_profiles.holder_liveness import FUNCTION_NAME
from collectors.queue_profiles.statement import BoundStatement

Rows = list[tuple[Any, ...]]
# A table of ours in the memory of the connection, which the application's file has nothing to do with.
_TABLE = "queuekeeper_shared_rows"
_PARAMETER = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`|\[[^]]*\]|:(\w+)""")


class _Part(NamedTuple):
    """One of the statements, which gives rows of `width` columns."""

    sql: str
    width: int
    access: AccessRules


class _CombinedStatement(NamedTuple):
    """The one statement, and what it may access."""

    sql: str
    width: int
    access: AccessRules


class SharedReads:
    """The statements that one poll shares, and their rows once they were read. Any other statement is run by itself."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self._expected: dict[object, tuple[BoundStatement, int]] = {}
        self._rows: dict[object, Rows] = {}
        self._is_noting = False

    def expect(self, read: Callable[["SharedReads"], object]) -> None:
        """Note the statements that `read` fetches. It is run with no rows at all, and its result is not used."""
        self._is_noting = True
        try:
            read(self)
        finally:
            self._is_noting = False

    def fetch_rows(self, bound: BoundStatement, width: int) -> Rows | None:
        """The rows of a statement that were read with the others; None when it has to be run by itself."""
        key = (bound.sql, tuple(bound.values.items()))
        if not self._is_noting:
            return self._rows.get(key)
        if FUNCTION_NAME not in bound.sql:  # it runs Python code for every row
            self._expected[key] = (bound, width)
        return []

    def read_expected(self, before_step: Callable[[], object]) -> None:
        """Read the rows of all expected statements. `before_step` is called right before the lock is taken.

        Raises apsw.Error, ProfileError.
        """
        if not self._expected:
            return
        parts = tuple(_Part(bound.sql, width, bound.access) for bound, width in self._expected.values())
        combined = _combine_statements(parts)
        values = {
            f"part{i}_{name}": value
            for i, (bound, _) in enumerate(self._expected.values())
            for name, value in bound.values.items()
        }
        columns = ", ".join(f"c{i}" for i in range(combined.width))
        self.connection.execute(f"PRAGMA temp_store = MEMORY; CREATE TEMP TABLE {_TABLE} (part, {columns})")
        self._copy_rows(combined, values, before_step)
        rows: list[Rows] = [[] for _ in parts]
        copied: Rows = self.connection.execute(f"SELECT * FROM temp.{_TABLE} ORDER BY rowid").fetchall()  # noqa: S608
        for number, *row in copied:
            rows[number].append(tuple(row[: parts[number].width]))
        self._rows = dict(zip(self._expected, rows, strict=True))

    def _copy_rows(
        self, combined: _CombinedStatement, values: dict[str, Any], before_step: Callable[[], object]
    ) -> None:
        """Without the authorizer during the step: a pragma's table compiles a statement then, and would call it."""
        cursor = self.connection.cursor()

        def prepared(*_: object) -> bool:
            self.connection.authorizer = None
            before_step()
            return True

        cursor.exec_trace = prepared
        with allow_preparing(self.connection, combined.access, _TABLE):
            cursor.execute(combined.sql, values)


@lru_cache(maxsize=256)
def _combine_statements(parts: tuple[_Part, ...]) -> _CombinedStatement:
    width = max(part.width for part in parts)
    selects = (
        f"SELECT {i}, *{', NULL' * (width - part.width)} FROM ({_name_parameters(part.sql, i)})"  # noqa: S608
        for i, part in enumerate(parts)
    )
    sql = f"INSERT INTO temp.{_TABLE} {' UNION ALL '.join(selects)}"
    return _CombinedStatement(sql, width, join_access_rules(part.access for part in parts))


def _name_parameters(sql: str, number: int) -> str:
    """The SQL with parameters of its own: two statements may use one name for two values."""
    return _PARAMETER.sub(lambda match: f":part{number}_{match[1]}" if match[1] else match[0], sql)
