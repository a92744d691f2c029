"""What needs the reading before: the slow timer, the head of the line, numbers that go back; and many queues."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from collectors import tasks
from collectors.access.snapshot import Snapshot
from collectors.poll import poll_database
from collectors.queue_profiles import run_queries as profile_rows
from collectors.raw_reader.client import RawReader
from collectors.target import Limits, Target
from exporter.exposition.latest import LatestSnapshots
from tests.support.scenes import prismq, queue_files
from tests.support.scenes.run_actions import target_of

HUEY = queue_files.HUEY


def value(snapshot: Snapshot, name: str, *labels: str) -> float | None:
    values = [s.value_at(snapshot.taken_at) for s in snapshot.samples_of(name) if s.labels == labels]
    return values[0] if values else None


@pytest.fixture
def huey(tmp_path: Path) -> Iterator[tuple[apsw.Connection, Target]]:
    with queue_files.owned(tmp_path / "huey.db", HUEY) as owner:
        yield owner, target_of(tmp_path / "huey.db")


def put(owner: apsw.Connection, data: bytes, queue: str = "mail") -> None:
    queue_files.add(owner, "task", queue=queue, data=data)


# --- the slow timer ---


def test_what_is_slow_to_count_keeps_its_value_until_it_is_due(
    huey: tuple[apsw.Connection, Target], raw: RawReader
) -> None:
    owner, target = huey
    queue_files.add(owner, "kv", queue="mail", key="r1", value=b"")
    put(owner, b"a")
    now = time.time()
    first = poll_database(target, None, now, raw)
    queue_files.add(owner, "kv", queue="mail", key="r2", value=b"")
    put(owner, b"b")
    soon = poll_database(target, first, now + 3599, raw)
    assert value(soon, "sqlite_queue_tasks", "mail", "results") == 1
    assert value(soon, "sqlite_queue_tasks", "mail", "waiting") == 2, "what is quick is always counted"
    assert {count.tried_at for count in soon.readings["tasks"].slow.values()} == {now}
    due = poll_database(target, soon, now + 3600, raw)
    assert value(due, "sqlite_queue_tasks", "mail", "results") == 2
    back = poll_database(target, due, now, raw)
    assert {count.tried_at for count in back.readings["tasks"].slow.values()} == {now}, "a clock set back makes it due"


def test_between_slow_readings_no_slow_statement_runs(
    huey: tuple[apsw.Connection, Target], raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, target = huey
    states: list[str] = []
    counted = profile_rows.read_count

    def noted(database: apsw.Connection, bound: profile_rows.BoundStatement) -> profile_rows.CountResult:
        states.append(bound.sql)
        return counted(database, bound)

    for module in (tasks, profile_rows):
        monkeypatch.setattr(module, "read_count", noted)
    now = time.time()
    first = poll_database(target, None, now, raw)
    assert sum('FROM "kv"' in sql for sql in states) == 2
    states.clear()
    poll_database(target, first, now + 10, raw)
    assert sum('FROM "kv"' in sql for sql in states) == 0
    assert len(set(states)) == 2, "the waiting ones are counted together with their head"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """SQLite itself interrupts what reads `kv` after a few steps, as the time limit would."""
    counted = profile_rows.read_count

    def hurried(database: apsw.Connection, bound: profile_rows.BoundStatement) -> profile_rows.CountResult:
        if 'FROM "kv"' in bound.sql:
            database.set_progress_handler(lambda: True, 50)
        try:
            return counted(database, bound)
        finally:
            database.set_progress_handler(None)

    monkeypatch.setattr(tasks, "read_count", hurried)
    return monkeypatch


def test_a_slow_count_that_takes_too_long_is_absent_and_the_rest_is_there(
    huey: tuple[apsw.Connection, Target], raw: RawReader, impatient: pytest.MonkeyPatch
) -> None:
    owner, target = huey
    put(owner, b"a")
    for number in range(100):
        queue_files.add(owner, "kv", queue="mail", key=f"r{number}", value=b"")
    now = time.time()
    first = poll_database(target, None, now, raw)
    assert (first.up, first.collectors["tasks"].success, first.collectors["tasks"].reason) == (True, False, "timeout")
    assert first.collectors["tasks"].message == "locks, results: counting took too long"
    assert value(first, "sqlite_queue_tasks", "mail", "waiting") == 1
    assert value(first, "sqlite_queue_tasks", "mail", "results") is None
    impatient.undo()
    again = poll_database(target, first, now + 10, raw)
    assert not again.collectors["tasks"].success, "the failure is reported until a count succeeds"
    assert value(again, "sqlite_queue_tasks", "mail", "waiting") == 1
    counted = poll_database(target, again, now + 3600, raw)
    assert counted.collectors["tasks"].success
    assert value(counted, "sqlite_queue_tasks", "mail", "results") == 100


# --- the head of the line ---


def test_the_age_of_an_unchanged_head_grows_and_of_a_claimed_one_does_not(
    huey: tuple[apsw.Connection, Target], raw: RawReader
) -> None:
    owner, target = huey
    put(owner, b"first")
    put(owner, b"second")
    now = time.time()
    first = poll_database(target, None, now, raw)
    second = poll_database(target, first, now + 60, raw)
    assert [value(s, "sqlite_queue_head_unchanged_seconds", "mail") for s in (first, second)] == [0, 60]
    owner.execute("DELETE FROM task WHERE data = x'6669727374'")
    three = poll_database(target, second, now + 120, raw)
    assert value(three, "sqlite_queue_head_unchanged_seconds", "mail") == 0
    owner.execute("DELETE FROM task")
    four = poll_database(target, three, now + 180, raw)
    assert value(four, "sqlite_queue_head_unchanged_seconds", "mail") == 0
    assert value(four, "sqlite_queue_tasks", "mail", "waiting") == 0


def test_a_number_used_again_is_another_task(huey: tuple[apsw.Connection, Target], raw: RawReader) -> None:
    owner, target = huey
    now = time.time()
    put(owner, b"first")
    before = poll_database(target, None, now, raw)
    owner.execute("DELETE FROM task")
    put(owner, b"second")
    assert owner.execute("SELECT id FROM task").get == 1
    assert value(poll_database(target, before, now + 60, raw), "sqlite_queue_head_unchanged_seconds", "mail") == 0


def test_the_head_is_remembered_over_a_failed_reading(huey: tuple[apsw.Connection, Target], raw: RawReader) -> None:
    owner, target = huey
    put(owner, b"first")
    now = time.time()
    first = poll_database(target, None, now, raw)
    broken = poll_database(replace(target, settings={"no": 1.0}), first, now + 30, raw)
    assert not broken.collectors["tasks"].success
    assert value(poll_database(target, broken, now + 60, raw), "sqlite_queue_head_unchanged_seconds", "mail") == 60


# --- numbers ---


def test_every_task_ever_enqueued_is_counted_also_when_its_row_is_gone(queue: prismq.Queue, raw: RawReader) -> None:
    target = target_of(queue.path)
    assert value(poll_database(target, None, time.time(), raw), "sqlite_queue_enqueued_total") == 0
    queue.put(number=5)
    queue.owner.execute("DELETE FROM task_queue")
    queue.put(number=2)
    assert value(poll_database(target, None, time.time(), raw), "sqlite_queue_enqueued_total") == 7


def test_numbers_that_go_back_are_counted_each_time(queue: prismq.Queue, raw: RawReader) -> None:
    target, snapshot = target_of(queue.path), None
    seen = []
    for number in (10, 20, 15, 15, 16, 3):
        queue.put()
        queue.owner.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'task_queue'", (number,))
        snapshot = poll_database(target, snapshot, time.time(), raw)
        seen.append(value(snapshot, "sqlite_queue_sequence_regressions_total"))
    assert seen == [0, 0, 1, 1, 1, 2]


def test_a_table_that_does_not_number_its_rows_has_no_counter(tmp_path: Path, raw: RawReader) -> None:
    schema = prismq.SCHEMA.replace("id INTEGER PRIMARY KEY AUTOINCREMENT, type", "id INTEGER PRIMARY KEY, type")
    with queue_files.owned(tmp_path / "q.db", schema):
        snapshot = poll_database(target_of(tmp_path / "q.db"), None, time.time(), raw)
        assert snapshot.collectors["enqueued"].success
        assert value(snapshot, "sqlite_queue_enqueued_total") is None


# --- workers ---


def test_workers_are_absent_where_the_file_keeps_no_list(queue: prismq.Queue, raw: RawReader) -> None:
    target = target_of(queue.path)
    assert value(poll_database(target, None, time.time(), raw), "sqlite_queue_workers", "alive") == 0
    queue.owner.execute("DROP TABLE workers")
    snapshot = poll_database(target, None, time.time(), raw)
    assert snapshot.collectors["workers"].success
    assert value(snapshot, "sqlite_queue_workers", "alive") is None


# --- many queues ---


def test_a_hundred_thousand_kinds_of_task_are_twenty_labels_and_other(tmp_path: Path, raw: RawReader) -> None:
    with queue_files.owned(tmp_path / "q.db", queue_files.SCHEMAS["prismq"]) as owner:
        queue_files.run(
            owner,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) "
            "INSERT INTO task_queue (type) SELECT 'customer-' || i FROM n",
        )
        target = replace(target_of(tmp_path / "q.db"), limits=Limits(read_wal=60))
        now = time.time() + 1
        snapshot = poll_database(target, None, now, raw)
        assert {n: r.message for n, r in snapshot.collectors.items() if not r.success} == {}
        waiting = {
            s.labels[0]: s.value_at(now) for s in snapshot.samples_of("sqlite_queue_tasks") if s.labels[1] == "waiting"
        }
        assert len(waiting) == 21
        assert sum(waiting.values()) == 100_000
        assert snapshot.folded_labels == 99_980
        assert len([s for s in snapshot.samples if "queue" in s.metric.labels]) < 21 * 16

        board = LatestSnapshots()
        board.set_targets([target])
        for later in (snapshot, replace(snapshot, taken_at=now + 15)):
            board.store_snapshot(later)
            assert board.view_at(now, 15).labels_dropped == {target.name: 99_980}, (
                "the same names are not dropped twice"
            )
