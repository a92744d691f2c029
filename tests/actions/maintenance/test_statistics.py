"""Statistics for the query planner: analyze and optimize, in short transactions that add nothing but sqlite_stat1."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from actions import analyze
from actions.maintenance import analyze_tables
from actions.model.errors import Failed, Locked, NothingToDo, Refused
from collectors.raw_reader.client import RawReader
from collectors.target import Limits
from tests.support.scenes import prismq
from tests.support.scenes.run_actions import by_hand, by_rule, planned, target_of
from tests.support.scenes.run_in_process import plan_here, run_here, work_on

Application = Callable[[Path, float], AbstractContextManager[int]]
# A machine under load holds a lock long without any work: what is tested here is what is gathered.
PATIENT = Limits(write_lock=30.0)


def with_tasks(queue: prismq.Queue, number: int = 500) -> prismq.Queue:
    queue.owner.execute(
        "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < ?) INSERT INTO task_queue (type, status)"
        " SELECT 'type' || (i % 7), iif(i % 3, 'completed', 'queued') FROM s",
        (number,),
    )
    return queue


def names(queue: prismq.Queue) -> set[str]:
    return {str(name) for (name,) in queue.owner.execute("SELECT name FROM sqlite_schema")}


def analyzed(queue: prismq.Queue) -> set[str]:
    return {str(name) for (name,) in queue.owner.execute("SELECT DISTINCT tbl FROM sqlite_stat1")}


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_analyze_beside_a_live_application_adds_sqlite_stat1_and_nothing_else(
    make_queue: Callable[..., prismq.Queue], application: Application, mode: str
) -> None:
    queue = with_tasks(make_queue("queue.db", mode))
    before = names(queue)
    with application(queue.path, 2):
        run = by_hand(target_of(queue.path, limits=PATIENT), "analyze")
    assert run.outcome == "done", run.message
    assert run.message == "analyzed 3 of 3 tables"
    assert names(queue) - before == {"sqlite_stat1"}
    assert "task_queue" in analyzed(queue)
    assert queue.value("SELECT count(*) FROM sqlite_stat1 WHERE idx = 'ix_task_status_prio_time'") == 1
    assert queue.value("PRAGMA integrity_check") == "ok"


def test_one_table_by_its_name(queue: prismq.Queue, raw: RawReader) -> None:
    with_tasks(queue)
    strange = 'a "b"; DROP TABLE task_queue; --'
    quoted = '"' + strange.replace('"', '""') + '"'
    queue.owner.execute(f"CREATE TABLE {quoted} (x); INSERT INTO {quoted} VALUES (1)").fetchall()
    target = target_of(queue.path, limits=PATIENT)
    assert run_here("analyze", work_on(target, raw, table=strange)).figures["analyzed"] == 1
    assert analyzed(queue) == {strange}
    run_here("analyze", work_on(target, raw, table="Task_Queue"))
    assert analyzed(queue) == {strange, "task_queue"}
    for wrong, hint in (("task_que", "did you mean task_queue?"), ("x'; DROP TABLE workers; --", "its tables: ")):
        with pytest.raises(Refused, match="there is no table") as caught:
            plan_here("analyze", work_on(target, raw, table=wrong))
        assert hint in caught.value.next_step
    assert queue.value("SELECT count(*) FROM task_queue") == 500


def test_a_dry_run_changes_nothing(queue: prismq.Queue) -> None:
    with_tasks(queue)
    before = names(queue)
    for action in ("analyze", "optimize"):
        plan = planned(target_of(queue.path), action)
        assert "task_queue" in plan.message
        assert plan.figures["stall"] == 0.05
    assert names(queue) == before


def test_samples_of_a_library_that_keeps_them_are_not_lost(queue: prismq.Queue, raw: RawReader) -> None:
    with_tasks(queue)
    queue.owner.execute("ANALYZE")  # this library gathers samples when nothing limits it
    assert queue.value("SELECT count(*) FROM sqlite_stat4 WHERE tbl = 'task_queue'") > 0
    run_here("analyze", work_on(target_of(queue.path, limits=PATIENT), raw))
    assert queue.value("SELECT count(*) FROM sqlite_stat4 WHERE tbl = 'task_queue'") > 0
    queue.owner.execute("DELETE FROM sqlite_stat4")
    run_here("analyze", work_on(target_of(queue.path, limits=PATIENT), raw))
    assert "sqlite_stat4" in names(queue), "what the application made stays"


def test_what_would_hold_the_lock_too_long_is_left_as_it_was(queue: prismq.Queue, raw: RawReader) -> None:
    owner = queue.owner
    owner.execute("CREATE TABLE big (id INTEGER PRIMARY KEY, x); CREATE INDEX big_x ON big (x)").fetchall()
    owner.execute(
        "INSERT INTO big (x) SELECT 1 FROM json_each('[' || replace(hex(zeroblob(150000)), '0', '1,') || '1]')"
    )
    owner.execute("ANALYZE")  # with samples, so that a gathering reads every row
    owner.execute("UPDATE sqlite_stat1 SET stat = 'old' WHERE tbl = 'big'")
    hasty = target_of(queue.path, limits=Limits(write_lock=0.001))
    with pytest.raises(Failed, match=r"big_x \(longer than 0\.001 s\)") as caught:
        run_here("analyze", work_on(hasty, raw, table="big"))
    assert "say --stall 2s" in caught.value.next_step
    assert queue.value("SELECT stat FROM sqlite_stat1 WHERE idx = 'big_x'") == "old"
    assert queue.value("PRAGMA integrity_check") == "ok"
    run_here("analyze", work_on(hasty, raw, table="big", stall=60.0))
    assert queue.value("SELECT stat FROM sqlite_stat1 WHERE idx = 'big_x'") == "300001 300001"


def test_a_collation_of_the_application_is_left_out_and_the_rest_is_done(queue: prismq.Queue, raw: RawReader) -> None:
    with_tasks(queue)
    queue.owner.create_collation("german", lambda a, b: (a > b) - (a < b))
    queue.owner.execute(
        "CREATE TABLE a (x TEXT COLLATE german); CREATE INDEX ax ON a (x); CREATE INDEX ay ON a (1)"
    ).fetchall()
    queue.owner.execute("INSERT INTO a VALUES ('x')")
    done = run_here("analyze", work_on(target_of(queue.path, limits=PATIENT), raw))
    assert "analyzed 3 of 4 tables; left unchanged: ax (no such collation sequence: german)" in done.message
    assert "task_queue" in analyzed(queue)


def test_optimize_gathers_what_sqlite_asks_for_and_then_nothing(queue: prismq.Queue, raw: RawReader) -> None:
    with_tasks(queue)
    target = target_of(queue.path, limits=PATIENT)
    assert "task_queue" in plan_here("optimize", work_on(target, raw)).steps[0]
    run_here("optimize", work_on(target, raw))
    assert "task_queue" in analyzed(queue)
    assert "sqlite_stat4" not in names(queue)
    with pytest.raises(NothingToDo, match="SQLite finds no table"):
        plan_here("optimize", work_on(target, raw))
    with_tasks(queue, 20_000)  # many times as many rows as when it was analyzed
    assert plan_here("optimize", work_on(target, raw)).steps == ("ANALYZE task_queue",)


def test_a_library_that_refuses_statistics_gets_none(queue: prismq.Queue, raw: RawReader, tmp_path: Path) -> None:
    with_tasks(queue)
    own = tmp_path / "own.yaml"
    shipped = (Path(analyze.__file__).parents[1] / "collectors/queue_profiles/shipped/prismq.yaml").read_text()
    own.write_text(shipped.replace("enqueued:", "statistics: false\nenqueued:"))
    target = target_of(queue.path, profile=str(own), limits=PATIENT)
    for action in ("analyze", "optimize"):
        with pytest.raises(Refused, match="refuses a file with SQLite's statistics") as caught:
            plan_here(action, work_on(target, raw))
        assert caught.value.reason == "statistics_unwelcome"
    run_here("analyze", work_on(replace(target, profile="auto"), raw))
    plan_here("analyze", work_on(target, raw))  # the table exists already, so the library accepts it
    with pytest.raises(Refused) as caught:
        plan_here("analyze", work_on(replace(target, profile="huey"), raw))
    assert caught.value.reason == "profile"


def test_a_writer_that_keeps_the_lock_is_not_waited_for_for_ever(
    queue: prismq.Queue, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actions import optimize

    for module in (analyze_tables, optimize):
        monkeypatch.setattr(module, "LOCK_WAIT", 0.05)
    with_tasks(queue)
    work = work_on(target_of(queue.path), raw)
    queue.owner.execute("BEGIN IMMEDIATE")
    for action in ("analyze", "optimize"):
        with pytest.raises(Locked) as caught:
            run_here(action, work)
        assert caught.value.reason == "write_lock"
    queue.owner.execute("COMMIT")
    assert "sqlite_stat1" not in names(queue)


def test_a_database_without_tables_has_nothing_to_gather(tmp_path: Path, raw: RawReader) -> None:
    import apsw

    owner = apsw.Connection(str(tmp_path / "empty.db"))
    owner.execute("PRAGMA user_version = 1")
    for action in ("analyze", "optimize"):
        with pytest.raises(NothingToDo):
            plan_here(action, work_on(target_of(tmp_path / "empty.db"), raw))
    owner.close()


def test_a_schedule_may_ask_for_it(queue: prismq.Queue) -> None:
    with_tasks(queue)
    target = target_of(queue.path, limits=PATIENT)
    assert by_rule(target, "optimize").outcome == "done"
    assert by_rule(target, "optimize").outcome == "nothing_to_do"
