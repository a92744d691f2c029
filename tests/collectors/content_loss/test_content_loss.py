"""Content that vanished, on real files: what is a loss, and what queues do every day."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from collectors.access.snapshot import Snapshot
from collectors.content_loss.facts import read_content_facts
from collectors.content_loss.judge import COUNTED_ROWS, ContentFacts, measure_content_loss
from collectors.content_loss.memory import (
    MARKS_LAST,
    ContentMemory,
    decode_memory,
    encode_memory,
    remember_facts,
)
from collectors.content_loss.reading import LOST, ContentReading
from collectors.poll import poll_database, remembered_snapshot
from collectors.raw_reader.client import RawReader
from collectors.storage import StorageReading
from collectors.target import Target
from tests.support.scenes.prismq import SCHEMA

ROWS = 3000
PLAIN = "CREATE TABLE users (name); CREATE TABLE rooms (name); CREATE TABLE jobs (name); CREATE INDEX j ON jobs (name)"
FILL = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "


def _fill(owner: apsw.Connection, table: str, column: str, rows: int = ROWS) -> None:
    owner.execute(f"INSERT INTO {table} ({column}) {FILL % rows} SELECT 'value ' || i FROM n")


def _make_queue_file(path: Path, journal: str = "delete") -> apsw.Connection:
    """A PrismQ queue with tasks, logs and a worker, and a table of the application's own."""
    owner = apsw.Connection(str(path))
    owner.pragma("journal_mode", journal)
    owner.execute(SCHEMA)
    owner.execute("CREATE TABLE migrations (name); INSERT INTO migrations VALUES ('one'), ('two')")
    _fill(owner, "task_queue", "type")
    owner.execute("INSERT INTO task_logs (task_id, level) SELECT id, 'info' FROM task_queue")
    owner.execute("INSERT INTO workers (worker_id, capabilities) VALUES ('a:1', '')")
    return owner


def _make_plain_file(path: Path, journal: str = "delete") -> apsw.Connection:
    """Tables that no queue profile fits."""
    owner = apsw.Connection(str(path))
    owner.pragma("journal_mode", journal)
    owner.execute(PLAIN)
    for table in ("users", "rooms", "jobs"):
        _fill(owner, table, "name")
    return owner


def _empty_file(path: Path, owner: apsw.Connection) -> None:
    owner.close()
    path.write_bytes(b"")


def _made_again(make: Callable[[Path], apsw.Connection], schema: str) -> Callable[[Path, apsw.Connection], None]:
    def replace_file(path: Path, owner: apsw.Connection) -> None:
        owner.close()
        path.unlink()
        fresh = apsw.Connection(str(path))
        fresh.execute(schema)
        fresh.close()

    return replace_file


def _sql(text: str) -> Callable[[Path, apsw.Connection], None]:
    def execute(_path: Path, owner: apsw.Connection) -> None:
        owner.execute(text)

    return execute


def _losses(
    tmp_path: Path,
    raw: RawReader,
    make: Callable[..., apsw.Connection],
    change: Callable[[Path, apsw.Connection], None],
) -> Snapshot:
    path = tmp_path / "queue.db"
    owner = make(path)
    target = Target("jobs", path)
    before = poll_database(target, None, time.time(), raw)
    assert before.collectors["storage"].success
    change(path, owner)
    return poll_database(target, before, time.time() + 1, raw)


def _reading(snapshot: Snapshot) -> ContentReading:
    reading = snapshot.readings["storage"]
    assert isinstance(reading, StorageReading)
    return reading.content


VANISHED = {
    "emptied file": (_make_queue_file, _empty_file),
    "emptied file of no profile": (_make_plain_file, _empty_file),
    "dropped tables": (_make_queue_file, _sql("DROP TABLE task_logs; DROP TABLE task_queue; DROP TABLE workers")),
    "the tables with most rows dropped": (
        _make_queue_file,
        _sql("PRAGMA foreign_keys=OFF; DROP TABLE task_queue; DROP TABLE task_logs"),
    ),
    "made again": (_make_queue_file, _made_again(_make_queue_file, SCHEMA + "CREATE TABLE migrations (name)")),
    "made again, no profile": (_make_plain_file, _made_again(_make_plain_file, PLAIN)),
    "emptied and its numbers reset": (
        _make_queue_file,
        _sql("DELETE FROM task_logs; DELETE FROM task_queue; DELETE FROM workers; DELETE FROM sqlite_sequence"),
    ),
    "all rows of all tables deleted": (_make_plain_file, _sql("DELETE FROM users; DELETE FROM rooms; DELETE FROM jobs")),
    "nearly all rows deleted": (
        _make_plain_file,
        _sql("DELETE FROM users WHERE rowid > 9; DELETE FROM rooms WHERE rowid > 9; DELETE FROM jobs WHERE rowid > 9"),
    ),
    "all rows of all tables, vacuumed": (
        _make_plain_file,
        _sql("DELETE FROM users; DELETE FROM rooms; DELETE FROM jobs; VACUUM"),
    ),
}  # fmt: skip
EVERY_DAY = {
    "a drained queue": (_make_queue_file, _sql("DELETE FROM task_logs; DELETE FROM task_queue; DELETE FROM workers")),
    "a drained queue, vacuumed": (_make_queue_file, _sql("DELETE FROM task_logs; DELETE FROM task_queue; VACUUM")),
    "a real shrink": (_make_queue_file, _sql("DELETE FROM task_logs; DELETE FROM task_queue WHERE id % 20; VACUUM")),
    "numbers reset, rows kept": (_make_queue_file, _sql("DELETE FROM sqlite_sequence")),
    "one table dropped": (_make_plain_file, _sql("DROP TABLE rooms")),
    "one table emptied": (_make_plain_file, _sql("DELETE FROM rooms")),
    "tables renamed": (
        _make_plain_file,
        _sql("ALTER TABLE users RENAME TO u; ALTER TABLE rooms RENAME TO r; ALTER TABLE jobs RENAME TO j2"),
    ),
    "a migration that makes each table anew": (
        _make_plain_file,
        _sql("CREATE TABLE n AS SELECT * FROM users; DROP TABLE users; ALTER TABLE n RENAME TO users"),
    ),
    "more rows": (_make_plain_file, _sql("INSERT INTO users SELECT * FROM rooms")),
}  # fmt: skip


@pytest.mark.parametrize("case", VANISHED)
def test_content_that_vanished_is_a_loss(tmp_path: Path, raw: RawReader, case: str) -> None:
    after = _losses(tmp_path, raw, *VANISHED[case])
    reading = _reading(after)
    assert after.up
    assert reading.great_loss is not None
    assert reading.great_loss.words
    assert next(after.samples_of(LOST.name)).value_at(0) > 0.5


@pytest.mark.parametrize("case", EVERY_DAY)
def test_what_queues_do_every_day_is_no_loss(tmp_path: Path, raw: RawReader, case: str) -> None:
    after = _losses(tmp_path, raw, *EVERY_DAY[case])
    assert _reading(after).great_loss is None
    assert next(after.samples_of(LOST.name)).value_at(0) <= 0.5


def test_an_emptied_wal_database_in_use_is_no_healthy_one(tmp_path: Path, raw: RawReader) -> None:
    path = tmp_path / "queue.db"
    owner = _make_queue_file(path, "wal")
    owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    target = Target("jobs", path)
    before = poll_database(target, None, time.time(), raw)
    with path.open("r+b") as file:  # no connection of this process is used afterwards
        file.truncate(0)
    after = poll_database(target, before, time.time() + 1, raw)
    reading = _reading(after)
    assert not after.up or reading.great_loss is not None
    owner.close()


def test_a_loss_lasts_until_the_content_is_back(tmp_path: Path, raw: RawReader) -> None:
    path = tmp_path / "queue.db"
    _make_queue_file(path).close()
    whole = path.read_bytes()
    target = Target("jobs", path)
    first = poll_database(target, None, time.time(), raw)
    path.write_bytes(b"")
    lost = poll_database(target, first, time.time() + 1, raw)
    later = poll_database(target, lost, time.time() + 2 * MARKS_LAST, raw)
    assert _reading(later).great_loss is not None
    path.write_bytes(whole)
    back = poll_database(target, later, time.time() + 3 * MARKS_LAST, raw)
    assert _reading(back).great_loss is None


def test_what_an_earlier_process_remembered_counts(tmp_path: Path, raw: RawReader) -> None:
    path = tmp_path / "queue.db"
    _make_queue_file(path).close()
    target = Target("jobs", path)
    memory = _reading(poll_database(target, None, time.time(), raw)).memory
    path.write_bytes(b"")
    stored = decode_memory(encode_memory(memory))
    assert stored == memory
    after = poll_database(target, remembered_snapshot(target, stored), time.time() + 1, raw)
    assert _reading(after).great_loss is not None
    accepted = replace(stored, accepted_at=time.time() + 2)
    assert _reading(poll_database(target, remembered_snapshot(target, accepted), time.time() + 3, raw)).loss is None


def test_another_file_of_the_same_name_is_not_held_against_the_former(tmp_path: Path, raw: RawReader) -> None:
    _make_queue_file(tmp_path / "queue.db").close()
    (tmp_path / "other").mkdir()
    _make_plain_file(tmp_path / "other" / "queue.db").close()
    before = poll_database(Target("queue", tmp_path / "queue.db"), None, time.time(), raw)
    after = poll_database(Target("queue", tmp_path / "other" / "queue.db"), before, time.time() + 1, raw)
    assert _reading(after).great_loss is None


def test_small_steps_are_compared_with_their_start(tmp_path: Path, raw: RawReader) -> None:
    path = tmp_path / "queue.db"
    owner = _make_plain_file(path)
    target = Target("jobs", path)
    snapshot = poll_database(target, None, time.time(), raw)
    for step, rows in enumerate((1000, 300, 60, 20, 5), 1):
        for table in ("users", "rooms", "jobs"):
            owner.execute(f"DELETE FROM {table} WHERE rowid > {rows}")
        snapshot = poll_database(target, snapshot, time.time() + step, raw)
    assert _reading(snapshot).great_loss is not None


def test_marks_are_forgotten_after_a_day() -> None:
    memory = ContentMemory()
    for hour in range(48):
        rows = 100 if hour < 10 else 20
        memory = remember_facts(memory, ContentFacts(hour * 3600.0, {"jobs": rows}))
    assert [facts.rows for facts in memory.baselines()] == [{"jobs": 20}, {"jobs": 20}]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"marks": 3, "former": null, "begun": 0, "accepted_at": 0}', "nul"])
def test_a_memory_that_is_not_ours_begins_anew(text: str) -> None:
    assert decode_memory(text) == ContentMemory()


def test_a_count_reads_no_index_and_no_more_rows_than_it_says(tmp_path: Path, raw: RawReader) -> None:
    path = tmp_path / "queue.db"
    owner = apsw.Connection(str(path))
    owner.create_collation("ours", lambda one, other: (one > other) - (one < other))
    owner.create_scalar_function("shout", lambda text: str(text).upper(), deterministic=True)
    owner.execute(
        "CREATE TABLE jobs (name); CREATE INDEX j ON jobs (name COLLATE ours); CREATE INDEX s ON jobs (shout(name))"
    )
    owner.execute("CREATE TABLE loud (name, big AS (shout(name)) STORED, CHECK (shout(name) <> 'x'))")
    _fill(owner, "jobs", "name")
    _fill(owner, "loud", "name")
    owner.close()
    snapshot = poll_database(Target("jobs", path), None, time.time(), raw)
    assert snapshot.collectors["storage"].success, snapshot.collectors["storage"].message
    facts = _reading(snapshot).facts
    assert facts is not None
    assert facts.rows == {"jobs": COUNTED_ROWS, "loud": COUNTED_ROWS}


def test_a_poll_of_many_wide_tables_counts_few_rows_of_each(tmp_path: Path, raw: RawReader) -> None:
    path = tmp_path / "queue.db"
    owner = apsw.Connection(str(path))
    with owner:
        for number in range(400):
            owner.execute(f"CREATE TABLE t{number} (wide); CREATE TABLE few{number} (wide)")
            owner.execute(f"INSERT INTO t{number} {FILL % 30} SELECT zeroblob(3000) FROM n")
    owner.close()
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    schema = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    connection.status(apsw.SQLITE_DBSTATUS_CACHE_MISS, True)
    facts = read_content_facts(connection, schema, None, time.time())
    pages_read, _ = connection.status(apsw.SQLITE_DBSTATUS_CACHE_MISS)
    assert pages_read < 4000, "12,000 pages have rows"
    assert facts.rows["t1"] == COUNTED_ROWS, "not counted to its end: never fewer than it may have"
    assert facts.rows["few1"] == 0


def test_a_backup_of_before_is_held_against_exact_numbers() -> None:
    before = ContentFacts(1.0, {"users": 10_000, "rooms": 20_000}, exact=True)
    assert measure_content_loss(before, ContentFacts(2.0, {"users": 900, "rooms": 1900}, exact=True)).is_most
    assert not measure_content_loss(before, ContentFacts(2.0, {"users": 1900, "rooms": 9000}, exact=True)).is_most
    assert not measure_content_loss(before, ContentFacts(2.0, {"users": 100, "rooms": 100})).is_most, "at least so many"
