"""Runs integrity_check and quick_check, whole or table by table, each read as short as the live application allows.

A quick check does not compare indexes with their tables (https://sqlite.org/pragma.html#pragma_quick_check). Of a single
table neither reads the list of free pages: the check of `sqlite_schema` does. Only a check of the whole file detects pages
that no table uses or that two tables share.
"""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import apsw

from actions.backups.check_messages import ProblemKind, classify_messages, is_missing_extension
from actions.backups.provable_check import check_structure
from actions.model.context import ActionContext
from actions.sqlite.connection import uses_rollback_journal
from actions.sqlite.disk_space import size_or_zero
from actions.sqlite.interrupt import limit_statements
from actions.sqlite.low_priority import lower_priority
from actions.sqlite.wal_budget import limit_wal_growth
from collectors.access.at_rest import open_live_or_at_rest
from collectors.access.connection import open_immutable
from collectors.access.timeouts import TimeLimitExceeded
from collectors.queue_profiles.quoting import quote_identifier

# Bytes checked per second from the page cache: a guess that the time limit of each read corrects (docs/safety.md).
QUICK_CHECK_RATE = 400e6
FULL_CHECK_RATE = 100e6
MOST_PROBLEMS = 10
WHOLE_FILE = "the whole file"
# SQLite raises one of these instead of returning rows where the damage ends the check.
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
    """`problems`: in SQLite's words, of these `kinds`; `unchecked`: what could not be checked, each with why.

    `foreign`: what only the application can check. `longest`: seconds of one read.
    `whole`: every page was read, so the check can have missed nothing that it detects.
    """

    problems: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    parts: int = 0
    longest: float = 0.0
    whole: bool = False
    kinds: frozenset[ProblemKind] = frozenset()
    foreign: tuple[str, ...] = ()

    @property
    def only_breaks_rules(self) -> bool:
        """Whether no page is damaged: rows break a rule that the schema declares."""
        return self.kinds == {"rows"}

    def with_part(self, other: "CheckReport") -> "CheckReport":
        """This report with those of another part."""
        return CheckReport(
            (*self.problems, *other.problems)[:MOST_PROBLEMS],
            (*self.unchecked, *other.unchecked),
            self.parts + other.parts,
            max(self.longest, other.longest),
            self.whole or other.whole,
            self.kinds | other.kinds,
            tuple(dict.fromkeys((*self.foreign, *other.foreign))),
        )


def check_copy(context: ActionContext, connection: apsw.Connection, path: Path, *, full: bool) -> CheckReport:
    """Check a file at `path` that no process writes, in one read. Raises Cancelled, Interrupted, apsw.Error."""
    started = time.monotonic()
    report = CheckReport()
    with limit_statements(context, connection), lower_priority():
        try:
            report = _find_problems(connection, WHOLE_FILE, full=full)
        except apsw.SQLError:
            with open_immutable(path) as apart:
                report = _structure_report(apart)
        if report.foreign or not report.whole or _is_vague(report.problems):
            for table in _table_names(connection):
                report = report.with_part(_check_table(connection, table, full=full and not report.problems))
    return replace(report, parts=1, longest=time.monotonic() - started, whole=True)


def _check_table(connection: apsw.Connection, table: str, *, full: bool) -> CheckReport:
    try:
        return _find_problems(connection, table, full=full)
    except apsw.SQLError as error:
        return CheckReport(foreign=(f"{table} ({error})",))


def _structure_report(connection: apsw.Connection) -> CheckReport:
    """All pages, without what needs the application's collations and modules. Raises apsw.Error."""
    lines = check_structure(connection, MOST_PROBLEMS)
    trees = _tree_names(connection)
    return CheckReport(tuple(_describe_problem(line, trees) for line in lines), kinds=classify_messages(lines))


def check_live(
    context: ActionContext, connection: apsw.Connection, longest: float, *, full: bool
) -> Iterator[CheckReport]:
    """Check the live file, yielding each part; no read lasts longer than `longest` seconds.

    In one read where that fits, else table by table; a full check then ends with a quick check of the whole file.
    Raises ActionError, apsw.Error.
    """
    size = context.target.path.stat().st_size
    whole = _check_whole(context, connection, size, longest, full=full)
    yield replace(whole, foreign=())  # its tables tell which of them it is
    if whole.whole and not _is_vague(whole.problems):
        return
    for table in _table_names(connection):
        part = _check_part(context, connection, table, longest, full=full)
        yield part
        context.stop.wait_for_stop(part.longest)
    if full and not whole.whole:
        yield _check_whole(context, connection, size, longest, full=False)
    if whole.foreign:
        yield _check_structure_live(context, size, longest)


def _check_structure_live(context: ActionContext, size: int, longest: float) -> CheckReport:
    """All pages in one read by a connection of its own; an empty report where that is not expected to fit, or did not."""
    if predicted_check_seconds(size, full=False) > longest:
        return CheckReport()
    started = time.monotonic()
    with open_live_or_at_rest(context.target, context.raw) as apart:
        try:
            with limit_statements(context, apart, longest), _low_priority_read(context):
                report = _structure_report(apart)
        except TimeLimitExceeded:
            return CheckReport()
    return replace(report, parts=1, longest=time.monotonic() - started, whole=True)


def _check_whole(
    context: ActionContext, connection: apsw.Connection, size: int, longest: float, *, full: bool
) -> CheckReport:
    """Check the whole file in one read; an empty report where that is not expected to fit, or did not."""
    if predicted_check_seconds(size, full=full) > longest:
        return CheckReport()
    report = _check_part(context, connection, WHOLE_FILE, longest, full=full)
    return replace(report, unchecked=(), whole=not report.unchecked and not report.foreign)


def _is_vague(problems: tuple[str, ...]) -> bool:
    """Whether the damage ended the check before SQLite could tell where it is."""
    return len(problems) == 1 and problems[0].startswith(WHOLE_FILE)


def _table_names(connection: apsw.Connection) -> tuple[str, ...]:
    """The names of all tables, first the schema, whose check covers the list of free pages."""
    rows = connection.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow', 'virtual')"
        " ORDER BY name <> 'sqlite_schema', name"
    )
    return tuple(str(name) for (name,) in rows)


def _check_part(
    context: ActionContext, connection: apsw.Connection, what: str, longest: float, *, full: bool
) -> CheckReport:
    started = time.monotonic()
    before = size_or_zero(context.target.wal)
    try:
        with (
            limit_wal_growth(context, before, connection, "check"),
            limit_statements(context, connection, longest),
            _low_priority_read(context),
        ):
            report = _retry_check(context, connection, what, full=full)
    except TimeLimitExceeded:
        return CheckReport(unchecked=(f"{what} (longer than {longest:g} s)",), parts=1, longest=longest)
    except apsw.SQLError as error:  # a collation or function that only the application's SQLite has
        return CheckReport(foreign=(f"{what} ({error})",), parts=1)
    return replace(report, parts=1, longest=time.monotonic() - started)


def _low_priority_read(context: ActionContext) -> AbstractContextManager[None]:
    """Low priority, except for a rollback-journal database: there every commit waits for the read, so it must be fast."""
    return nullcontext() if uses_rollback_journal(context) else lower_priority()


def _retry_check(context: ActionContext, connection: apsw.Connection, what: str, *, full: bool) -> CheckReport:
    """Check, with retries: in rollback-journal mode a writer blocks readers for moments."""
    for _ in range(TRIES):
        try:
            return _find_problems(connection, what, full=full)
        except apsw.BusyError:
            context.stop.wait_for_stop(RETRY_PAUSE)
            context.stop.raise_if_requested()
    return _find_problems(connection, what, full=full)


def _find_problems(connection: apsw.Connection, what: str, *, full: bool) -> CheckReport:
    """The problems that SQLite finds in the whole file or in a table of its schema, in SQLite's words. Raises apsw.Error."""
    argument = str(MOST_PROBLEMS) if what == WHOLE_FILE else quote_identifier(what)
    pragma = f"PRAGMA {'integrity' if full else 'quick'}_check({argument})"
    try:
        lines = [str(line) for (line,) in connection.execute(pragma)]
    except DAMAGE_ERRORS as error:
        quick = _find_problems(connection, what, full=False) if full else CheckReport()
        return quick if quick.problems else CheckReport((f"{what}: {error}",), kinds=frozenset({"pages"}), whole=True)
    foreign = tuple(line for line in lines if is_missing_extension(line))
    wrong = [line for line in lines if line != "ok" and line not in foreign][:MOST_PROBLEMS]
    trees = _tree_names(connection) if wrong else {}
    problems = tuple(_describe_problem(text, trees) for text in wrong)
    return CheckReport(problems, kinds=classify_messages(wrong), foreign=foreign, whole=what == WHOLE_FILE)


def _tree_names(connection: apsw.Connection) -> Mapping[str, str]:
    return {str(root): f"{kind} {name}" for kind, name, root in connection.execute(_SELECT_TREES)}


def _describe_problem(text: str, trees: Mapping[str, str]) -> str:
    """A problem in one line, without SQLite's heading; a tree number is replaced by the name of the table or index."""
    line = "; ".join(line for line in text.splitlines() if not line.startswith("***"))
    return re.sub(r"\bTree (\d+)\b", lambda match: trees.get(match[1], match[0]), line)
