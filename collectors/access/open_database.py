"""Opens a database for one reader: facts, preflight, one read-only connection, and the proof that it can be read.

It loads no queue profile and no collector: a process that only needs the sizes stays light.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import apsw

from collectors.access.at_rest import RestingDatabase, needs_reading_at_rest, open_at_rest
from collectors.access.connection import BUSY_TIMEOUT, open_read_only
from collectors.access.errors import EXPECTED_ERRORS, NotAtRest, describe_failure
from collectors.access.file_facts import DatabaseFacts, describe_writer, gather_facts, journal_persists
from collectors.access.preflight import READABLE, PreflightVerdict, decide_preflight
from collectors.access.timeouts import time_limit
from collectors.raw_reader.client import RawReader, RawReaderUnavailable
from collectors.raw_reader.formats import DatabaseHeader
from collectors.target import Target

SchemaRows = tuple[tuple[Any, ...], ...]

# All pages and free pages. The read of the schema makes both belong to one read transaction, also where nothing else is read.
PAGE_COUNTS = (
    "SELECT (SELECT page_count FROM pragma_page_count), (SELECT freelist_count FROM pragma_freelist_count), "
    "EXISTS (SELECT 1 FROM sqlite_schema)"
)


@dataclass(slots=True)
class OpenedDatabase:
    """What may be read of a database at this poll: `connection` and what was read of its schema, where it was opened.

    `resting`: no process has it open, and its files cannot be made here; what is read holds if it stays so.
    """

    verdict: PreflightVerdict
    header: DatabaseHeader | None = None
    connection: apsw.Connection | None = None
    schema: SchemaRows = ()
    facts: DatabaseFacts | None = None
    resting: RestingDatabase | None = None


@contextmanager
def open_database(target: Target, raw: RawReader) -> Iterator[OpenedDatabase]:
    """Decide whether to open, and open one connection for all that is read. A failure becomes the verdict."""
    facts = None
    with ExitStack() as stack:
        try:
            facts = gather_facts(target, raw)
            with _release_afterwards(facts, raw):
                verdict = decide_preflight(facts)
                opened = OpenedDatabase(verdict, facts.header, facts=facts)
                if verdict.may_open:
                    timeout = min(BUSY_TIMEOUT, read_limit(target, facts.header))
                    _prove_readable(target, opened, stack.enter_context(open_read_only(target.path, timeout)))
            if opened.verdict.state == "owner_down" and needs_reading_at_rest(target, raw):
                _read_at_rest(target, opened, stack.enter_context(open_at_rest(target, raw)))
        except EXPECTED_ERRORS as error:
            verdict = _failed_verdict(target, error, raw)
            opened = OpenedDatabase(verdict, facts.header if facts else None, facts=facts)
        yield opened


def find_reading_problem(opened: OpenedDatabase) -> PreflightVerdict | None:
    """Why what was read of it does not hold after all, asked after the last read and before the connection is closed."""
    if was_replaced(opened):
        path = opened.facts.path if opened.facts else ""
        message = f"{path} was replaced while it was read; the next poll reads the new file"
        return PreflightVerdict("replaced", may_open=False, up=False, message=message)
    if opened.resting is not None:
        try:
            opened.resting.require_unchanged()
        except (NotAtRest, OSError, RawReaderUnavailable) as error:
            return PreflightVerdict("owner_down", may_open=False, up=True, message=f"{error}; it is read again")
    return None


def was_replaced(opened: OpenedDatabase) -> bool:
    """Whether another file has the name now: then the header and the connection may be of two different files."""
    before = opened.facts.database if opened.facts else None
    if before is None or opened.facts is None or opened.connection is None:
        return False
    try:
        status = opened.facts.path.stat()
    except OSError:
        return True
    return (status.st_dev, status.st_ino) != before.identity


def read_limit(target: Target, header: DatabaseHeader | None) -> float:
    """Seconds for which one read may last: a reader of a WAL stops no commit, one of a rollback-journal database does."""
    wal = header is not None and header.wal
    return target.limits.read_wal if wal else target.limits.read_rollback


def read_schema(database: apsw.Connection) -> SchemaRows:
    """Read the schema of the database and its statistics as rows of text. Raises apsw.Error."""
    rows = database.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    if any(row[1] == "sqlite_stat1" for row in rows):
        rows += database.execute("SELECT tbl, idx, CAST(stat AS TEXT) FROM sqlite_stat1").fetchall()
    return tuple(rows)


def _read_at_rest(target: Target, opened: OpenedDatabase, resting: RestingDatabase) -> None:
    opened.resting, opened.verdict = resting, READABLE
    _prove_readable(target, opened, resting.connection)


@contextmanager
def _release_afterwards(facts: DatabaseFacts, raw: RawReader) -> Iterator[None]:
    """Release what `gather_facts` held, in any case: from then on our connection holds the same lock."""
    try:
        yield
    finally:
        if facts.wal_hold == "held":
            raw.release_wal(facts.path)


def _failed_verdict(target: Target, error: BaseException, raw: RawReader) -> PreflightVerdict:
    word, sentence = describe_failure(error)
    if word == "hot_journal" and not journal_persists(target):
        word, sentence = "busy", "a transaction came in between"
    if word == "busy":
        with suppress(RawReaderUnavailable, OSError):  # then the message does not say which process it is
            holder = describe_writer(raw, target.path) or "a process that is not visible to us"
            sentence = f"{sentence}, held by {holder}"
    return PreflightVerdict(word, may_open=False, up=False, message=f"{target.path}: {sentence}")


def _prove_readable(target: Target, opened: OpenedDatabase, connection: apsw.Connection) -> None:
    """Read the schema: the first read proves that the database can be read. Raises what is in EXPECTED_ERRORS."""
    with time_limit(connection, read_limit(target, opened.header)):
        opened.schema = read_schema(connection)
    opened.connection = connection
