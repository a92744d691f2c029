"""Tells what SQLite's integrity check does not: sequences that went back, foreign keys that point to no row. None is damage.

Each statement is short: run them under a time limit.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import apsw

from actions.model.context import ActionContext
from actions.model.plan import Figure
from actions.sqlite.interrupt import limit_statements
from collectors.access.timeouts import TimeLimitExceeded
from collectors.queue_profiles.quoting import quote_identifier

_TABLES_WITH_KEYS = """
SELECT DISTINCT t.name FROM pragma_table_list AS t JOIN pragma_foreign_key_list(t.name)
WHERE t.schema = 'main' AND t.type = 'table' ORDER BY t.name
"""
# The key of an AUTOINCREMENT table by its own name: a column of another meaning may be called rowid.
_KEY_COLUMN = "SELECT name FROM pragma_table_info(?) WHERE pk = 1"
# Rows with dangling keys are counted up to this number.
MAX_COUNTED_ROWS = 1000


@dataclass(frozen=True, slots=True)
class QueueCheckResult:
    """The result of a check of rows. `notes`: what is no damage by itself and may be the application's own doing.

    `numbers`: the last number of each AUTOINCREMENT table, as text with which the next check compares.
    """

    notes: tuple[str, ...]
    numbers: str


def check_queue_rows(
    context: ActionContext, connection: apsw.Connection, longest: float | None, remembered: Figure
) -> QueueCheckResult:
    """Check sequences and keys; no read lasts longer than `longest` seconds. Raises ActionError, apsw.Error."""
    # One snapshot: else a row inserted between two statements would lie beyond its sequence.
    with limit_statements(context, connection, longest), in_one_snapshot(connection):
        numbers = read_sequences(connection)
        beyond = tuple(find_rows_beyond_sequence(connection, numbers))
        keyed = tables_with_foreign_keys(connection)
    notes = [
        *beyond,
        *find_sequence_regressions(numbers, remembered),
        *(_foreign_key_note(context, connection, table, longest) for table in keyed),
    ]
    return QueueCheckResult(tuple(note for note in notes if note), _encode_sequences(numbers))


@contextmanager
def in_one_snapshot(connection: apsw.Connection) -> Iterator[None]:
    """Have all reads of the block see the same commit."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _foreign_key_note(context: ActionContext, connection: apsw.Connection, table: str, longest: float | None) -> str:
    try:
        with limit_statements(context, connection, longest):
            return describe_dangling_keys(connection, table)
    except TimeLimitExceeded:
        return f"the foreign keys of {table} were not checked: longer than {longest:g} s"
    except apsw.SQLError as error:  # a key whose parent column is not unique
        return f"the foreign keys of {table} cannot be checked: {error}"


def read_sequences(connection: apsw.Connection) -> Mapping[str, int]:
    """The last number that each AUTOINCREMENT table gave. Raises apsw.Error."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'").fetchall():
        return {}
    rows = connection.execute("SELECT name, seq FROM sqlite_sequence WHERE typeof(seq) = 'integer'").fetchall()
    return {str(table): int(str(last)) for table, last in rows}


def find_rows_beyond_sequence(connection: apsw.Connection, numbers: Mapping[str, int]) -> Iterator[str]:
    """Describe rows beyond the last number of their table. AUTOINCREMENT makes none, but an application may move its keys
    or reset the number (https://sqlite.org/autoinc.html): the next row is numbered above the largest one either way.
    """
    for table, last in numbers.items():
        keys = connection.execute(_KEY_COLUMN, (table,)).fetchall()
        if len(keys) != 1:
            continue
        key = quote_identifier(str(keys[0][0]))
        largest = connection.execute(f"SELECT max({key}) FROM {quote_identifier(table)}").get  # noqa: S608 quoted
        if isinstance(largest, int) and largest > last:
            yield f"table {table} has row {largest} beyond its sequence {last}: keys were moved, or the sequence was set back"


def find_sequence_regressions(numbers: Mapping[str, int], remembered: Figure) -> Iterator[str]:
    """Describe tables whose last number is lower than before: commits were lost, or the application set it back.

    `remembered`: the former numbers as `_encode_sequences` wrote them.
    """
    former: Mapping[str, int] = json.loads(str(remembered)) if remembered else {}
    for table, last in numbers.items():
        if last < former.get(table, 0):
            back = f"the sequence of {table} went back from {former[table]} to {last}"
            yield f"{back}: commits were lost (a restore, a crash), or it was reset"


def tables_with_foreign_keys(connection: apsw.Connection) -> tuple[str, ...]:
    """The tables that declare foreign keys. Raises apsw.Error."""
    return tuple(str(name) for (name,) in connection.execute(_TABLES_WITH_KEYS))


def describe_dangling_keys(connection: apsw.Connection, table: str) -> str:
    """A sentence about rows whose foreign key points nowhere, empty when there are none. Raises apsw.Error.

    SQLite enforces foreign keys only for applications that switch it on, so this need not be damage.
    """
    rows = connection.execute(f"PRAGMA foreign_key_check({quote_identifier(table)})")
    parents: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        parents[str(row[2])] = parents.get(str(row[2]), 0) + 1
        if number == MAX_COUNTED_ROWS:
            break
    if not parents:
        return ""
    count = sum(parents.values())
    more = " or more" if count == MAX_COUNTED_ROWS else ""
    return f"{count}{more} rows of {table} point to rows of {', '.join(sorted(parents))} that are not there"


def _encode_sequences(numbers: Mapping[str, int]) -> str:
    """The numbers as text for the figures of a run."""
    return json.dumps(dict(numbers), ensure_ascii=False)
