"""`QueueMaintenance`: the original utilities' names, on a live queue; what is wrong is an error in a sentence."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from actions.store.database import state_store
from actions.store.pause import set_pause
from actions.store.runs import newest_runs
from queuekeeper import CheckpointResult, DatabaseStats, OptimizeResult, QueueMaintenance, QueueMaintenanceError
from queuekeeper.child_call import DatabaseReference
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import prismq

Hold = Callable[[Path], AbstractContextManager[int]]
SAFE = "3.51.3"


@pytest.fixture
def maintenance(queue: prismq.Queue, tmp_path: Path) -> QueueMaintenance:
    queue.put(number=10)
    return QueueMaintenance(queue.path, owner_sqlite=SAFE, state=tmp_path / "state")


def test_the_results_have_the_names_of_the_contract() -> None:
    names = {
        result: [field.name for field in dataclasses.fields(result)]
        for result in (CheckpointResult, DatabaseStats, OptimizeResult)
    }
    assert names[CheckpointResult] == ["busy", "log", "checkpointed"]
    assert names[DatabaseStats][:6] == [
        "page_count", "page_size", "total_size_mb", "freelist_count", "wal_mode", "wal_size_mb",
    ]  # fmt: skip
    assert names[OptimizeResult] == ["analyzed", "vacuumed", "stats_before", "stats_after"]
    modes = [getattr(QueueMaintenance, f"CHECKPOINT_{mode}") for mode in ("PASSIVE", "FULL", "RESTART", "TRUNCATE")]
    assert modes == ["PASSIVE", "FULL", "RESTART", "TRUNCATE"]


def test_checkpoints_answer_as_the_pragma_does(maintenance: QueueMaintenance, queue: prismq.Queue) -> None:
    queue.fill_wal(50)
    passive = maintenance.checkpoint()
    assert (passive.busy, passive.log) == (0, passive.checkpointed)
    assert passive.log >= 50
    assert maintenance.checkpoint(QueueMaintenance.CHECKPOINT_TRUNCATE) == CheckpointResult(0, 0, 0)
    assert maintenance.checkpoint("truncate") == CheckpointResult(0, 0, 0)


def test_a_reader_in_the_way_is_busy_and_no_error(
    maintenance: QueueMaintenance, queue: prismq.Queue, held_reader: Hold
) -> None:
    with held_reader(queue.path):
        queue.fill_wal(50)
        result = maintenance.checkpoint(QueueMaintenance.CHECKPOINT_RESTART)
        assert (result.busy, result.log > result.checkpointed) == (1, True)


def test_errors_are_sentences_with_the_cure(queue: prismq.Queue, tmp_path: Path) -> None:
    with pytest.raises(QueueMaintenanceError, match=r"nowhere\.db not found"):
        QueueMaintenance(tmp_path / "nowhere.db")
    unproved = QueueMaintenance(queue.path, state=tmp_path / "state")
    queue.fill_wal(50)
    with pytest.raises(QueueMaintenanceError, match="Invalid checkpoint mode 'AUTO'; one of PASSIVE, FULL"):
        unproved.checkpoint("AUTO")
    with pytest.raises(QueueMaintenanceError, match=r"WAL-reset bug.*owner_sqlite"):
        unproved.checkpoint()
    with state_store(tmp_path / "state") as store:
        set_pause(store, "by ann")
    with pytest.raises(QueueMaintenanceError, match=r"paused \(by ann\) \(queuekeeper resume\)"):
        unproved.cleanup_stale_leases()


def test_stale_leases_go_back_by_their_age_and_are_in_history(
    maintenance: QueueMaintenance, queue: prismq.Queue, tmp_path: Path
) -> None:
    queue.leased(time.time() - 1000, 3)
    queue.leased(time.time() - 400, 2)
    assert maintenance.cleanup_stale_leases(timeout_seconds=700) == 3
    assert maintenance.cleanup_stale_leases() == 2
    assert maintenance.cleanup_stale_leases() == 0
    with state_store(tmp_path / "state") as store:
        newest = newest_runs(store, None, 10)
        assert [(run.trigger, f"uid {os.getuid()}" in run.request.asked_by) for run in newest] == [("person", True)] * 3


def test_stats_are_those_of_the_newest_commit(maintenance: QueueMaintenance, queue: prismq.Queue) -> None:
    queue.fill_wal(300)
    stats = maintenance.get_database_stats()
    assert stats.page_count == queue.value("PRAGMA page_count")
    assert stats.page_size == 4096
    assert stats.total_size_bytes == stats.page_count * 4096
    assert stats.total_size_mb == stats.total_size_bytes / 2**20
    assert stats.freelist_count == queue.value("PRAGMA freelist_count")
    assert stats.wal_mode
    assert stats.wal_size_bytes == queue.path.with_name("queue.db-wal").stat().st_size
    assert queue.value("DELETE FROM ballast RETURNING 1") == 1
    assert maintenance.get_database_stats().freelist_count >= 290


def test_stats_of_a_database_at_rest_leave_nothing_beside_it(
    maintenance: QueueMaintenance, queue: prismq.Queue
) -> None:
    pages = queue.value("PRAGMA page_count")
    queue.owner.close()
    before = sorted(queue.path.parent.iterdir())
    stats = maintenance.get_database_stats()
    assert (stats.page_count, stats.wal_size_bytes, stats.wal_mode) == (pages, 0, True)
    assert sorted(queue.path.parent.iterdir()) == before
    queue.path.write_bytes(b"this is no database, but long enough for a header" * 10)
    with pytest.raises(QueueMaintenanceError, match="no SQLite database, or it is encrypted"):
        maintenance.get_database_stats()


def test_vacuum_gives_back_what_is_free_now_and_analyze_gathers_statistics(
    maintenance: QueueMaintenance, queue: prismq.Queue
) -> None:
    queue.fill_wal(300)
    assert queue.value("DELETE FROM ballast RETURNING 1") == 1
    before = maintenance.get_database_stats()
    maintenance.vacuum()
    after = maintenance.get_database_stats()
    assert (after.freelist_count, after.page_count < before.page_count - 250) == (0, True)
    maintenance.vacuum()  # nothing is left to give back, which is no error
    maintenance.analyze("task_queue")
    assert queue.value("SELECT count(*) > 0 FROM sqlite_stat1 WHERE tbl = 'task_queue'") == 1
    with pytest.raises(QueueMaintenanceError, match="there is no table tasks"):
        maintenance.analyze("tasks")


def test_optimize_tells_what_it_did_and_the_sizes_around_it(maintenance: QueueMaintenance, queue: prismq.Queue) -> None:
    queue.fill_wal(300)
    assert queue.value("DELETE FROM ballast RETURNING 1") == 1
    light = maintenance.optimize()
    assert (light.analyzed, light.vacuumed) == (True, False)
    full = maintenance.optimize(full=True)
    assert (full.analyzed, full.vacuumed) == (True, True)
    assert full.stats_after.page_count < full.stats_before.page_count
    assert queue.value("PRAGMA integrity_check") == "ok"


def test_an_integrity_check_is_ok_or_says_what_is_wrong(maintenance: QueueMaintenance, queue: prismq.Queue) -> None:
    assert maintenance.integrity_check() == ["ok"]
    queue.owner.pragma("wal_checkpoint", "TRUNCATE")
    root = queue.value("SELECT rootpage FROM sqlite_schema WHERE name = 'ix_task_type_status'")
    queue.owner.close()
    with queue.path.open("r+b") as file:
        file.seek((root - 1) * 4096 + 8)
        file.write(b"\xff" * 64)
    problems = maintenance.integrity_check()
    assert problems != ["ok"]
    assert any("index" in problem or "page" in problem.lower() for problem in problems)


def test_threads_wait_for_each_other(maintenance: QueueMaintenance, queue: prismq.Queue) -> None:
    queue.leased(time.time() - 1000, 5)
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(maintenance.cleanup_stale_leases())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == [0, 0, 5]


def test_the_child_ends_with_its_caller_and_its_run_ends_too(queue: prismq.Queue, tmp_path: Path) -> None:
    queue.fill_wal(300)
    reference = DatabaseReference(queue.path, tmp_path / "state")
    request = {"what": "run", **reference.as_fields(), "action": "integrity", "options": {"full": True}}
    child = subprocess.run(  # its input ends after the request, as at the death of the caller
        [sys.executable, "-I", "-m", "actions.python_api.child"],
        input=json.dumps(request).encode() + b"\n",
        capture_output=True,
    )
    assert (child.returncode, child.stdout) == (1, b"")
    with state_store(tmp_path / "state") as store:
        deadline = time.monotonic() + LONGEST_WAIT
        while any(run.state == "running" for run in newest_runs(store, None, 10)):
            assert time.monotonic() < deadline, "the runner goes on without its caller"
            time.sleep(0.1)


def test_a_child_that_cannot_work_is_one_sentence(
    maintenance: QueueMaintenance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(QueueMaintenanceError, match=r"no process could be started: .*/nowhere/python"):
        maintenance.get_database_stats()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(QueueMaintenanceError, match="the process that does the work ended early: it gave no reason"):
        maintenance.analyze()
