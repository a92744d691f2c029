"""Purge: which rows the profile lets it delete, which stay for their key, which dependents go, and what it reports."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from actions.batches import preview
from actions.model.errors import ActionError, Failed, NothingToDo, Refused
from actions.model.request import Request
from collectors.raw_reader.client import RawReader
from tests.support.scenes import prismq, queue_files
from tests.support.scenes.run_actions import act, by_hand, planned, target_of
from tests.support.scenes.run_in_process import plan_here, run_here, work_on

DAY = 86400.0


def finished(queue: prismq.Queue, days: float, number: int = 1, **columns: Any) -> None:
    """Completed tasks that ended so many days ago."""
    queue.put("completed", number, **{"finished_at_utc": prismq.stamp(time.time() - days * DAY), **columns})


def ids(queue: prismq.Queue) -> list[int]:
    return [number for (number,) in queue.owner.execute("SELECT id FROM task_queue ORDER BY id").fetchall()]


@pytest.fixture
def ended(queue: prismq.Queue) -> prismq.Queue:
    """Tasks 1 to 3 ended 30 days ago, 4 and 5 yesterday; 6 and 7 hold keys; the others never ended."""
    finished(queue, 30, 3)
    finished(queue, 1, 2)
    finished(queue, 30, idempotency_key="a")
    finished(queue, 30, idempotency_key="b")
    queue.put("queued", 2)
    queue.leased(time.time() - 1000)
    queue.put("failed", finished_at_utc=prismq.stamp(time.time() - 30 * DAY))
    return queue


def test_tasks_that_ended_long_ago_are_deleted_and_the_others_stay(ended: prismq.Queue) -> None:
    run = by_hand(target_of(ended.path), "purge")
    assert (run.outcome, run.figures["purged"], run.figures["kept_for_their_key"]) == ("done", 3, 2)
    assert run.message.startswith("purged 3 finished tasks; 2 stay for their idempotency key")
    assert ids(ended) == [4, 5, 6, 7, 8, 9, 10, 11]


def test_keys_are_freed_only_on_request(ended: prismq.Queue, raw: RawReader) -> None:
    target = target_of(ended.path)
    run_here("purge", work_on(target, raw))
    with pytest.raises(Refused, match="2 finished tasks have an idempotency key") as refused:
        plan_here("purge", work_on(target, raw))
    assert (refused.value.reason, "--free-idempotency-keys" in refused.value.next_step) == ("idempotency_keys", True)
    work = work_on(target, raw, free_idempotency_keys=True)
    assert any("frees their idempotency keys" in step for step in plan_here("purge", work).steps)
    assert run_here("purge", work).figures["purged"] == 2
    ended.put(idempotency_key="a")
    with pytest.raises(NothingToDo):
        plan_here("purge", work)


def test_a_rule_may_free_keys_only_with_its_option(ended: prismq.Queue, raw: RawReader) -> None:
    target = target_of(ended.path)
    assert run_here("purge", work_on(target, raw, automatic=True)).figures["purged"] == 3
    with pytest.raises(Refused, match="idempotency key"):
        plan_here("purge", work_on(target, raw, automatic=True))
    allowed = work_on(target, raw, automatic=True, free_idempotency_keys=True)
    assert run_here("purge", allowed).figures["purged"] == 2


def test_no_automatic_purge_outside_a_window(ended: prismq.Queue) -> None:
    refused = act(target_of(ended.path), Request("purge", "queue", "threshold", rule="the rule"), window=None)
    assert (refused.outcome, refused.reason) == ("refused", "no_window")
    assert len(ids(ended)) == 11


def test_older_than_only_narrows_and_the_limit_bounds(ended: prismq.Queue, raw: RawReader) -> None:
    target = target_of(ended.path)
    with pytest.raises(NothingToDo, match="no finished task is old enough"):
        plan_here("purge", work_on(target, raw, older_than=40 * DAY))
    assert run_here("purge", work_on(target, raw, older_than=0.0, limit=2)).figures["purged"] == 2
    assert run_here("purge", work_on(target, raw, older_than=20 * DAY)).figures["purged"] == 1


def test_a_dry_run_lists_the_rows_and_changes_nothing(ended: prismq.Queue) -> None:
    before = ids(ended)
    event = planned(target_of(ended.path), "purge")
    assert "delete 3 tasks: 1 of mail (since 20" in event.message
    assert "2 more stay, because they have an idempotency key" in event.message
    assert (event.figures["finished"], event.figures["kept_for_their_key"]) == (3, 2)
    assert ids(ended) == before


def test_a_plan_for_very_many_is_bounded_and_says_so(
    queue: prismq.Queue, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(queue, 30, 60)
    monkeypatch.setattr(preview, "MOST_COUNTED", 40)
    plan = plan_here("purge", work_on(target_of(queue.path), raw))
    assert (plan.figures["finished"], plan.figures["at_least"]) == (40, True)
    assert plan.steps[0].startswith("delete at least 40 tasks: 1 of mail")
    assert plan.steps[0].endswith("and 20 more")
    assert run_here("purge", work_on(target_of(queue.path), raw)).figures["purged"] == 60


def test_their_logs_are_deleted_and_those_of_others_stay(ended: prismq.Queue, raw: RawReader) -> None:
    for task in range(1, 12):
        ended.owner.execute("INSERT INTO task_logs (task_id, level) VALUES (?, 'info'), (?, 'info')", (task, task))
    run_here("purge", work_on(target_of(ended.path), raw))
    ended.owner.execute("PRAGMA foreign_keys = on")
    assert ended.owner.execute("PRAGMA foreign_key_check").fetchall() == []
    assert ended.value("SELECT count(*) FROM task_logs") == 16


def test_the_applications_own_foreign_keys_are_enforced(ended: prismq.Queue, raw: RawReader) -> None:
    """Whether or not the application enforces them: a row of a table that no profile knows must not be orphaned."""
    ended.owner.execute("CREATE TABLE results (task INTEGER REFERENCES task_queue (id), text)")
    ended.owner.execute("CREATE TABLE notes (task INTEGER REFERENCES task_queue (id) ON DELETE CASCADE, text)")
    ended.owner.execute("INSERT INTO results VALUES (2, 'still needed'); INSERT INTO notes VALUES (1, 'x'), (9, 'y')")
    with pytest.raises(Failed, match="FOREIGN KEY constraint failed") as failed:
        run_here("purge", work_on(target_of(ended.path), raw))
    assert "along" in failed.value.next_step
    assert ended.value("SELECT count(*) FROM task_queue") == 11
    ended.owner.execute("DELETE FROM results")
    assert run_here("purge", work_on(target_of(ended.path), raw)).figures["purged"] == 3
    assert ended.owner.execute("SELECT task FROM notes").fetchall() == [(9,)]


def test_a_scan_under_the_write_lock_is_refused_with_the_missing_index(queue: prismq.Queue, raw: RawReader) -> None:
    finished(queue, 30, 3)
    queue.put(number=1)
    with queue.owner:
        queue.owner.execute("DROP INDEX ix_logs_task")
        queue.owner.execute(
            "INSERT INTO task_logs (task_id, level) SELECT 4, 'info' FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL "
            "SELECT i + 1 FROM n WHERE i < 1500) SELECT i FROM n)"
        )
    with pytest.raises(Refused, match="no index begins with task_id of task_logs") as refused:
        plan_here("purge", work_on(target_of(queue.path), raw))
    assert 'ON "task_logs" ("task_id")' in refused.value.next_step
    queue.owner.execute('CREATE INDEX l ON "task_logs" ("task_id")')
    assert run_here("purge", work_on(target_of(queue.path), raw)).figures["purged"] == 3


def test_the_freed_space_is_reported(queue: prismq.Queue, raw: RawReader) -> None:
    finished(queue, 30, 200, payload=f'"{"x" * 3000}"')
    done = run_here("purge", work_on(target_of(queue.path), raw))
    assert "bytes of the file are free: queuekeeper vacuum queue" in done.message
    assert done.totals == {"purged_tasks": 200.0}


def test_the_access_rules_of_a_purge_let_no_other_row_be_deleted(
    ended: prismq.Queue, raw: RawReader, tmp_path: Path
) -> None:
    ended.owner.execute("CREATE TABLE secrets (word); INSERT INTO secrets VALUES ('x')")
    ended.owner.execute("CREATE TRIGGER gone AFTER DELETE ON task_queue BEGIN UPDATE secrets SET word = 'changed'; END")
    assert run_here("purge", work_on(target_of(ended.path), raw)).figures["purged"] == 3
    assert (
        ended.value("SELECT word FROM secrets") == "changed"
    )  # the application's own trigger, as for any other writer


# --- the other profiles ---


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Callable[..., apsw.Connection]]:
    opened: list[apsw.Connection] = []

    def make(name: str) -> apsw.Connection:
        connection = apsw.Connection(str(tmp_path / "q.db"))
        connection.pragma("journal_mode", "wal")
        queue_files.run(connection, queue_files.SCHEMAS[name])
        opened.append(connection)
        return connection

    yield make
    for connection in opened:
        connection.close()


def test_solid_queue_finished_jobs_go_with_their_recurring_executions(
    other: Callable[..., apsw.Connection], tmp_path: Path, raw: RawReader
) -> None:
    owner, now = other("solid-queue"), time.time()
    for age in (10, 2 * DAY, 3 * DAY):
        queue_files.add(owner, "solid_queue_jobs", queue_name="mail", class_name="J", created_at="", updated_at="",
                        finished_at=queue_files.micro(now - age))  # fmt: skip
        queue_files.add(owner, "solid_queue_recurring_executions", job_id=owner.last_insert_rowid(), task_key="t",
                        run_at="", created_at="")  # fmt: skip
    assert run_here("purge", work_on(target_of(tmp_path / "q.db"), raw)).figures["purged"] == 2
    assert owner.execute("SELECT id FROM solid_queue_jobs").fetchall() == [(1,)]
    assert owner.execute("SELECT job_id FROM solid_queue_recurring_executions").fetchall() == [(1,)]
    assert owner.execute("PRAGMA foreign_key_check").fetchall() == []


def test_laravels_failed_jobs_go_when_they_are_old(
    other: Callable[..., apsw.Connection], tmp_path: Path, raw: RawReader
) -> None:
    owner = other("laravel-database")
    for days in (1, 8, 9):
        queue_files.add(owner, "failed_jobs", uuid=str(days), connection="c", queue="mail", payload="{}", exception="",
                        failed_at=prismq.stamp(time.time() - days * DAY))  # fmt: skip
    assert run_here("purge", work_on(target_of(tmp_path / "q.db"), raw)).figures["purged"] == 2
    assert owner.execute("SELECT uuid FROM failed_jobs").fetchall() == [("1",)]


def test_liteques_failed_tasks_stay_for_their_key_and_go_without_one(
    other: Callable[..., apsw.Connection], tmp_path: Path, raw: RawReader
) -> None:
    owner, old = other("liteque"), int(time.time() - 40 * DAY)
    row = {"queue": "q", "payload": "{}", "status": "failed", "allocationId": "x", "numRunsLeft": 0, "maxNumRuns": 1}
    queue_files.add(owner, "tasks", createdAt=old, **row)
    queue_files.add(owner, "tasks", createdAt=old, idempotencyKey="k", **row)
    queue_files.add(owner, "tasks", createdAt=int(time.time()), **row)
    done = run_here("purge", work_on(target_of(tmp_path / "q.db"), raw))
    assert (done.figures["purged"], done.figures["kept_for_their_key"]) == (1, 1)
    assert owner.execute("SELECT id FROM tasks").fetchall() == [(2,), (3,)]


def test_persist_queues_unique_items_stay_and_the_others_go(tmp_path: Path, raw: RawReader) -> None:
    columns = "(_id INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB{}, timestamp FLOAT, status INTEGER);"
    schema = (
        "CREATE TABLE ack_queue_a "
        + columns.format("")
        + "CREATE TABLE ack_unique_queue_u "
        + columns.format(" UNIQUE")
    )
    with queue_files.owned(tmp_path / "q.db", schema) as owner:
        for table in ("ack_queue_a", "ack_unique_queue_u"):
            for number, status in enumerate((5, 5, 1)):
                queue_files.add(owner, table, data=b"%d" % number, timestamp=time.time() - 2 * DAY, status=status)
        done = run_here("purge", work_on(target_of(tmp_path / "q.db"), raw))
        assert (done.figures["purged"], done.figures["kept_for_their_key"]) == (2, 2)
        assert owner.execute("SELECT status FROM ack_queue_a").fetchall() == [(1,)]
        assert owner.execute("SELECT count(*) FROM ack_unique_queue_u").get == 3


HOME_MADE = "CREATE TABLE work (nr INTEGER PRIMARY KEY, status TEXT, ended REAL, once TEXT);"
SETTINGS = {"table": "work", "id": "nr", "finished_at": "ended", "time": "unix_f"}


def test_a_home_made_table_is_guarded_and_all_its_rows_count_as_keyed_until_the_column_is_named(
    tmp_path: Path, raw: RawReader
) -> None:
    with queue_files.owned(tmp_path / "q.db", HOME_MADE) as owner:
        for once in (None, "a"):
            queue_files.add(owner, "work", status="done", ended=time.time() - 30 * DAY, once=once)
        target = target_of(tmp_path / "q.db", profile="generic", settings=SETTINGS)
        with pytest.raises(Refused) as refused:
            plan_here("purge", work_on(target, raw, automatic=True))
        assert refused.value.reason == "guarded"
        with pytest.raises(Refused) as refused:
            plan_here("purge", work_on(target, raw))
        assert refused.value.reason == "idempotency_keys"
        named = target_of(tmp_path / "q.db", profile="generic", settings={**SETTINGS, "idempotency_key": "once"})
        assert run_here("purge", work_on(named, raw, automatic=True, guarded=True, limit=5)).figures["purged"] == 1
        assert owner.execute("SELECT once FROM work").fetchall() == [("a",)]


@pytest.mark.parametrize("name", ["huey", "persist-queue"])
def test_a_queue_with_nothing_to_purge_is_refused_with_the_reason(
    other: Callable[..., apsw.Connection], tmp_path: Path, raw: RawReader, name: str
) -> None:
    other(name)
    with pytest.raises(ActionError) as refused:
        plan_here("purge", work_on(target_of(tmp_path / "q.db"), raw))
    assert (refused.value.outcome, refused.value.reason) == ("refused", "no_purge")
