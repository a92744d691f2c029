"""The values of one poll belong to one moment, and what it takes for that is given back in time."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from collectors import enqueued, page_layout, poll, tasks, workers
from collectors.access import context
from collectors.access.connection import open_read_only
from collectors.access.snapshot import Snapshot
from collectors.poll import poll_database
from collectors.queue_profiles import run_queries
from collectors.queue_profiles.authorizer import AccessRules
from collectors.queue_profiles.schema import ProfileError
from collectors.queue_profiles.shared_reads import SharedReads
from collectors.queue_profiles.statement import BoundStatement
from collectors.raw_reader.client import RawReader
from collectors.registry import COLLECTORS
from collectors.target import Limits, Target
from tests.support.checks.statements import before_each_statement, slow_statements
from tests.support.scenes import prismq

# A loaded test machine may take longer than an application should have to wait: here only the values count.
ROOMY = Limits(read_wal=30, read_rollback=30)
TASKS = 50
FLIP = "UPDATE task_queue SET status = iif(status = 'queued', 'completed', 'queued')"


def _values(snapshot: Snapshot) -> dict[tuple[str, ...], float]:
    return {(s.metric.name, *s.labels): s.value_at(snapshot.taken_at) for s in snapshot.samples}


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
        with before_each_statement(write):
            snapshot = poll_database(target, snapshot, time.time(), raw, only=only)
        values = _values(snapshot)
        pages, free = values["sqlite_pages",], values["sqlite_free_pages",]
        assert values["sqlite_fragmentation_ratio",] == free / pages
        assert sum(v for key, v in values.items() if key[0] == "sqlite_queue_tasks") == (TASKS if whole else 0)
        assert all(result.success for result in snapshot.collectors.values())
    assert commits > 10 * (10 if whole else 5), "it really wrote in between"


def test_each_pragma_is_read_once(queue: prismq.Queue, raw: RawReader) -> None:
    statements: list[str] = []
    with before_each_statement(lambda sql, _: statements.append(sql)):
        poll_database(Target("jobs", queue.path, limits=ROOMY), None, time.time(), raw)
    pragmas = [sql for sql in statements if sql.upper().startswith("PRAGMA")]
    assert len(pragmas) == len(set(pragmas)) >= 3, pragmas


def test_slow_collectors_share_nothing(queue: prismq.Queue, raw: RawReader) -> None:
    statements: list[str] = []
    with before_each_statement(lambda sql, _: statements.append(sql)):
        poll_database(Target("jobs", queue.path, limits=ROOMY), None, time.time(), raw)
    assert any("dbstat" in sql for sql in statements)
    assert not any("dbstat" in sql for sql in statements if _is_shared(sql))
    assert page_layout.SPEC.shared_read is None


def test_after_a_poll_no_reader_holds_a_checkpoint_back(
    queue: prismq.Queue, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a collector fails in a way that was not expected: the poll fails, its transaction ends."""
    target = Target("jobs", queue.path, limits=ROOMY)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(enqueued, "read", fail)
    readers: list[apsw.Connection] = []
    with before_each_statement(lambda _sql, reader: readers.append(reader)), pytest.raises(ZeroDivisionError):
        poll_database(target, None, time.time(), raw)
    queue.put(number=3)
    assert queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").get == (0, 0, 0)
    with pytest.raises(apsw.ConnectionClosedError):
        readers[-1].execute("SELECT 1")


def test_a_collector_that_fails_leaves_the_others_their_moment(
    queue: prismq.Queue, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.put(number=TASKS)
    monkeypatch.setattr(tasks, "read", lambda looked, _: looked.require_connection().execute("SELECT no_such()"))
    snapshot, statements = _polled(Target("jobs", queue.path, limits=ROOMY), None, raw)
    assert [name for name, result in snapshot.collectors.items() if not result.success] == ["tasks"]
    assert sum(map(_is_shared, statements)) == 1
    assert not any(sql.startswith("SELECT seq FROM") for sql in statements), "its row was read with the others"
    assert list(snapshot.collectors) == [collector.NAME for collector in COLLECTORS], "in the order of the registry"


def test_with_a_rollback_journal_commits_wait_only_while_a_statement_runs(
    make_queue: Callable[..., prismq.Queue], raw: RawReader
) -> None:
    queue = make_queue(journal_mode="delete")
    queue.put(number=TASKS)
    waited: list[str] = []

    def write(sql: str, _reader: apsw.Connection) -> None:
        try:
            queue.owner.execute("INSERT OR REPLACE INTO workers VALUES ('a', '', '')")
        except apsw.BusyError:
            waited.append(sql)

    queue.owner.set_busy_timeout(0)
    only = frozenset(collector.NAME for collector in COLLECTORS if collector.SPEC.shared_read is not None)
    with before_each_statement(write):
        snapshot = poll_database(Target("jobs", queue.path, limits=ROOMY), None, time.time(), raw, only=only)
    assert all(result.success for result in snapshot.collectors.values())
    assert {sql.lower() for sql in waited} <= {"pragma page_count", "pragma freelist_count"}, "inside the statement"
    queue.put()


# --- the statement that the collectors share ---


def _polled(target: Target, previous: Snapshot | None, raw: RawReader) -> tuple[Snapshot, list[str]]:
    """A poll, and the statements that it ran."""
    statements: list[str] = []
    with before_each_statement(lambda sql, _: statements.append(sql)):
        snapshot = poll_database(target, previous, time.time(), raw)
    return snapshot, statements


def _is_shared(sql: str) -> bool:
    return sql.startswith("INSERT INTO temp.")


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
def test_no_transaction_is_left_open_between_two_statements(
    make_queue: Callable[..., prismq.Queue], raw: RawReader, journal_mode: str
) -> None:
    """Python may wait there for as long as other threads compute, and no limit ends that."""
    queue = make_queue(journal_mode=journal_mode)
    queue.put(number=TASKS)
    inside: list[str] = []

    def note(sql: str, reader: apsw.Connection) -> None:
        if reader.in_transaction:
            inside.append(sql)

    with before_each_statement(note):
        snapshot = poll_database(Target("jobs", queue.path, limits=ROOMY), None, time.time(), raw)
    assert all(result.success for result in snapshot.collectors.values())
    assert inside == []


def test_what_is_shared_is_read_once_and_calls_no_python(queue: prismq.Queue, raw: RawReader) -> None:
    queue.put(number=TASKS)
    _, statements = _polled(Target("jobs", queue.path, limits=ROOMY), None, raw)
    (shared,) = filter(_is_shared, statements)
    assert "pragma_page_count" in shared
    assert "sqlite_sequence" in shared
    assert "holder_lives" not in shared
    counted = [sql for sql in statements if "task_queue" in sql and not sql.startswith("SELECT type, name")]
    # Whether tables are empty is compared with what they held before, not with the figures of this poll.
    assert [sql for sql in counted if "holder_lives" not in sql and "NOT INDEXED LIMIT 100" not in sql] == [shared]


def test_the_shared_values_are_those_of_the_separate_reads(
    queue: prismq.Queue, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.put(number=TASKS, run_after_utc=prismq.stamp(time.time() - 60))
    target = Target("jobs", queue.path, limits=ROOMY)
    shared = poll_database(target, None, 2e9, raw)
    monkeypatch.setattr(poll, "_read_shared", lambda *_: 0.0)
    separate = poll_database(target, None, 2e9, raw)
    assert {metric.name for metric in tasks.METRICS} <= {sample.metric.name for sample in shared.samples}
    for name in ("storage", "tasks", "leases", "workers", "enqueued"):
        assert shared.readings[name] == separate.readings[name]


def test_a_count_that_is_too_slow_is_tried_once_a_poll(make_queue: Callable[..., prismq.Queue], raw: RawReader) -> None:
    queue = make_queue(journal_mode="delete")
    queue.put(number=TASKS)
    target = Target("jobs", queue.path, limits=Limits(read_rollback=0.3))
    with slow_statements(lambda sql: _is_shared(sql) or "min(head)" in sql, 0.6):
        _check_slow_count(target, raw)


def _check_slow_count(target: Target, raw: RawReader) -> None:
    snapshot, statements = _polled(target, None, raw)
    assert sum(map(_is_shared, statements)) == 1
    assert not snapshot.collectors["tasks"].success
    assert snapshot.collectors["tasks"].reason == "timeout"
    assert snapshot.separate_until > snapshot.taken_at
    for _ in range(2):
        snapshot, statements = _polled(target, snapshot, raw)
        assert snapshot.collectors["tasks"].reason == "timeout"
        assert sum(map(_is_shared, statements)) == 0
        assert sum("min(head)" in sql for sql in statements) <= 1
    later = replace(snapshot, separate_until=time.time() - 1)
    assert sum(map(_is_shared, _polled(target, later, raw)[1])) == 1


def test_a_failure_of_the_shared_statement_is_that_of_one_collector(
    queue: prismq.Queue, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.put(number=TASKS)

    def read_no_such_table(database: run_queries.Database, _profile: object, _now: float) -> tuple[int, int]:
        bound = BoundStatement("SELECT a, b FROM no_such_table", {}, AccessRules({}))
        run_queries._fetch_rows(database, bound, None, width=2)
        return 0, 0

    monkeypatch.setattr(workers, "SPEC", replace(workers.SPEC, shared_read=read_no_such_table))
    monkeypatch.setattr(workers, "count_workers", read_no_such_table)
    snapshot = poll_database(Target("jobs", queue.path, limits=ROOMY), None, time.time(), raw)
    assert [name for name, result in snapshot.collectors.items() if not result.success] == ["workers"]
    assert sum(value for key, value in _values(snapshot).items() if key[0] == "sqlite_queue_tasks") == TASKS


def test_statements_keep_their_own_values_and_literals(queue: prismq.Queue) -> None:
    quoted = """SELECT ':a', "a:a" FROM (SELECT 1 AS "a:a")"""
    with open_read_only(queue.path) as connection:
        reads = SharedReads(connection)
        first, second = (BoundStatement("SELECT :a", {"a": value}, AccessRules({})) for value in (1, "text"))
        third = BoundStatement(quoted, {}, AccessRules({}))
        reads.expect(
            lambda noting: [noting.fetch_rows(first, 1), noting.fetch_rows(second, 1), noting.fetch_rows(third, 2)]
        )
        reads.read_expected(lambda: None)
        assert reads.fetch_rows(first, 1) == [(1,)]
        assert reads.fetch_rows(second, 1) == [("text",)]
        assert reads.fetch_rows(third, 2) == [(":a", 1)]


def test_a_statement_may_read_only_what_one_of_them_declares(queue: prismq.Queue) -> None:
    with open_read_only(queue.path) as connection:
        reads = SharedReads(connection)
        hostile = BoundStatement("SELECT payload FROM task_queue", {}, AccessRules({"task_queue": frozenset({"id"})}))
        reads.expect(lambda noting: noting.fetch_rows(hostile, 1))
        with pytest.raises(ProfileError, match=r"task_queue\.payload"):
            reads.read_expected(lambda: None)
        assert connection.authorizer is None


def test_the_wal_is_read_right_before_the_shared_statement(queue: prismq.Queue, raw: RawReader) -> None:
    """Its state is compared with what was seen before opening, and counting may take long."""
    queue.put(number=TASKS)
    _, statements = _polled(Target("jobs", queue.path, limits=ROOMY), None, raw)
    noop = next(i for i, sql in enumerate(statements) if "wal_checkpoint" in sql)
    assert noop < next(i for i, sql in enumerate(statements) if _is_shared(sql))
    assert not any("task_queue" in sql for sql in statements[:noop])


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
    for name in (
        "wal",
        "fragmentation",
        "write_lock",
        "disk",
        "backups",
        "page_layout",
    ):  # storage knows which tables drain
        assert poll_database(target, None, time.time(), raw, only=frozenset({name})).collectors[name].success
    assert lookups == []
    poll_database(target, None, time.time(), raw)
    assert len(lookups) == 1, "once a poll"


def test_a_collector_says_itself_how_it_is_run() -> None:
    for collector in COLLECTORS:
        spec = collector.SPEC
        assert not spec.needs_profile or spec.needs_connection
        assert not (spec.outside_file and (spec.needs_connection or spec.shared_read is not None))
        assert not (spec.runs_first and spec.shared_read is not None)
