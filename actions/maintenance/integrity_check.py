"""Runs integrity_check and quick_check, whole or table by table, each read as short as the live application allows.

A quick check leaves out whether indexes hold what their tables hold (https://sqlite.org/pragma.html#pragma_quick_check). Of
a single table neither looks at the list of free pages: the check of `sqlite_schema` does. Only a check of the whole file
finds pages that nobody uses or two tables share.
"""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import apsw

from actions.model.context import ActionContext
from actions.sqlite.connection import uses_rollback_journal
from actions.sqlite.disk_space import size_or_zero
from actions.sqlite.interrupt import limit_statements
from actions.sqlite.low_priority import lower_priority
from actions.sqlite.wal_budget import limit_wal_growth
from collectors.access.timeouts import TimeLimitExceeded
from collectors.queue_profiles.quoting import quote_identifier

# Bytes checked per second from the page cache: a guess that the time limit of each read corrects (docs/safety.md).
QUICK_CHECK_RATE = 400e6
FULL_CHECK_RATE = 100e6
MOST_PROBLEMS = 10
WHOLE_FILE = "the whole file"
# SQLite says so instead of rows where the damage keeps it from going on.
DAMAGE_ERRORS = (apsw.CorruptError, apsw.NotADBError)
TRIES = 5
RETRY_PAUSE = 0.1
_SELECT_TREES = "SELECT type, name, rootpage FROM sqlite_schema WHERE rootpage > 0"


def predicted_check_seconds(size: int, *, full: bool) -> float:
    """How many seconds a check of `size` bytes takes, since it reads every page.

    Beside a live application one read may last limits.read_wal (it keeps the WAL from being reset) or
    limits.read_rollback (every commit waits for it). A file that takes longer is large, and is checked on a copy.
    """
    return size / (FULL_CHECK_RATE if full else QUICK_CHECK_RATE)


@dataclass(frozen=True, slots=True)
class CheckReport:
    """`problems` as SQLite words them; `unchecked`: what could not be, each with why; `longest`: seconds of one read.

    `whole`: every page was looked at, so nothing can be wrong that such a check finds.
    """

    problems: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    parts: int = 0
    longest: float = 0.0
    whole: bool = False

    def with_part(self, other: "CheckReport") -> "CheckReport":
        """Both together."""
        return CheckReport(
            (*self.problems, *other.problems)[:MOST_PROBLEMS],
            (*self.unchecked, *other.unchecked),
            self.parts + other.parts,
            max(self.longest, other.longest),
            self.whole or other.whole,
        )


def check_copy(work: ActionContext, connection: apsw.Connection, *, full: bool) -> CheckReport:
    """Check a file that nobody writes, in one piece. Raises Cancelled, Interrupted, apsw.Error."""
    started = time.monotonic()
    with limit_statements(work, connection), lower_priority():
        problems = _find_problems(connection, WHOLE_FILE, full=full)
        if _is_vague(problems):
            problems += tuple(
                found for table in _table_names(connection) for found in _find_problems(connection, table, full=False)
            )
    return CheckReport(problems[:MOST_PROBLEMS], (), 1, time.monotonic() - started, whole=True)


def check_live(
    work: ActionContext, connection: apsw.Connection, longest: float, *, full: bool
) -> Iterator[CheckReport]:
    """Check the live file, yielding each part; no read lasts longer than `longest` seconds.

    In one piece where that fits, else table by table; of a full check the whole file at least quickly.
    Raises ActionError, apsw.Error.
    """
    size = work.target.path.stat().st_size
    whole = _check_whole(work, connection, size, longest, full=full)
    yield whole
    if whole.whole and not _is_vague(whole.problems):
        return
    for table in _table_names(connection):
        part = _check_part(work, connection, table, longest, full=full)
        yield part
        work.stop.wait_for_stop(part.longest)
    if full and not whole.whole:
        yield _check_whole(work, connection, size, longest, full=False)


def _check_whole(
    work: ActionContext, connection: apsw.Connection, size: int, longest: float, *, full: bool
) -> CheckReport:
    """One read of everything; an empty report where that is not expected to fit, or did not."""
    if predicted_check_seconds(size, full=full) > longest:
        return CheckReport()
    done = _check_part(work, connection, WHOLE_FILE, longest, full=full)
    return replace(done, unchecked=(), whole=not done.unchecked)


def _is_vague(problems: tuple[str, ...]) -> bool:
    """Something is so damaged that SQLite could not go on to say where."""
    return len(problems) == 1 and problems[0].startswith(WHOLE_FILE)


def _table_names(connection: apsw.Connection) -> tuple[str, ...]:
    """Every table, first the schema with the list of free pages."""
    rows = connection.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow', 'virtual')"
        " ORDER BY name <> 'sqlite_schema', name"
    )
    return tuple(str(name) for (name,) in rows)


def _check_part(
    work: ActionContext, connection: apsw.Connection, what: str, longest: float, *, full: bool
) -> CheckReport:
    started = time.monotonic()
    before = size_or_zero(work.target.wal)
    try:
        with (
            limit_wal_growth(work, before, connection, "check"),
            limit_statements(work, connection, longest),
            _low_priority_read(work),
        ):
            problems = _retry_check(work, connection, what, full=full)
    except TimeLimitExceeded:
        return CheckReport(unchecked=(f"{what} (longer than {longest:g} s)",), parts=1, longest=longest)
    except apsw.SQLError as error:  # a collation or function that only the application's SQLite has
        return CheckReport(unchecked=(f"{what} ({error})",), parts=1)
    return CheckReport(problems, (), 1, time.monotonic() - started)


def _low_priority_read(work: ActionContext) -> AbstractContextManager[None]:
    """A read of a rollback-journal database is waited for by every commit: that one must not be slow."""
    return nullcontext() if uses_rollback_journal(work) else lower_priority()


def _retry_check(work: ActionContext, connection: apsw.Connection, what: str, *, full: bool) -> tuple[str, ...]:
    """In rollback-journal mode a writer keeps readers out for moments."""
    for _ in range(TRIES):
        try:
            return _find_problems(connection, what, full=full)
        except apsw.BusyError:
            work.stop.wait_for_stop(RETRY_PAUSE)
            work.stop.raise_if_requested()
    return _find_problems(connection, what, full=full)


def _find_problems(connection: apsw.Connection, what: str, *, full: bool) -> tuple[str, ...]:
    """What SQLite finds in the whole file or in a table of its schema."""
    argument = str(MOST_PROBLEMS) if what == WHOLE_FILE else quote_identifier(what)
    try:
        said = [
            str(text) for (text,) in connection.execute(f"PRAGMA {'integrity' if full else 'quick'}_check({argument})")
        ]
    except DAMAGE_ERRORS as error:
        seen_quickly = _find_problems(connection, what, full=False) if full else ()
        return seen_quickly or (f"{what}: {error}",)
    if said == ["ok"]:
        return ()
    trees = {str(root): f"{kind} {name}" for kind, name, root in connection.execute(_SELECT_TREES)}
    return tuple(_describe_problem(text, trees) for text in said[:MOST_PROBLEMS])


def _describe_problem(text: str, trees: Mapping[str, str]) -> str:
    """In one line, without the heading that SQLite puts before the first; a tree by the name of what it is."""
    line = "; ".join(line for line in text.splitlines() if not line.startswith("***"))
    return re.sub(r"\bTree (\d+)\b", lambda found: trees.get(found[1], found[0]), line)
