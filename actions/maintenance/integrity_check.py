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

from actions.backups.content_proof import quoted
from actions.model.context import Work
from actions.policy.check_duration import predicted_seconds
from actions.sqlite.disk_space import size_or_zero
from actions.sqlite.interrupt import bounded
from actions.sqlite.journal import is_rollback
from actions.sqlite.low_priority import in_the_background
from actions.sqlite.wal_budget import within_budget
from collectors.access.timeouts import TimeLimitExceeded

SHOWN = 10
WHOLE = "the whole file"
# SQLite says so instead of rows where the damage keeps it from going on.
DAMAGE = (apsw.CorruptError, apsw.NotADBError)
TRIES = 5
REST = 0.1
_TREES = "SELECT type, name, rootpage FROM sqlite_schema WHERE rootpage > 0"


@dataclass(frozen=True, slots=True)
class Report:
    """`problems` as SQLite words them; `unchecked`: what could not be, each with why; `longest`: seconds of one read.

    `whole`: every page was looked at, so nothing can be wrong that such a check finds.
    """

    problems: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    parts: int = 0
    longest: float = 0.0
    whole: bool = False

    def plus(self, other: "Report") -> "Report":
        """Both together."""
        return Report(
            (*self.problems, *other.problems)[:SHOWN],
            (*self.unchecked, *other.unchecked),
            self.parts + other.parts,
            max(self.longest, other.longest),
            self.whole or other.whole,
        )


def check_copy(work: Work, connection: apsw.Connection, *, full: bool) -> Report:
    """Check a file that nobody writes, in one piece. Raises Cancelled, Interrupted, apsw.Error."""
    started = time.monotonic()
    with bounded(work, connection), in_the_background():
        problems = _problems(connection, WHOLE, full=full)
        if _vague(problems):
            problems += tuple(
                found for table in _tables(connection) for found in _problems(connection, table, full=False)
            )
    return Report(problems[:SHOWN], (), 1, time.monotonic() - started, whole=True)


def check_live(work: Work, connection: apsw.Connection, longest: float, *, full: bool) -> Iterator[Report]:
    """Check the live file, yielding each part; no read lasts longer than `longest` seconds.

    In one piece where that fits, else table by table; of a full check the whole file at least quickly.
    Raises ActionError, apsw.Error.
    """
    size = work.target.path.stat().st_size
    whole = _whole(work, connection, size, longest, full=full)
    yield whole
    if whole.whole and not _vague(whole.problems):
        return
    for table in _tables(connection):
        part = _part(work, connection, table, longest, full=full)
        yield part
        work.stop.wait(part.longest)
    if full and not whole.whole:
        yield _whole(work, connection, size, longest, full=False)


def _whole(work: Work, connection: apsw.Connection, size: int, longest: float, *, full: bool) -> Report:
    """One read of everything; an empty report where that is not expected to fit, or did not."""
    if predicted_seconds(size, full=full) > longest:
        return Report()
    done = _part(work, connection, WHOLE, longest, full=full)
    return replace(done, unchecked=(), whole=not done.unchecked)


def _vague(problems: tuple[str, ...]) -> bool:
    """Something is so damaged that SQLite could not go on to say where."""
    return len(problems) == 1 and problems[0].startswith(WHOLE)


def _tables(connection: apsw.Connection) -> tuple[str, ...]:
    """Every table, first the schema with the list of free pages."""
    rows = connection.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow', 'virtual')"
        " ORDER BY name <> 'sqlite_schema', name"
    )
    return tuple(str(name) for (name,) in rows)


def _part(work: Work, connection: apsw.Connection, what: str, longest: float, *, full: bool) -> Report:
    started = time.monotonic()
    before = size_or_zero(work.target.wal)
    try:
        with within_budget(work, before, connection, "check"), bounded(work, connection, longest), _given_way(work):
            problems = _patiently(work, connection, what, full=full)
    except TimeLimitExceeded:
        return Report(unchecked=(f"{what} (longer than {longest:g} s)",), parts=1, longest=longest)
    except apsw.SQLError as error:  # a collation or function that only the application's SQLite has
        return Report(unchecked=(f"{what} ({error})",), parts=1)
    return Report(problems, (), 1, time.monotonic() - started)


def _given_way(work: Work) -> AbstractContextManager[None]:
    """A read of a rollback-journal database is waited for by every commit: that one must not be slow."""
    return nullcontext() if is_rollback(work) else in_the_background()


def _patiently(work: Work, connection: apsw.Connection, what: str, *, full: bool) -> tuple[str, ...]:
    """In rollback-journal mode a writer keeps readers out for moments."""
    for _ in range(TRIES):
        try:
            return _problems(connection, what, full=full)
        except apsw.BusyError:
            work.stop.wait(REST)
            work.stop.check()
    return _problems(connection, what, full=full)


def _problems(connection: apsw.Connection, what: str, *, full: bool) -> tuple[str, ...]:
    """What SQLite finds in the whole file or in a table of its schema."""
    argument = str(SHOWN) if what == WHOLE else quoted(what)
    try:
        said = [
            str(text) for (text,) in connection.execute(f"PRAGMA {'integrity' if full else 'quick'}_check({argument})")
        ]
    except DAMAGE as error:
        seen_quickly = _problems(connection, what, full=False) if full else ()
        return seen_quickly or (f"{what}: {error}",)
    if said == ["ok"]:
        return ()
    trees = {str(root): f"{kind} {name}" for kind, name, root in connection.execute(_TREES)}
    return tuple(_in_words(text, trees) for text in said[:SHOWN])


def _in_words(text: str, trees: Mapping[str, str]) -> str:
    """In one line, without the heading that SQLite puts before the first; a tree by the name of what it is."""
    line = "; ".join(line for line in text.splitlines() if not line.startswith("***"))
    return re.sub(r"\bTree (\d+)\b", lambda found: trees.get(found[1], found[0]), line)
