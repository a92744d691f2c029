"""Files made by the real libraries: every metric equals independent SQL, and the library goes on after our requeue."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from collectors.access.snapshot import Snapshot
from collectors.poll import poll_database
from collectors.raw_reader.client import RawReader
from tests.support.real import real_parts
from tests.support.scenes import prismq, queue_files
from tests.support.scenes.run_actions import by_hand, target_of

ROOT = Path(__file__).resolve().parents[3]
LITEQUE = Path(os.environ.get("QK_REAL_DIR", ROOT / ".real")) / "liteque"
Ask = Callable[[str], dict[str, Any]]


def read(path: Path, raw: RawReader, now: float, **settings: Any) -> Snapshot:
    snapshot = poll_database(target_of(path, settings=settings), None, now, raw)
    assert snapshot.state == "readable", snapshot.message
    assert {name for name, result in snapshot.collectors.items() if not result.success} == set(), snapshot.collectors
    return snapshot


def counts(snapshot: Snapshot) -> dict[tuple[str, ...], float]:
    """Tasks by (queue, state), without the zeros."""
    return {s.labels: s.value_at(0) for s in snapshot.samples_of("sqlite_queue_tasks") if s.value_at(0)}


def ages(snapshot: Snapshot, name: str, now: float) -> dict[str, float]:
    return {s.labels[0]: s.value_at(now) for s in snapshot.samples_of(name)}


def sql(path: Path, *statements: str) -> dict[tuple[str, str], int]:
    """Independent: (queue, state) -> rows, of statements that each give queue, state, number."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        rows = (row for statement in statements for row in connection.execute(statement).fetchall())
        return {(str(queue), str(state)): int(number) for queue, state, number in rows}


def value(path: Path, statement: str) -> Any:
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        return connection.execute(statement).get


@pytest.fixture
def huey(tmp_path: Path) -> Iterator[Path]:
    with prismq.process("real_queues.py", "huey", tmp_path / "huey.db"):
        yield tmp_path / "huey.db"


@pytest.fixture
def persistqueue(tmp_path: Path) -> Iterator[Path]:
    with prismq.process("real_queues.py", "persist_queue", tmp_path / "pq.db"):
        yield tmp_path / "pq.db"


@contextmanager
def liteque_process(path: Path) -> Iterator[tuple[dict[str, Any], Ask]]:
    """A file by liteque, and a function that sends its process a command."""
    if not (LITEQUE / "node_modules" / "liteque").exists():
        cause = f"liteque is not at {LITEQUE}; run `make setup`"
        if real_parts.required():
            pytest.fail(cause)
        pytest.skip(cause)
    script = ROOT / "tests" / "support" / "real" / "liteque" / "make.mjs"
    child = subprocess.Popen(
        ["node", str(script), str(path)], cwd=LITEQUE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        stdin, stdout = child.stdin, child.stdout

        def ask(word: str) -> dict[str, Any]:
            stdin.write(word + "\n")
            stdin.flush()
            return dict(json.loads(stdout.readline()))

        try:
            yield json.loads(stdout.readline()), ask
        finally:
            child.kill()


# --- huey ---

HUEY_ZONE = os.environ.get("TZ", "UTC")  # huey writes `timestamp` by the local time of the process that enqueues


def test_hueys_file_is_counted_as_sql_counts_it(huey: Path, raw: RawReader) -> None:
    now = time.time()
    snapshot = read(huey, raw, now, time_zone=HUEY_ZONE)
    by_sql = sql(
        huey,
        "SELECT queue, 'waiting', count(*) FROM task GROUP BY 1",
        "SELECT queue, 'locks', count(*) FROM kv WHERE instr(key, '.lock.') GROUP BY 1",
        "SELECT queue, 'results', count(*) FROM kv WHERE NOT instr(key, '.lock.') GROUP BY 1",
    )
    later = {(queue, state): 1 for queue in ("mail", "video") for state in ("scheduled", "waiting_schedule")}
    assert by_sql["mail", "waiting"] == 5
    assert counts(snapshot) == {**by_sql, **later}
    assert [s.labels[3] for s in snapshot.samples_of("sqlite_info")] == ["huey"]
    assert ages(snapshot, "sqlite_queue_head_unchanged_seconds", now + 7) == {"mail": 7, "video": 7}
    assert list(snapshot.samples_of("sqlite_queue_oldest_waiting_age_seconds")) == []
    assert list(snapshot.samples_of("sqlite_queue_stale_leases")) == []
    assert list(snapshot.samples_of("sqlite_queue_enqueued_total")) == []


def test_there_is_nothing_to_requeue_in_huey(huey: Path) -> None:
    run = by_hand(target_of(huey), "requeue")
    assert (run.outcome, run.reason) == ("refused", "no_requeue")


# --- persist-queue ---


def test_persist_queues_tables_are_distinguished_in_one_file(persistqueue: Path, raw: RawReader) -> None:
    now = time.time()
    snapshot = read(persistqueue, raw, now)
    a, p = "persist-queue-ack/", "persist-queue/"
    words = "CASE status WHEN 0 THEN 'waiting' WHEN 1 THEN 'waiting' WHEN 2 THEN 'running' WHEN 5 THEN 'done' ELSE 'failed' END"
    by_sql = sql(
        persistqueue,
        f"SELECT '{p}jobs', 'waiting', count(*) FROM queue_jobs",
        f"SELECT '{p}filo_jobs', 'waiting', count(*) FROM filo_queue_jobs",
        f"SELECT '{a}acks', {words}, count(*) FROM ack_queue_acks GROUP BY 2",
        f"SELECT '{a}unique_uniq', 'waiting', count(*) FROM ack_unique_queue_uniq",
    )
    assert counts(snapshot) == by_sql
    assert by_sql[f"{a}acks", "running"] == 2
    assert [s.labels[3] for s in snapshot.samples_of("sqlite_info")] == ["persist-queue-ack+persist-queue"]
    oldest = ages(snapshot, "sqlite_queue_oldest_waiting_age_seconds", now)
    first = value(persistqueue, "SELECT min(timestamp) FROM ack_queue_acks WHERE status < 2")
    assert oldest[f"{a}acks"] == pytest.approx(max(0.0, now - first), abs=1e-3)
    sequence = value(persistqueue, "SELECT sum(seq) FROM sqlite_sequence")
    assert [s.value_at(now) for s in snapshot.samples_of("sqlite_queue_enqueued_total")] == [sequence]


def test_claimed_persist_queue_tasks_are_requeued_only_when_the_workers_are_stopped(
    tmp_path: Path, raw: RawReader
) -> None:
    path = tmp_path / "pq.db"
    with prismq.process("real_queues.py", "persist_queue", path):
        now = time.time() + 4000
        stale = {
            s.labels[0]: s.value_at(now)
            for s in read(path, raw, now).samples_of("sqlite_queue_stale_leases")
            if s.value_at(now)
        }
        assert stale == {"persist-queue-ack/acks": 2}
        assert by_hand(target_of(path), "requeue").reason == "workers_running"
    with queue_files.owned(path) as owner:
        owner.execute("UPDATE ack_queue_acks SET timestamp = timestamp - 4000")
        run = by_hand(target_of(path), "requeue", workers_stopped=True)
        assert (run.outcome, run.message.partition(";")[0]) == ("done", "requeued 2 tasks")
    with prismq.process("real_queues.py", "persist_queue_resumed", path):
        # of nine one is acknowledged and one failed; the library gets all others again
        assert Path(f"{path}.items").read_text() == "[2, 3, 4, 5, 6, 7, 8]"


# --- liteque ---


def test_liteques_file_is_counted_as_sql_counts_it(tmp_path: Path, raw: RawReader) -> None:
    path = tmp_path / "liteque.db"
    with liteque_process(path) as (made, _):
        now = time.time()
        snapshot = read(path, raw, now)
        word = (
            "CASE WHEN status = 'running' THEN 'running' WHEN status = 'failed' THEN 'failed' "
            f"WHEN availableAt / 1000.0 > {now} THEN 'scheduled' ELSE 'waiting' END"
        )
        by_sql = sql(path, f"SELECT queue, {word}, count(*) FROM tasks GROUP BY 1, 2")
        assert counts(snapshot) == by_sql
        assert by_sql["crawl", "scheduled"] == 1
        assert made["stats"]["running"] == by_sql["crawl", "running"] == 2
        assert ages(snapshot, "sqlite_queue_stale_leases", now) == {"crawl": 1, "mail": 0}
        end = value(path, "SELECT min(expireAt) FROM tasks WHERE status = 'running'")
        assert ages(snapshot, "sqlite_queue_oldest_stale_lease_age_seconds", now)["crawl"] == pytest.approx(now - end)
        waiting = "SELECT min(coalesce(availableAt / 1000.0, createdAt)) FROM tasks WHERE status LIKE 'pending%'"
        oldest = ages(snapshot, "sqlite_queue_oldest_waiting_age_seconds", now)
        assert oldest == {"crawl": pytest.approx(now - value(path, waiting), abs=1e-3), "mail": 0}
        assert [s.value_at(now) for s in snapshot.samples_of("sqlite_queue_enqueued_total")] == [7]


def test_a_requeued_liteque_task_gets_a_new_token_and_is_claimed_by_the_library(tmp_path: Path, raw: RawReader) -> None:
    path = tmp_path / "liteque.db"
    with liteque_process(path) as (made, ask):
        run = by_hand(target_of(path), "requeue")
        assert (run.outcome, run.message.partition(";")[0]) == ("done", "requeued 1 task")
        ask("late answer")
        assert value(path, f"SELECT status FROM tasks WHERE id = {made['lost']}") == "pending_retry"
        assert made["lost"] in ask("take")["taken"]
        assert value(path, "PRAGMA integrity_check") == "ok"
