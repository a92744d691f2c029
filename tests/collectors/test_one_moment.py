"""The values of one poll belong to one moment, and what it takes for that is given back in time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from collectors import enqueued, page_layout, tasks
from collectors.access import context
from collectors.access.connection import open_read_only
from collectors.access.read_transaction import ReadTransaction
from collectors.access.snapshot import Snapshot
from collectors.access.timeouts import TimeLimitExceeded
from collectors.poll import poll_database
from collectors.raw_reader.client import RawReader
from collectors.registry import COLLECTORS
from collectors.target import Limits, Target
from tests.support.scenes import prismq

# A loaded test machine may take longer than an application should have to wait: here only the values count.
ROOMY = Limits(read_wal=30, read_rollback=30)
TASKS = 50
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
FLIP = "UPDATE task_queue SET status = iif(status = 'queued', 'completed', 'queued')"


def _values(snapshot: Snapshot) -> dict[tuple[str, ...], float]:
    return {(s.metric.name, *s.labels): s.value_at(snapshot.taken_at) for s in snapshot.samples}


@contextmanager
def _before_each_statement(do: Callable[[str, apsw.Connection], object]) -> Iterator[None]:
    """Call `do` with the text of each statement that a connection opened from now on is about to run."""

    def trace(connection: apsw.Connection) -> None:
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: do(str(event["sql"]), connection))

    apsw.connection_hooks.append(trace)
    try:
        yield
    finally:
        apsw.connection_hooks.remove(trace)


@pytest.mark.parametrize("whole", [True, False], ids=["all collectors", "the two"])
def test_a_writer_that_commits_before_every_statement_changes_no_ratio_and_no_total(
    queue: prismq.Queue, raw: RawReader, whole: bool
) -> None:
    queue.put(number=TASKS, run_after_utc=prismq.stamp(time.time() - 60))
    queue.owner.execute("CREATE TABLE ballast (id INTEGER PRIMARY KEY, bytes)")
    commits = 0

    def write(_sql: str, _reader: apsw.Connection) -> None:
        nonlocal commits
        commits += 1
        queue.owner.execute(FLIP)
        queue.owner.execute(
            "DELETE FROM ballast" if commits % 5 == 0 else "INSERT INTO ballast (bytes) VALUES (zeroblob(50000))"
        )

    target, snapshot = Target("jobs", queue.path, limits=ROOMY), None
    only = None if whole else frozenset({"storage", "fragmentation"})
    for _ in range(10):
        with _before_each_statement(write):
            snapshot = poll_database(target, snapshot, time.time(), raw, only=only)
        values = _values(snapshot)
        pages, free = values["sqlite_pages",], values["sqlite_free_pages",]
        assert values["sqlite_fragmentation_ratio",] == free / pages
        assert sum(v for key, v in values.items() if key[0] == "sqlite_queue_tasks") == (TASKS if whole else 0)
        assert all(result.success for result in snapshot.collectors.values())
    assert commits > 10 * (10 if whole else 5), "it really wrote in between"


def test_each_pragma_is_read_once(queue: prismq.Queue, raw: RawReader) -> None:
    statements: list[str] = []
    with _before_each_statement(lambda sql, _: statements.append(sql)):
        poll_database(Target("jobs", queue.path, limits=ROOMY), None, time.time(), raw)
    pragmas = [sql for sql in statements if sql.upper().startswith("PRAGMA")]
    assert len(pragmas) == len(set(pragmas)) >= 3, pragmas


def test_slow_collectors_and_the_checkpoint_pragma_read_outside_the_transaction(
    queue: prismq.Queue, raw: RawReader
) -> None:
    inside: dict[str, bool] = {}
    with _before_each_statement(lambda sql, reader: inside.update({sql.lower(): reader.in_transaction})):
        poll_database(Target("jobs", queue.path, limits=ROOMY), None, time.time(), raw)
    assert {inside[sql] for sql in inside if "dbstat" in sql} == {False}
    assert not inside["pragma wal_checkpoint(noop)"]
    assert inside['pragma "page_count"']
    assert not page_layout.SPEC.shares_transaction


def test_after_a_poll_no_reader_holds_a_checkpoint_back(
    queue: prismq.Queue, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a collector fails in a way that was not expected: the poll fails, its transaction ends."""
    target = Target("jobs", queue.path, limits=ROOMY)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(enqueued, "read", fail)
    readers: list[apsw.Connection] = []
    with _before_each_statement(lambda _sql, reader: readers.append(reader)), pytest.raises(ZeroDivisionError):
        poll_database(target, None, time.time(), raw)
    queue.put(number=3)
    assert queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").get == (0, 0, 0)
    with pytest.raises(apsw.ConnectionClosedError):
        readers[-1].execute("SELECT 1")


def test_a_collector_that_fails_leaves_the_others_their_moment(
    queue: prismq.Queue, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.put(number=TASKS)
    reads: list[bool] = []
    monkeypatch.setattr(tasks, "read", lambda looked, _: looked.require_connection().execute("SELECT no_such()"))
    monkeypatch.setattr(enqueued, "read", lambda looked, _: reads.append(looked.require_connection().in_transaction))
    monkeypatch.setattr(enqueued, "samples", lambda _: ())
    snapshot = poll_database(Target("jobs", queue.path, limits=ROOMY), None, time.time(), raw)
    assert [name for name, result in snapshot.collectors.items() if not result.success] == ["tasks"]
    assert reads == [True]
    assert list(snapshot.collectors) == [collector.NAME for collector in COLLECTORS], "in the order of the registry"


def test_with_a_rollback_journal_commits_wait_for_no_more_than_the_transaction(
    make_queue: Callable[..., prismq.Queue], raw: RawReader
) -> None:
    queue = make_queue(journal_mode="delete")
    queue.put(number=TASKS)
    refused: list[str] = []

    def write(sql: str, reader: apsw.Connection) -> None:
        try:
            queue.owner.execute("UPDATE workers SET heartbeat_utc = 0")
            queue.owner.execute("INSERT OR REPLACE INTO workers VALUES ('a', '', '')")
        except apsw.BusyError:
            assert reader.in_transaction, sql
            refused.append(sql)

    queue.owner.set_busy_timeout(0)
    only = frozenset(collector.NAME for collector in COLLECTORS if collector.SPEC.shares_transaction)
    with _before_each_statement(write):
        snapshot = poll_database(Target("jobs", queue.path, limits=ROOMY), None, time.time(), raw, only=only)
    assert all(result.success for result in snapshot.collectors.values())
    assert refused
    queue.put()


# --- the transaction itself ---


@pytest.fixture
def reader(queue: prismq.Queue) -> Iterator[apsw.Connection]:
    with open_read_only(queue.path) as connection:
        yield connection


def _count(connection: apsw.Connection) -> Callable[[], Any]:
    return lambda: connection.execute("SELECT count(*) FROM task_queue").get


def test_reads_share_a_moment_until_half_of_the_budget_is_spent(queue: prismq.Queue, reader: apsw.Connection) -> None:
    with ReadTransaction(reader, 30) as transaction:
        assert transaction.run_bounded(_count(reader)) == 0
        queue.put(number=2)
        assert transaction.run_bounded(_count(reader)) == 0
        transaction._began_at -= 16
        assert transaction.run_bounded(_count(reader)) == 2, "a moment of its own"
    assert not reader.in_transaction


def test_a_read_that_had_less_than_the_budget_is_tried_again_with_all_of_it(reader: apsw.Connection) -> None:
    tried: list[float] = []

    def read() -> int:
        tried.append(time.monotonic())
        if len(tried) == 1:
            return int(reader.execute(ENDLESS).get)
        return 7

    with ReadTransaction(reader, 0.2) as transaction:
        assert transaction.run_bounded(lambda: 1) == 1
        assert transaction.run_bounded(read) == 7
    assert len(tried) == 2


def test_a_read_that_had_the_whole_budget_is_not_tried_again(reader: apsw.Connection) -> None:
    with ReadTransaction(reader, 0.05) as transaction, pytest.raises(TimeLimitExceeded, match=r"0\.05 s"):
        transaction.run_bounded(lambda: reader.execute(ENDLESS).get)
    assert not reader.in_transaction


def test_statements_that_follow_when_the_budget_is_spent_are_stopped_soon(reader: apsw.Connection) -> None:
    def read() -> None:
        for _ in range(3):
            with pytest.raises(apsw.InterruptError):
                reader.execute(ENDLESS).fetchall()
        raise apsw.InterruptError

    started = time.monotonic()
    with ReadTransaction(reader, 2) as transaction, pytest.raises(TimeLimitExceeded):
        transaction.run_bounded(read)
    assert time.monotonic() - started < 3.9, "not three times the budget"


@pytest.mark.parametrize("error", [ZeroDivisionError, apsw.SQLError, KeyboardInterrupt])
def test_every_way_out_ends_the_transaction(reader: apsw.Connection, error: type[BaseException]) -> None:
    def fail() -> None:
        assert reader.in_transaction
        raise error

    with pytest.raises(error), ReadTransaction(reader, 30) as transaction:
        transaction.run_bounded(fail)
    assert not reader.in_transaction


def test_what_sqlite_ended_itself_is_begun_again(queue: prismq.Queue, reader: apsw.Connection) -> None:
    with ReadTransaction(reader, 30) as transaction:
        transaction.run_bounded(lambda: reader.execute("ROLLBACK"))
        queue.put()
        assert transaction.run_bounded(_count(reader)) == 1
        assert reader.in_transaction


def test_a_busy_database_fails_each_collector_and_leaves_nothing_open(
    make_queue: Callable[..., prismq.Queue],
) -> None:
    queue = make_queue(journal_mode="delete")
    with open_read_only(queue.path, busy_timeout=0.01) as connection:
        queue.owner.execute("BEGIN EXCLUSIVE")
        with ReadTransaction(connection, 30) as transaction:
            for _ in range(2):
                with pytest.raises(apsw.BusyError):
                    transaction.run_bounded(_count(connection))
        queue.owner.execute("COMMIT")
        assert not connection.in_transaction
        assert queue.value("SELECT count(*) FROM task_queue") == 0


# --- what a collector declares ---


def test_only_a_collector_that_needs_a_profile_has_one_looked_up(
    queue: prismq.Queue, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups: list[Path] = []
    find = context.cached_profile

    def noted(*arguments: Any) -> Any:
        lookups.append(arguments[2].path)
        return find(*arguments)

    monkeypatch.setattr(context, "cached_profile", noted)
    target = Target("jobs", queue.path, limits=ROOMY)
    for name in ("wal", "storage", "fragmentation", "write_lock", "disk", "backups", "page_layout"):
        assert poll_database(target, None, time.time(), raw, only=frozenset({name})).collectors[name].success
    assert lookups == []
    poll_database(target, None, time.time(), raw)
    assert len(lookups) == 1, "once a poll"


def test_a_collector_says_itself_how_it_is_run() -> None:
    for collector in COLLECTORS:
        spec = collector.SPEC
        assert not spec.needs_profile or spec.needs_connection
        assert not (spec.outside_file and (spec.needs_connection or spec.shares_transaction))
