"""How a database is opened: whether we may, how, for how long, and how many label values we allow."""

import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from collectors.access.connection import open_read_only
from collectors.access.errors import describe_failure
from collectors.access.file_facts import DatabaseFacts, FileFacts
from collectors.access.label_limit import limit_labels
from collectors.access.preflight import decide_preflight
from collectors.access.timeouts import TimeLimitExceeded, time_limit
from collectors.raw_reader.formats import DatabaseHeader
from collectors.wal_state import (
    MIN_DISTANCE,
    WalMemory,
    WalObservation,
    classify_wal,
    is_stuck_unseen,
    is_writer_hidden,
    remember_observation,
)
from tests.support.scenes import prismq

SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


# --- connection ---


def test_reading_connection_cannot_write(queue: prismq.Queue) -> None:
    with open_read_only(queue.path) as connection:
        for sql in ("INSERT INTO workers VALUES ('a', '', '')", "PRAGMA user_version = 1", "VACUUM"):
            with pytest.raises(apsw.ReadOnlyError):
                connection.execute(sql)
        with pytest.raises(apsw.Error):
            connection.execute("PRAGMA journal_mode = delete").fetchall()
    assert queue.value("PRAGMA journal_mode") == "wal"


def test_reading_connection_is_closed_when_its_user_fails(queue: prismq.Queue) -> None:
    with pytest.raises(ZeroDivisionError), open_read_only(queue.path) as connection:
        raise ZeroDivisionError
    with pytest.raises(apsw.ConnectionClosedError):
        connection.execute("SELECT 1")


@pytest.mark.parametrize("name", ["a?b.db", "a#b.db", "a%20b.db", "a b'c\"d.db", "ünï.db", "a&mode=rw.db"])
def test_odd_names_open_the_file_they_name(make_queue: Callable[..., prismq.Queue], name: str) -> None:
    queue = make_queue(name)
    queue.put(number=3)
    before = set(os.listdir(queue.path.parent))
    with open_read_only(queue.path) as connection:
        assert connection.execute("SELECT count(*) FROM task_queue").get == 3
    assert set(os.listdir(queue.path.parent)) == before


# --- preflight ---

HEADER = DatabaseHeader(True, 4096, True, 0, "none", 0, 0, "3.40.1")
FILE = FileFacts(size=8192, owner=1001, group=1001, mode=stat.S_IFREG | 0o644)
FOLDER = FileFacts(size=4096, owner=1001, group=1001, mode=stat.S_IFDIR | 0o755, regular=False)
LIVE = DatabaseFacts(
    path=Path("/q/queue.db"),
    database=FILE,
    wal=FILE,
    shm=FILE,
    header=HEADER,
    directory=FOLDER,
    directory_writable=True,
    user=1001,
)
ROLLBACK = replace(LIVE, header=replace(HEADER, wal=False), wal=None, shm=None)
SHARED = replace(
    LIVE,
    user=1002,
    database=replace(FILE, group=2000, mode=stat.S_IFREG | 0o660),
    directory=replace(FOLDER, group=2000, mode=stat.S_IFDIR | 0o2770),
)


@pytest.mark.parametrize(
    ("facts", "state", "may_open", "up"),
    [
        (LIVE, "readable", True, True),
        (replace(LIVE, wal_hold="held"), "readable", True, True),
        (replace(LIVE, wal_hold="refused", exclusive_holder="process 7 (app)"), "busy", False, False),
        (replace(LIVE, wal_hold="refused", shm=None, wal=None), "owner_down", False, True),
        (replace(LIVE, replaced_file_holder="process 7 (app)"), "replaced", False, False),
        (replace(LIVE, user=0, gives_files_away=True), "readable", True, True),
        (replace(LIVE, user=0), "refused", False, False),
        (replace(LIVE, user=-1), "readable", True, True),
        (replace(LIVE, wal=None, shm=None), "owner_down", False, True),
        (replace(LIVE, shm=None), "owner_down", False, True),
        (replace(LIVE, wal=None), "owner_down", False, True),
        (replace(LIVE, user=1002), "refused", False, False),
        (replace(LIVE, user=1002, directory_writable=False), "readable", True, True),
        (SHARED, "readable", True, True),
        (replace(SHARED, database=replace(FILE, group=2000)), "refused", False, False),
        (replace(ROLLBACK, user=1002), "readable", True, True),
        (replace(ROLLBACK, abandoned_journal=True), "hot_journal", False, False),
        (replace(LIVE, database=None, header=None), "missing", False, False),
        (replace(LIVE, database=replace(FILE, regular=False), header=None), "not_a_database", False, False),
        (replace(LIVE, header=None), "not_a_database", False, False),
        (replace(LIVE, header=replace(HEADER, valid=False)), "not_a_database", False, False),
        (replace(ROLLBACK, database=replace(FILE, size=0), header=None), "readable", True, True),
    ],
)
def test_preflight_decides(facts: DatabaseFacts, state: str, may_open: bool, up: bool) -> None:
    verdict = decide_preflight(facts)
    assert (verdict.state, verdict.may_open, verdict.up) == (state, may_open, up)
    assert bool(verdict.message) == (state != "readable")


@pytest.mark.parametrize(
    ("kind", "warned"),
    [
        ("nfs4", True),
        ("cifs", True),
        ("fuse.sshfs", True),
        ("9p", True),
        ("ext4", False),
        ("fuse.mergerfs", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("facts", [LIVE, ROLLBACK], ids=["wal", "rollback"])
def test_a_network_file_system_is_warned_of_and_read(facts: DatabaseFacts, kind: str, warned: bool) -> None:
    verdict = decide_preflight(replace(facts, file_system=kind))
    assert (verdict.state, verdict.may_open, verdict.up) == ("readable", True, True)
    assert ("move it to a local disk" in verdict.message) == warned
    assert (kind in verdict.message) == warned or not kind


def test_refusal_of_a_foreign_user_names_the_cure() -> None:
    message = decide_preflight(replace(LIVE, user=1002)).message
    assert "run queuekeeper as that user" in message
    assert "write permission on /q" in message


# --- time limit ---


def test_slow_query_is_stopped_at_its_limit() -> None:
    with apsw.Connection(":memory:") as connection:
        with pytest.raises(TimeLimitExceeded, match=r"0\.05 s"), time_limit(connection, 0.05):
            connection.execute(SLOW).fetchall()
        assert connection.execute("SELECT 1").get == 1


def test_a_limit_that_passes_between_two_statements_stops_the_next_one() -> None:
    def slow_later(connection: apsw.Connection) -> None:
        time.sleep(0.05)
        connection.execute(SLOW).fetchall()

    with apsw.Connection(":memory:") as connection, pytest.raises(TimeLimitExceeded), time_limit(connection, 0.01):
        slow_later(connection)


def test_fast_query_is_not_disturbed_by_limits_that_ended() -> None:
    with apsw.Connection(":memory:") as connection:
        for _ in range(200):
            with time_limit(connection, 0.002):
                pass  # a statement here could itself last longer on a busy machine
            connection.execute("SELECT 1").fetchall()
        time.sleep(0.01)  # all of them would be due by now
        assert connection.execute("SELECT count(*) FROM (SELECT 1 UNION SELECT 2)").get == 2


def test_connection_closed_inside_its_limit_does_not_stop_the_watchdog() -> None:
    closed = apsw.Connection(":memory:")
    with apsw.Connection(":memory:") as later:
        with time_limit(closed, 0.02):
            closed.close()
            with pytest.raises(TimeLimitExceeded), time_limit(later, 0.05):  # due after the closed one
                later.execute(SLOW).fetchall()
        with pytest.raises(TimeLimitExceeded), time_limit(later, 0.02):
            later.execute(SLOW).fetchall()


def test_an_interrupt_from_elsewhere_is_not_reported_as_the_limit() -> None:
    with apsw.Connection(":memory:") as connection:
        connection.create_scalar_function("stop", connection.interrupt)
        with pytest.raises(apsw.InterruptError), time_limit(connection, 60):
            connection.execute(f"SELECT stop() UNION ALL SELECT * FROM ({SLOW})").fetchall()


def test_many_connections_share_one_watchdog() -> None:
    def slow(results: list[str]) -> None:
        with apsw.Connection(":memory:") as connection:
            try:
                with time_limit(connection, 0.05):
                    connection.execute(SLOW).fetchall()
            except TimeLimitExceeded:
                results.append("stopped")

    results: list[str] = []
    threads = [threading.Thread(target=slow, args=(results,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["stopped"] * 6
    assert sum(thread.name == "time-limit" for thread in threading.enumerate()) == 1


# --- label cap ---


def test_names_beyond_the_cap_become_other_and_are_counted() -> None:
    capped = limit_labels([f"q{i:02}" for i in range(25)], limit=20)
    assert len(capped.named) == 20
    assert capped.folded == 5
    assert capped.label_for("q03") == "q03"
    assert capped.label_for("q24") == "other"
    assert capped.all_labels() == (*capped.named, "other")


def test_a_name_once_shown_stays_though_others_come_first() -> None:
    first = limit_labels(["m", "z"], limit=2)
    later = limit_labels(["a", "b", "m"], first.named, limit=2)
    assert later.named == ("m", "z")
    assert later.folded == 2


def test_an_empty_queue_has_one_nameless_label() -> None:
    assert limit_labels([]).all_labels() == ("",)


# --- reasons ---


@pytest.mark.parametrize(
    ("sql", "word"),
    [("SELECT * FROM nowhere", "no_such_table"), ("SELECT x FROM sqlite_schema", "no_such_column"), ("SELEC", "sql")],
)
def test_sql_errors_have_stable_words(sql: str, word: str) -> None:
    with apsw.Connection(":memory:") as connection, pytest.raises(apsw.SQLError) as caught:
        connection.execute(sql)
    assert describe_failure(caught.value)[0] == word


def test_a_held_database_is_busy(make_queue: Callable[..., prismq.Queue]) -> None:
    queue = make_queue(journal_mode="delete")
    queue.owner.execute("BEGIN EXCLUSIVE")
    with open_read_only(queue.path, 0.01) as connection, pytest.raises(apsw.BusyError) as caught:
        connection.execute("SELECT 1 FROM sqlite_schema")
    queue.owner.execute("ROLLBACK")
    assert describe_failure(caught.value)[0] == "busy"


def test_system_errors_have_stable_words() -> None:
    assert [
        describe_failure(error)[0] for error in (PermissionError(13, ""), FileNotFoundError(2, ""), OSError(5, ""))
    ] == [
        "permission",
        "missing",
        "io",
    ]


# --- WAL states ---

PIN = (77, 124, 10)
BEFORE = WalObservation(at=100, salt="a", changes=5, frames=50, copied=0, pins=frozenset(), seen=True, connected=True)
LATER = replace(BEFORE, at=101)


@pytest.mark.parametrize(
    ("earlier", "now", "state"),
    [
        (None, LATER, "unknown"),
        (replace(BEFORE, seen=False), LATER, "unknown"),
        (BEFORE, replace(LATER, seen=False), "unknown"),
        (BEFORE, LATER, "idle"),
        (replace(BEFORE, pins=frozenset({PIN})), replace(LATER, pins=frozenset({PIN})), "pinned"),
        (replace(BEFORE, pins=frozenset({PIN})), replace(LATER, pins=frozenset({(78, 124, 10)})), "idle"),
        (replace(BEFORE, pins=frozenset({PIN})), replace(LATER, copied=50, pins=frozenset({PIN})), "idle"),
        (replace(BEFORE, copied=20), replace(LATER, frames=90, copied=60), "reset_starved"),
        (replace(BEFORE, copied=20), replace(LATER, frames=90, copied=60, salt="b"), "idle"),
        (replace(BEFORE, copied=20), replace(LATER, frames=90, copied=20), "idle"),
        (BEFORE, replace(LATER, frames=1000), "idle"),
        (BEFORE, replace(LATER, frames=1001), "backlog"),
        (BEFORE, replace(LATER, frames=2001, copied=1000), "reset_starved"),
        (BEFORE, replace(LATER, frames=1001, salt="b"), "idle"),
    ],
)
def test_two_readings_tell_the_state(earlier: WalObservation | None, now: WalObservation, state: str) -> None:
    assert classify_wal(earlier, now) == state


def test_a_writer_that_is_not_visible_makes_a_backlog_unknown() -> None:
    alone = replace(BEFORE, connected=False, frames=1100)
    grown = replace(LATER, connected=False, frames=1500, changes=9)
    assert is_writer_hidden(alone, grown)
    assert is_stuck_unseen(alone, grown)
    assert classify_wal(alone, grown) == "unknown"
    assert classify_wal(alone, replace(grown, changes=alone.changes)) == "backlog"


def test_fast_readings_keep_an_older_one_to_compare_with() -> None:
    memory, distances = WalMemory(), []
    for tick in range(40):
        now = replace(BEFORE, at=tick / 10)
        memory = remember_observation(memory, now)
        if memory.earlier is not None:
            distances.append(now.at - memory.earlier.at)
    assert min(distances) >= MIN_DISTANCE
    assert max(distances) < 3 * MIN_DISTANCE
    assert len(distances) == 35


def test_slow_readings_are_compared_with_the_one_before() -> None:
    memory = remember_observation(remember_observation(WalMemory(), BEFORE), replace(BEFORE, at=115))
    memory = remember_observation(memory, replace(BEFORE, at=130))
    assert memory.earlier is not None
    assert memory.earlier.at == 115


def test_a_clock_that_jumps_back_starts_again() -> None:
    memory = remember_observation(remember_observation(WalMemory(), BEFORE), replace(BEFORE, at=115))
    assert remember_observation(memory, replace(BEFORE, at=50)).earlier is None
