"""A task with an expired lease and a live holder, by file or host, is spared; after the holder's death it is requeued once."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from actions.model.errors import NothingToDo
from collectors.poll import poll_database
from collectors.queue_profiles import holder_liveness
from collectors.queue_profiles.holder_liveness import is_holder_alive
from collectors.raw_reader.client import RawReader
from tests.support.scenes import prismq, queue_files, runner_child
from tests.support.scenes.run_actions import by_hand, planned, target_of
from tests.support.scenes.run_in_process import plan_here, run_here, work_on

HOST = socket.gethostname()
PAST = 200.0


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing but live."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield child
        child.kill()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No start time of a process is cached."""
    monkeypatch.setattr(holder_liveness, "CACHE_SECONDS", -1.0)


def kill(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGKILL)
    runner_child.eventually(lambda: not runner_child.lives(child.pid), "it is dead")


def start_ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def stale(queue: prismq.Queue, raw: RawReader, **settings: float) -> float:
    snapshot = poll_database(target_of(queue.path, settings=settings), None, time.time(), raw)
    return sum(sample.value_at(time.time()) for sample in snapshot.samples_of("sqlite_queue_stale_leases"))


def held(queue: prismq.Queue, name: str, past: float = PAST) -> None:
    """A task with a lease that expired so long ago, claimed 10 s before that."""
    now = time.time()
    queue.leased(now - past, locked_by=name, reserved_at_utc=prismq.stamp(now - past - 10))


# --- the host tells ---


@pytest.mark.parametrize("form", ["{host}:{pid}", "{host}:{pid}:thread-3", "{host}-{pid}", "{pid}@{host}",
                                  "host:{host} pid:{pid}", "{pid}:{start}"])  # fmt: skip
def test_a_process_of_this_host_is_spared_and_rescued_once_after_its_death(
    queue: prismq.Queue, raw: RawReader, worker: subprocess.Popen[bytes], form: str
) -> None:
    name = form.format(host=HOST, pid=worker.pid, start=start_ticks(worker.pid))
    queue.leased(time.time() - PAST, locked_by=name, reserved_at_utc=prismq.stamp(time.time() + 1))
    queue.leased(time.time() - PAST, locked_by="another")
    assert stale(queue, raw) == 1
    assert run_here("requeue", work_on(target_of(queue.path), raw)).figures["requeued"] == 1
    with pytest.raises(NothingToDo, match="1 tasks have an expired lease, but their workers are alive") as nothing:
        plan_here("requeue", work_on(target_of(queue.path), raw))
    assert nothing.value.reason == "holders_live"
    kill(worker)
    assert stale(queue, raw) == 1
    assert run_here("requeue", work_on(target_of(queue.path), raw)).figures["requeued"] == 1
    with pytest.raises(NothingToDo):
        plan_here("requeue", work_on(target_of(queue.path), raw))
    assert queue.value("SELECT count(*) FROM task_queue WHERE status = 'queued' AND attempts = 1") == 2


def test_the_same_through_the_door_by_kill_9(queue: prismq.Queue, worker: subprocess.Popen[bytes]) -> None:
    queue.leased(time.time() - PAST, locked_by=f"{HOST}:{worker.pid}", reserved_at_utc=prismq.stamp(time.time() + 1))
    spared = by_hand(target_of(queue.path), "requeue")
    assert (spared.outcome, spared.reason, spared.figures["spared_alive"]) == ("nothing_to_do", "holders_live", 1)
    kill(worker)
    assert by_hand(target_of(queue.path), "requeue").figures["requeued"] == 1
    assert by_hand(target_of(queue.path), "requeue").reason == "no_stale_leases"


def test_who_took_the_number_over_is_not_the_holder(
    queue: prismq.Queue, raw: RawReader, worker: subprocess.Popen[bytes]
) -> None:
    """The process started after the task was claimed."""
    held(queue, f"{HOST}:{worker.pid}")
    assert stale(queue, raw) == 1


def test_a_living_holder_is_spared_no_longer_than_the_patience(
    queue: prismq.Queue, raw: RawReader, worker: subprocess.Popen[bytes]
) -> None:
    queue.leased(time.time() - PAST, locked_by=f"{HOST}:{worker.pid}", reserved_at_utc=prismq.stamp(time.time() + 1))
    assert (stale(queue, raw), stale(queue, raw, spare_alive=100.0)) == (0, 1)


@pytest.mark.parametrize("name", ["worker-1", "1", "1:1", "elsewhere:1", f"{HOST}x:1", f"x{HOST}:1", f"{HOST}-2:1", f"{HOST}:0",
                                  f"{HOST}:99999999999", "", f"{HOST}", "1@elsewhere"])  # fmt: skip
def test_what_does_not_surely_name_a_process_of_this_host_tells_nothing(name: str) -> None:
    assert is_holder_alive(name, time.time()) == 0


def test_only_a_text_can_name_a_process() -> None:
    for name in (None, os.getpid(), 1.5, b"x"):
        assert is_holder_alive(name, None) == 0
    assert is_holder_alive(f"{HOST}:{os.getpid()}", None) == 1


def test_a_zombie_does_not_live(worker: subprocess.Popen[bytes]) -> None:
    name = f"{HOST}:{worker.pid}"
    assert is_holder_alive(name, time.time()) == 1
    kill(worker)  # not reaped yet: its number is still in use
    assert is_holder_alive(name, time.time()) == 0


# --- the file tells ---


def heard_of(queue: prismq.Queue, name: str, ago: float) -> None:
    queue.owner.execute("INSERT OR REPLACE INTO workers VALUES (?, '{}', ?)", (name, prismq.stamp(time.time() - ago)))


def test_a_worker_with_a_heartbeat_is_spared_until_it_stops(queue: prismq.Queue, raw: RawReader) -> None:
    held(queue, "worker-1")
    held(queue, "worker-2")
    heard_of(queue, "worker-1", 10)
    heard_of(queue, "worker-2", 1000)
    assert stale(queue, raw) == 1
    assert run_here("requeue", work_on(target_of(queue.path), raw)).figures["requeued"] == 1
    heard_of(queue, "worker-1", 400)
    assert run_here("requeue", work_on(target_of(queue.path), raw)).figures["requeued"] == 1
    assert queue.value("SELECT min(attempts) FROM task_queue") == 1


def test_without_a_table_of_workers_the_lease_alone_decides(queue: prismq.Queue, raw: RawReader) -> None:
    queue.owner.execute("DROP TABLE workers")
    held(queue, "worker-1")
    assert stale(queue, raw) == 1
    assert run_here("requeue", work_on(target_of(queue.path), raw)).figures["requeued"] == 1


def solid(owner: apsw.Connection, pid: int, host: str, silent: float) -> None:
    """A claim of a process that was heard of so long ago."""
    now = time.time()
    queue_files.add(owner, "solid_queue_jobs", queue_name="mail", class_name="J", created_at="", updated_at="")
    job = owner.last_insert_rowid()
    queue_files.add(owner, "solid_queue_processes", kind="Worker", last_heartbeat_at=queue_files.micro(now - silent), pid=pid,
                    hostname=host, created_at="", name=f"w{pid}{host}{silent}")  # fmt: skip
    queue_files.add(owner, "solid_queue_claimed_executions", job_id=job, process_id=owner.last_insert_rowid(),
                    created_at=queue_files.micro(now + 1))  # fmt: skip


def test_a_silent_process_of_solid_queue_that_still_runs_here_keeps_its_job(
    tmp_path: Path, raw: RawReader, worker: subprocess.Popen[bytes]
) -> None:
    path = tmp_path / "solid.db"
    with queue_files.owned(path, queue_files.SCHEMAS["solid-queue"]) as owner:
        solid(owner, worker.pid, HOST, 1000)
        solid(owner, worker.pid, "elsewhere", 1000)
        solid(owner, worker.pid, "elsewhere", 10)
        target = target_of(path)
        assert run_here("requeue", work_on(target, raw)).figures["requeued"] == 1
        kill(worker)
        assert run_here("requeue", work_on(target, raw)).figures["requeued"] == 1
        with pytest.raises(NothingToDo):
            plan_here("requeue", work_on(target, raw))
        assert owner.execute("SELECT count(*) FROM solid_queue_ready_executions").get == 2


def test_a_home_made_tables_owner_column_tells(tmp_path: Path, raw: RawReader, worker: subprocess.Popen[bytes]) -> None:
    schema = "CREATE TABLE work (id INTEGER PRIMARY KEY, status TEXT, until REAL, who TEXT);"
    settings = {"table": "work", "lease_until": "until", "owner": "who", "time": "unix_f", "requeue_status": "queued"}
    with queue_files.owned(tmp_path / "w.db", schema) as owner:
        queue_files.add(owner, "work", status="running", until=time.time() - PAST, who=f"{worker.pid}@{HOST}")
        target = target_of(tmp_path / "w.db", profile="generic", settings=settings)
        with pytest.raises(NothingToDo):
            plan_here("requeue", work_on(target, raw))
        kill(worker)
        assert run_here("requeue", work_on(target, raw)).figures["requeued"] == 1


# --- what a person sees ---


def test_a_dry_run_says_who_held_what_and_since_when(queue: prismq.Queue) -> None:
    held(queue, "worker-7")
    at = time.strftime("%Y-%m-%d %H:%M:", time.gmtime(time.time() - PAST))
    event = planned(target_of(queue.path), "requeue")
    assert f"1 of mail (held by worker-7, since {at}" in event.message
    assert "warning: a worker that is only slow may run its task twice" in event.message


def test_the_result_says_that_a_task_may_run_twice_without_a_fencing_token(queue: prismq.Queue, raw: RawReader) -> None:
    held(queue, "worker-7")
    done = run_here("requeue", work_on(target_of(queue.path), raw))
    assert done.message == "requeued 1 task; they may run twice where a worker was only slow"
    assert done.figures["may_run_twice"] is True


# --- between selection and change ---


@pytest.mark.parametrize(
    ("change", "requeued"),
    [
        ("UPDATE task_queue SET status = 'completed'", 0),
        ("UPDATE task_queue SET lease_until_utc = datetime('now', '+60 seconds')", 0),
        ("UPDATE task_queue SET lease_until_utc = datetime(lease_until_utc, '+1 second')", 0),
        ("UPDATE task_queue SET locked_by = 'another'", 0),
        ("DELETE FROM task_queue", 0),
        ("UPDATE task_queue SET payload = '{}'", 1),
    ],
    ids=["completed", "renewed", "renewed, and stale again", "taken over", "gone", "nothing that matters"],
)
def test_a_change_between_selection_and_requeue_wins(
    queue: prismq.Queue, raw: RawReader, change: str, requeued: int
) -> None:
    from collectors.queue_profiles.detection import detect_profile
    from tests.support.scenes.select_and_apply import apply_all, select_all

    held(queue, "worker-1")
    profile = detect_profile(queue.owner, target_of(queue.path))
    assert profile is not None
    assert profile.requeue is not None
    seen = select_all(queue.owner, profile.requeue.selections, time.time())
    assert len(seen[0][1]) == 1
    queue.owner.execute(change)
    assert apply_all(queue.owner, seen, time.time())["waiting"] == requeued
