"""The shipped profiles on files in the documented schema: metrics, requeue and purge, each against independent SQL."""

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import apsw
import pytest

from actions.model.condition import Condition
from collectors.access.snapshot import Snapshot
from collectors.poll import poll_database
from collectors.queue_profiles import detection
from collectors.queue_profiles.authorizer import allow_changes
from collectors.queue_profiles.row_selection import CompiledPurge
from collectors.raw_reader.client import RawReader
from collectors.target import Target
from tests.support.scenes import queue_files
from tests.support.scenes.run_actions import by_hand, by_rule, target_of
from tests.support.scenes.select_and_apply import apply_all, select_all

STALE = Condition("sqlite_queue_stale_leases", above=0)


def read(target: Target, raw: RawReader, now: float) -> Snapshot:
    snapshot = poll_database(target, None, now, raw)
    assert {name: r.message for name, r in snapshot.collectors.items() if not r.success} == {}
    return snapshot


def numbers(snapshot: Snapshot, name: str, now: float) -> dict[tuple[str, ...], float]:
    return {s.labels: s.value_at(now) for s in snapshot.samples_of(name)}


def tasks(snapshot: Snapshot) -> dict[tuple[str, ...], float]:
    return {labels: number for labels, number in numbers(snapshot, "sqlite_queue_tasks", 0).items() if number}


def rows(owner: apsw.Connection, sql: str) -> Any:
    return owner.execute(sql).fetchall()


def purge_of(owner: apsw.Connection, target: Target) -> CompiledPurge:
    profile = detection.detect_profile(owner, target)
    assert profile is not None
    assert profile.purge is not None
    return profile.purge


def purged(
    owner: apsw.Connection, target: Target, now: float, older_than: float | None = None, limit: int = 100
) -> int:
    """Purge as the action does: select the rows, then one transaction."""
    purge = purge_of(owner, target)
    selected = select_all(owner, purge.selections, now, older_than, limit)
    with owner:
        return apply_all(owner, selected, now, older_than)["gone"]


# --- Solid Queue ---


def job(
    owner: apsw.Connection, queue: str, now: float, finished: float | None = None, prefix: str = "solid_queue_"
) -> int:
    queue_files.add(owner, f"{prefix}jobs", queue_name=queue, class_name="J", created_at=queue_files.micro(now),
                    updated_at=queue_files.micro(now), priority=7,
                    finished_at=None if finished is None else queue_files.micro(finished))  # fmt: skip
    return int(owner.last_insert_rowid())


def fill_solid_queue(owner: apsw.Connection, now: float, prefix: str = "solid_queue_") -> None:
    text = queue_files.micro
    for number, seen in ((1, now - 10), (2, now - 1000)):
        queue_files.add(owner, f"{prefix}processes", id=number, kind="Worker", last_heartbeat_at=text(seen), pid=number,
                        created_at=text(now), name=f"w{number}")  # fmt: skip
    for age in (40, 30):
        queue_files.add(owner, f"{prefix}ready_executions", job_id=job(owner, "mail", now, None, prefix),
                        queue_name="mail", created_at=text(now - age))  # fmt: skip
    for due in (now + 60, now - 60):
        queue_files.add(owner, f"{prefix}scheduled_executions", job_id=job(owner, "mail", now, None, prefix),
                        queue_name="mail", scheduled_at=text(due), created_at=text(now))  # fmt: skip
    queue_files.add(owner, f"{prefix}blocked_executions", job_id=job(owner, "video", now, None, prefix), queue_name="video",
                    concurrency_key="k", expires_at=text(now), created_at=text(now))  # fmt: skip
    for process in (1, 2, 99):  # alive, silent, gone
        queue_files.add(owner, f"{prefix}claimed_executions", job_id=job(owner, "video", now, None, prefix),
                        process_id=process, created_at=text(now - 2000))  # fmt: skip
    queue_files.add(
        owner, f"{prefix}failed_executions", job_id=job(owner, "mail", now, None, prefix), created_at=text(now)
    )
    for age in (10, 200_000, 300_000):
        done = job(owner, "mail", now, now - age, prefix)
        queue_files.add(owner, f"{prefix}recurring_executions", job_id=done, task_key="t", run_at=text(now - age),
                        created_at=text(now))  # fmt: skip


@pytest.fixture(params=["solid_queue_", "firm_queue_"])
def solid(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[apsw.Connection, Target, str, float]]:
    path, now = tmp_path / "solid.db", time.time()
    with queue_files.owned(path, queue_files.solid_queue(request.param)) as owner:
        fill_solid_queue(owner, now, request.param)
        yield owner, target_of(path), request.param, now


def test_solid_queue_is_counted_under_both_prefixes(solid: Any, raw: RawReader) -> None:
    _, target, _, now = solid
    snapshot = read(target, raw, now)
    assert tasks(snapshot) == {
        ("mail", "waiting"): 2, ("mail", "scheduled"): 1, ("mail", "waiting_schedule"): 1, ("video", "blocked"): 1,
        ("video", "running"): 3, ("mail", "failed"): 1, ("mail", "done"): 3,
    }  # fmt: skip
    assert numbers(snapshot, "sqlite_queue_stale_leases", now) == {("mail",): 0, ("video",): 2}
    assert numbers(snapshot, "sqlite_queue_workers", now) == {("alive",): 1, ("stale",): 1}
    assert numbers(snapshot, "sqlite_queue_enqueued_total", now) == {(): 12}
    oldest = numbers(snapshot, "sqlite_queue_oldest_waiting_age_seconds", now)
    assert oldest == {("mail",): pytest.approx(40, abs=1e-3), ("video",): 0}


def test_solid_queues_abandoned_jobs_are_ready_again_and_others_untouched(solid: Any, raw: RawReader) -> None:
    owner, target, prefix, now = solid
    refused = by_rule(target, "requeue", STALE)
    assert (refused.outcome, refused.reason) == ("refused", "guarded")
    stale = f"SELECT job_id FROM {prefix}claimed_executions WHERE process_id <> 1 ORDER BY 1"
    jobs = [job for (job,) in rows(owner, stale)]
    run = by_hand(target, "requeue")
    assert (run.outcome, run.message.partition(";")[0]) == ("done", "requeued 2 tasks")
    assert rows(owner, f"SELECT process_id FROM {prefix}claimed_executions") == [(1,)]
    ready = f"SELECT job_id, queue_name, priority FROM {prefix}ready_executions WHERE queue_name = 'video' ORDER BY 1"
    assert rows(owner, ready) == [(job, "video", 7) for job in jobs]
    assert numbers(read(target, raw, time.time()), "sqlite_queue_stale_leases", now)[("video",)] == 0
    assert rows(owner, "PRAGMA foreign_key_check") == []


def test_solid_queues_old_finished_jobs_go_with_what_hangs_on_them(solid: Any) -> None:
    owner, target, prefix, now = solid
    assert purged(owner, target, now, older_than=250_000) == 1
    assert purged(owner, target, now) == 1
    assert rows(owner, f"SELECT count(*) FROM {prefix}jobs WHERE finished_at IS NOT NULL") == [(1,)]
    assert rows(owner, f"SELECT count(*) FROM {prefix}recurring_executions") == [(1,)]
    assert rows(owner, "PRAGMA foreign_key_check") == []


# --- Laravel ---


@pytest.fixture
def laravel(tmp_path: Path) -> Iterator[tuple[apsw.Connection, Target, float]]:
    path, now = tmp_path / "laravel.db", float(int(time.time()))
    with queue_files.owned(path, queue_files.LARAVEL, journal_mode="delete") as owner:
        base = {"payload": "{}", "attempts": 0, "created_at": int(now)}
        queue_files.add(owner, "jobs", 3, queue="default", available_at=int(now - 25), **base)
        queue_files.add(owner, "jobs", 1, queue="default", available_at=int(now + 500), **base)
        queue_files.add(owner, "jobs", 2, queue="mail", available_at=int(now - 99), reserved_at=int(now - 30), **base)
        queue_files.add(owner, "jobs", 1, queue="mail", available_at=int(now - 999), reserved_at=int(now - 500), **base)
        for age in (0, 700_000):
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now - age))
            queue_files.add(owner, "failed_jobs", uuid=str(age), connection="c", queue="mail", payload="{}", exception="",
                            failed_at=stamp)  # fmt: skip
        yield owner, target_of(path), now


def test_laravel_is_counted_and_its_retry_after_is_a_setting(laravel: Any, raw: RawReader) -> None:
    _, target, now = laravel
    snapshot = read(target, raw, now)
    assert tasks(snapshot) == {
        ("default", "waiting"): 3, ("default", "scheduled"): 1, ("mail", "running"): 3, ("mail", "failed"): 2,
    }  # fmt: skip
    assert numbers(snapshot, "sqlite_queue_stale_leases", now) == {("default",): 0, ("mail",): 1}
    ages = numbers(snapshot, "sqlite_queue_oldest_stale_lease_age_seconds", now)
    assert ages == {("default",): 0, ("mail",): 500}
    assert numbers(snapshot, "sqlite_queue_oldest_waiting_age_seconds", now)[("default",)] == 25
    patient = target_of(target.path, settings={"stale_after": 600.0})
    assert sum(numbers(read(patient, raw, now), "sqlite_queue_stale_leases", now).values()) == 0


def test_laravels_stale_job_is_free_again(laravel: Any) -> None:
    owner, target, now = laravel
    assert by_hand(target, "requeue").message.startswith("requeued 1 task")
    assert rows(owner, "SELECT reserved_at, attempts FROM jobs WHERE id = 7") == [(None, 0)]
    assert rows(owner, "SELECT count(*) FROM jobs WHERE reserved_at IS NOT NULL") == [(2,)]
    assert purged(owner, target, now) == 1
    assert rows(owner, "SELECT uuid FROM failed_jobs") == [("0",)]


# --- PrismQ: workers and purge ---


def test_prismqs_workers_are_alive_or_stale_and_finished_tasks_go_with_their_logs(
    tmp_path: Path, raw: RawReader
) -> None:
    now = time.time()
    with queue_files.owned(tmp_path / "q.db", queue_files.SCHEMAS["prismq"]) as owner:
        for name, age in (("a", 10), ("b", 10), ("c", 1000)):
            seen = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now - age))
            queue_files.add(owner, "workers", worker_id=name, capabilities="{}", heartbeat_utc=seen)
        for number, age in enumerate((10, 700_000), start=1):
            ended = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now - age))
            queue_files.add(owner, "task_queue", type="mail", status="completed", finished_at_utc=ended)
            queue_files.add(owner, "task_logs", 3, task_id=number, level="info")
        target = target_of(tmp_path / "q.db")
        assert numbers(read(target, raw, now), "sqlite_queue_workers", now) == {("alive",): 2, ("stale",): 1}
        purge = purge_of(owner, target)
        assert (purge.gate, purge.frees_idempotency_keys) == ("safe", True)
        assert purged(owner, target, now) == 1
        assert rows(owner, "SELECT id FROM task_queue") == [(1,)]
        assert rows(owner, "SELECT DISTINCT task_id FROM task_logs") == [(1,)]


# --- generic ---

HOME_MADE = """
CREATE TABLE "work items" (nr INTEGER PRIMARY KEY AUTOINCREMENT, "order" TEXT, kind TEXT, due REAL, taken REAL, tries INTEGER
  DEFAULT 0);
"""
WORDS = {
    "table": "work items", "id": "nr", "status": "order", "queue": "kind", "available_at": "due", "time": "unix_f",
    "waiting": "todo, again", "running": "doing", "done": "ok", "failed": "bad",
}  # fmt: skip


def test_a_home_made_table_is_described_by_settings_alone(tmp_path: Path, raw: RawReader) -> None:
    now = time.time()
    with queue_files.owned(tmp_path / "h.db", HOME_MADE) as owner:
        for word, due in (("todo", now - 5), ("again", now - 9), ("todo", now + 50), ("ok", now), ("bad", now)):
            queue_files.add(owner, "work items", order=word, kind="a", due=due)
        queue_files.add(owner, "work items", order="doing", kind="b", due=now, taken=now - 7200)
        queue_files.add(owner, "work items", order="doing", kind="b", due=now, taken=now - 5)
        snapshot = read(target_of(tmp_path / "h.db", profile="generic", settings=WORDS), raw, now)
        assert tasks(snapshot) == {
            ("a", "waiting"): 2, ("a", "scheduled"): 1, ("a", "done"): 1, ("a", "failed"): 1, ("b", "running"): 2,
        }  # fmt: skip
        assert numbers(snapshot, "sqlite_queue_oldest_waiting_age_seconds", now)[("a",)] == pytest.approx(9, abs=1e-3)
        assert list(snapshot.samples_of("sqlite_queue_stale_leases")) == []
        more = {**WORDS, "claimed_at": "taken", "attempts": "tries", "requeue_status": "again"}
        target = target_of(tmp_path / "h.db", profile="generic", settings=more)
        assert numbers(read(target, raw, now), "sqlite_queue_stale_leases", now) == {("b",): 1}
        assert by_hand(target, "requeue").message.startswith("requeued 1 task")
        assert rows(owner, 'SELECT "order", taken, tries FROM "work items" WHERE nr = 6') == [("again", None, 1)]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "settings.table is not set: the table with one row per task"),
        ({"table": "nothing"}, "it has no table nothing"),
        ({**WORDS, "status": "state"}, "table work items has no column state"),
        ({**WORDS, "time": "stardate"}, "settings.time: 'stardate' is no time format"),
        ({**WORDS, "time_zone": "Mars/Crater"}, "settings.time_zone: 'Mars/Crater' is no time zone known here"),
        ({**WORDS, "colour": "red"}, "settings.colour: no such setting"),
        ({**WORDS, "status": 'x" OR 1 --'}, 'table work items has no column x" OR 1 --'),
    ],
)
def test_what_is_wrong_with_the_settings_is_one_line(tmp_path: Path, raw: RawReader, settings: Any, says: str) -> None:
    with queue_files.owned(tmp_path / "h.db", HOME_MADE):
        snapshot = poll_database(
            target_of(tmp_path / "h.db", profile="generic", settings=settings), None, time.time(), raw
        )
        assert says in snapshot.collectors["tasks"].message
        assert "\n" not in snapshot.collectors["tasks"].message


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_local_times_are_read_in_the_named_time_zone(tmp_path: Path, raw: RawReader, zone: str) -> None:
    now = time.time()
    local = [
        datetime.fromtimestamp(now + shift, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S.%f") for shift in (-90, 90)
    ]
    with queue_files.owned(
        tmp_path / "l.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, status TEXT, due TEXT)"
    ) as owner:
        for due in local:
            queue_files.add(owner, "t", status="queued", due=due)
        settings = {"table": "t", "available_at": "due", "time": "sql_local", "time_zone": zone}
        snapshot = read(target_of(tmp_path / "l.db", profile="generic", settings=settings), raw, now)
        assert tasks(snapshot) == {("", "waiting"): 1, ("", "scheduled"): 1}
        assert numbers(snapshot, "sqlite_queue_oldest_waiting_age_seconds", now)[("",)] == pytest.approx(90, abs=0.01)


# --- every one ---


@pytest.mark.parametrize("name", sorted(queue_files.SCHEMAS))
def test_every_actions_statements_keep_their_access_rules_and_change_one_row_by_key(tmp_path: Path, name: str) -> None:
    with queue_files.owned(tmp_path / "x.db", queue_files.SCHEMAS[name]) as owner:
        profile = detection.detect_profile(owner, Target("x", tmp_path / "x.db"))
        assert profile is not None
        assert profile.name == name
        selections = [t for action in (profile.requeue, profile.purge) if action for t in action.selections]
        for selection in selections:
            for step in selection.bind_row_steps(time.time(), 5.0):
                with allow_changes(owner, step.access):
                    for statement in step.statements:
                        owner.execute(
                            f"EXPLAIN {statement}", {**step.values, "key": 1, "seen": None, "holder": None}
                        ).fetchall()
                assert ":key" in step.statements[-1]
