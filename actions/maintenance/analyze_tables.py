"""Statistics for SQLite's query planner, gathered in short turns under the write lock.

`analysis_limit` bounds the rows that are visited for each index (https://sqlite.org/lang_analyze.html#approx), not the
counting of an index, so each turn has a time limit as well: what does not fit is left as it was and told.

Only `sqlite_stat1` may appear in the application's database. Our SQLite can also write `sqlite_stat4`, which the
application's may not know what to do with: where there was none, there is none afterwards.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import apsw

from actions.model.context import ActionContext
from actions.model.errors import Refused
from actions.sqlite.interrupt import limit_statements
from actions.sqlite.naming import quote_identifier
from actions.sqlite.pacing import delay_after_hold
from actions.sqlite.write_transaction import begin_write_transaction
from collectors.access.timeouts import TimeLimitExceeded
from collectors.queue_profiles.detection import detect_profile
from collectors.queue_profiles.schema import ProfileError

# Rows visited for each index; SQLite's documentation recommends 100 to 1000.
ANALYSIS_LIMIT = 400
# How long to wait for the write lock: waiting holds nobody up.
LOCK_WAIT = 2.0


@dataclass(frozen=True, slots=True)
class AnalyzedTable:
    """One table. `left_out`: its indexes (or itself) that could not be, each with why; `longest_hold` in seconds."""

    table: str
    left_out: tuple[str, ...]
    longest_hold: float


@dataclass(frozen=True, slots=True)
class _AnalyzeTurn:
    """`trouble`: why nothing was gathered, empty when it was."""

    held: float
    trouble: str = ""


def ordinary_tables(connection: apsw.Connection) -> tuple[str, ...]:
    """The tables that statistics are gathered for: no views, no virtual tables, none of SQLite's own."""
    rows = connection.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow')"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    )
    return tuple(str(name) for (name,) in rows)


def require_statistics_allowed(work: ActionContext, connection: apsw.Connection) -> None:
    """Raises Refused where `sqlite_stat1` is missing and the queue's library refuses a file that has it."""
    try:
        profile = detect_profile(connection, work.target)
    except ProfileError as error:
        raise Refused(
            str(error), reason="profile", next_step="mend the profile: it says whether the library bears statistics"
        ) from error
    if profile is not None and not profile.statistics and not _has_table(connection, "sqlite_stat1"):
        raise Refused(
            f"the library of the profile {profile.name} refuses a file with SQLite's statistics in it",
            reason="statistics_unwelcome",
            next_step="leave it without: queues are read by index anyway",
        )


def analyze_each_table(
    work: ActionContext, connection: apsw.Connection, tables: tuple[str, ...], longest: float
) -> Iterator[AnalyzedTable]:
    """Analyze table after table, holding the write lock for at most `longest` seconds each time; rests in between.

    Raises ActionError, apsw.Error.
    """
    for table in tables:
        work.stop.raise_if_requested()
        done = _analyze_table(work, connection, table, longest)
        yield done
        work.stop.wait_for_stop(delay_after_hold(done.longest_hold))


def _analyze_table(work: ActionContext, connection: apsw.Connection, table: str, longest: float) -> AnalyzedTable:
    """The whole table in one turn; else index by index."""
    whole = _analyze_in_transaction(work, connection, table, table, longest)
    if not whole.trouble:
        return AnalyzedTable(table, (), whole.held)
    indexes = _index_names(connection, table)
    left_out = [] if indexes else [f"{table} ({whole.trouble})"]
    longest_hold = whole.held
    for index in indexes:
        work.stop.wait_for_stop(delay_after_hold(longest_hold))
        turn = _analyze_in_transaction(work, connection, table, index, longest)
        longest_hold = max(longest_hold, turn.held)
        if turn.trouble:
            left_out.append(f"{index} ({turn.trouble})")
    return AnalyzedTable(table, tuple(left_out), longest_hold)


def _analyze_in_transaction(
    work: ActionContext, connection: apsw.Connection, table: str, what: str, longest: float
) -> _AnalyzeTurn:
    """Analyze a table or one of its indexes. What does not fit into `longest`, or cannot be, is left as it was."""
    started = time.monotonic()
    try:
        with begin_write_transaction(connection, LOCK_WAIT) as turn:
            _execute_analyze(work, connection, table, what, longest)
    except TimeLimitExceeded:
        return _AnalyzeTurn(longest, f"longer than {longest:g} s")
    except apsw.SQLError as error:  # a collation or function that only the application's SQLite has
        return _AnalyzeTurn(time.monotonic() - started, str(error))
    return _AnalyzeTurn(turn.held)


def _execute_analyze(work: ActionContext, connection: apsw.Connection, table: str, what: str, longest: float) -> None:
    had_samples = _has_table(connection, "sqlite_stat4")
    sampled = had_samples and _has_samples(connection, table)
    connection.pragma("analysis_limit", 0 if sampled else ANALYSIS_LIMIT)  # a limit would lose its samples
    with limit_statements(work, connection, longest):
        connection.execute(f"ANALYZE main.{quote_identifier(what)}")
    if not had_samples and _has_table(connection, "sqlite_stat4"):
        connection.execute("DROP TABLE main.sqlite_stat4")


def _has_samples(connection: apsw.Connection, table: str) -> bool:
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_stat4 WHERE tbl = ?)", (table,)).get)


def _index_names(connection: apsw.Connection, table: str) -> tuple[str, ...]:
    return tuple(str(name) for (name,) in connection.execute("SELECT name FROM pragma_index_list(?)", (table,)))


def _has_table(connection: apsw.Connection, table: str) -> bool:
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?)", (table,)).get)
