"""Gathers statistics for SQLite's query planner in short write transactions: for analyze and optimize.

`analysis_limit` bounds the rows that are visited for each index (https://sqlite.org/lang_analyze.html#approx), not the
counting of an index, so each transaction has a time limit as well: a table or index that does not fit is left unchanged
and reported.

Only `sqlite_stat1` may appear in the application's database. Our SQLite can also write `sqlite_stat4`, which the
application's may not be able to use: where there was none, there is none afterwards.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import apsw

from actions.model.context import ActionContext
from actions.model.errors import ActionError, Failed, Refused
from actions.model.plan import Done, Figure
from actions.sqlite.connection import open_writable, relax_commit_syncs
from actions.sqlite.interrupt import limit_statements
from actions.sqlite.naming import join_first
from actions.sqlite.pacing import delay_after_hold
from actions.sqlite.write_transaction import begin_write_transaction
from collectors.access.timeouts import TimeLimitExceeded
from collectors.queue_profiles.detection import detect_profile
from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.quoting import quote_identifier

# Rows visited for each index; SQLite's documentation recommends 100 to 1000.
ANALYSIS_LIMIT = 400
# How long to wait for the write lock, in seconds: waiting blocks no process.
LOCK_WAIT = 2.0


@dataclass(frozen=True, slots=True)
class AnalyzedTable:
    """One table. `left_out`: its indexes (or itself) that were not analyzed, each with why; `longest_hold` in seconds."""

    table: str
    left_out: tuple[str, ...]
    longest_hold: float


@dataclass(frozen=True, slots=True)
class AnalyzeProgress:
    """Tables until now: `done` in all, `complete` with every index, `left_out` with why; `longest_hold` of the write lock."""

    done: int = 0
    left_out: tuple[str, ...] = ()
    longest_hold: float = 0.0
    complete: int = 0

    def with_table(self, table: AnalyzedTable) -> "AnalyzeProgress":
        """The progress with one more table."""
        return replace(
            self,
            done=self.done + 1,
            left_out=(*self.left_out, *table.left_out),
            longest_hold=max(self.longest_hold, table.longest_hold),
            complete=self.complete + (not table.left_out),
        )


@dataclass(frozen=True, slots=True)
class _AnalyzeAttempt:
    """One try to analyze a table or an index. `trouble`: why nothing was gathered, empty when statistics were."""

    held: float
    trouble: str = ""


def ordinary_tables(connection: apsw.Connection) -> tuple[str, ...]:
    """The tables that statistics are gathered for: no views, no virtual tables, none of SQLite's own."""
    rows = connection.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow')"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    )
    return tuple(str(name) for (name,) in rows)


def require_statistics_allowed(context: ActionContext, connection: apsw.Connection) -> None:
    """Raises Refused where `sqlite_stat1` is missing and the queue's library refuses a file that has it."""
    try:
        profile = detect_profile(connection, context.target)
    except ProfileError as error:
        raise Refused(
            str(error),
            reason="profile",
            next_step="correct the profile: it says whether the library accepts a file with statistics",
        ) from error
    if profile is not None and not profile.statistics and not _has_table(connection, "sqlite_stat1"):
        raise Refused(
            f"the library of the profile {profile.name} refuses a file with SQLite's statistics in it",
            reason="statistics_unwelcome",
            next_step="leave it without: queues are read by index anyway",
        )


def accepted_hold(context: ActionContext) -> float:
    """How long one transaction may hold the write lock, in seconds."""
    return max(context.target.limits.write_lock, context.numeric_option("stall", 0.0))


def analyze_all(context: ActionContext, tables: tuple[str, ...]) -> Done:
    """Gather the statistics of these tables. Raises ActionError, apsw.Error."""
    progress = AnalyzeProgress()
    try:
        with open_writable(context.target.path, LOCK_WAIT) as connection:
            relax_commit_syncs(connection)
            for table in analyze_each_table(context, connection, tables, accepted_hold(context)):
                progress = progress.with_table(table)
                context.emit_progress("analyzed tables", progress.done, len(tables))
    except ActionError as error:
        error.figures = _analyze_figures(progress)
        raise
    return _analyze_result(context, progress)


def analyze_each_table(
    context: ActionContext, connection: apsw.Connection, tables: tuple[str, ...], longest: float
) -> Iterator[AnalyzedTable]:
    """Analyze table after table, each hold of the write lock at most `longest` seconds, with pauses in between.

    Raises ActionError, apsw.Error.
    """
    for table in tables:
        context.stop.raise_if_requested()
        analyzed = _analyze_table(context, connection, table, longest)
        yield analyzed
        context.stop.wait_for_stop(delay_after_hold(analyzed.longest_hold))


def _analyze_table(context: ActionContext, connection: apsw.Connection, table: str, longest: float) -> AnalyzedTable:
    """Analyze the whole table in one transaction; where that does not fit, index by index."""
    whole = _analyze_in_transaction(context, connection, table, table, longest)
    if not whole.trouble:
        return AnalyzedTable(table, (), whole.held)
    indexes = _index_names(connection, table)
    left_out = [] if indexes else [f"{table} ({whole.trouble})"]
    longest_hold = whole.held
    for index in indexes:
        context.stop.wait_for_stop(delay_after_hold(longest_hold))
        attempt = _analyze_in_transaction(context, connection, table, index, longest)
        longest_hold = max(longest_hold, attempt.held)
        if attempt.trouble:
            left_out.append(f"{index} ({attempt.trouble})")
    return AnalyzedTable(table, tuple(left_out), longest_hold)


def _analyze_in_transaction(
    context: ActionContext, connection: apsw.Connection, table: str, name: str, longest: float
) -> _AnalyzeAttempt:
    """Analyze a table or one of its indexes. What does not fit into `longest`, or cannot be analyzed, stays unchanged."""
    started = time.monotonic()
    try:
        with begin_write_transaction(connection, LOCK_WAIT) as transaction:
            _execute_analyze(context, connection, table, name, longest)
    except TimeLimitExceeded:
        return _AnalyzeAttempt(longest, f"longer than {longest:g} s")
    except apsw.SQLError as error:  # a collation or function that only the application's SQLite has
        return _AnalyzeAttempt(time.monotonic() - started, str(error))
    return _AnalyzeAttempt(transaction.held)


def _execute_analyze(
    context: ActionContext, connection: apsw.Connection, table: str, name: str, longest: float
) -> None:
    had_samples = _has_table(connection, "sqlite_stat4")
    is_sampled = had_samples and _has_samples(connection, table)
    connection.pragma("analysis_limit", 0 if is_sampled else ANALYSIS_LIMIT)  # a limit would lose its samples
    with limit_statements(context, connection, longest):
        connection.execute(f"ANALYZE main.{quote_identifier(name)}")
    if not had_samples and _has_table(connection, "sqlite_stat4"):
        connection.execute("DROP TABLE main.sqlite_stat4")


def _has_samples(connection: apsw.Connection, table: str) -> bool:
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_stat4 WHERE tbl = ?)", (table,)).get)


def _index_names(connection: apsw.Connection, table: str) -> tuple[str, ...]:
    return tuple(str(name) for (name,) in connection.execute("SELECT name FROM pragma_index_list(?)", (table,)))


def _has_table(connection: apsw.Connection, table: str) -> bool:
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?)", (table,)).get)


def _analyze_result(context: ActionContext, progress: AnalyzeProgress) -> Done:
    message = f"analyzed {progress.complete} of {progress.done} tables"
    if not progress.left_out:
        return Done(message, _analyze_figures(progress))
    message += f"; left unchanged: {join_first(progress.left_out)}"
    next_step = f"to hold the write lock longer than {accepted_hold(context):g} s, say --stall 2s"
    if not progress.complete:
        raise Failed(message, reason="left_out", next_step=next_step, figures=_analyze_figures(progress))
    return Done(f"{message} ({next_step})", _analyze_figures(progress))


def _analyze_figures(progress: AnalyzeProgress) -> dict[str, Figure]:
    return {
        "analyzed": progress.complete,
        "left_out": ", ".join(progress.left_out),
        "longest_hold_seconds": round(progress.longest_hold, 4),
    }
