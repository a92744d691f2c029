"""What forbids acting, whichever trigger requests it: pause, foreign users, odd files and jobs, an unusable history."""

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from actions.model.events import Event
from actions.model.outcome import USAGE_ERROR
from actions.model.request import Request
from actions.runner.child import STORE_UNAVAILABLE
from actions.runner.protocol import Job
from actions.store.database import history_file, state_store
from actions.store.pause import set_pause
from collectors.raw_reader.client import RawReader
from collectors.target import BackupSettings, Limits, Target
from tests.support.scenes import prismq, runner_child
from tests.support.scenes.run_actions import by_hand, target_of

Hold = Callable[[Path], AbstractContextManager[int]]
LONG_AGO = 100_000.0
MANY = 1500


@pytest.fixture
def stale(queue: prismq.Queue) -> prismq.Queue:
    """Thousands of tasks whose worker is gone."""
    queue.leased(time.time() - LONG_AGO, MANY)
    return queue


@pytest.fixture
def target(stale: prismq.Queue, tmp_path: Path) -> Target:
    place = BackupSettings(tmp_path / "backups", own_folder=False)
    return target_of(stale.path, backup=place, limits=Limits(disk_reserve=0), owner_sqlite="3.51.3")


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """What a test puts here is ended with it."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        runner_child.close(child)


def requeued(queue: prismq.Queue) -> int:
    return int(queue.value("SELECT count(*) FROM task_queue WHERE status = 'queued'"))


def test_a_dry_run_records_nothing_and_changes_nothing(target: Target, stale: prismq.Queue, tmp_path: Path) -> None:
    assert target.state is not None
    stale.fill_wal(1200)
    with state_store(target.state) as store:
        before = store.pragma("data_version"), stale.owner.pragma("data_version")
        for action in ("requeue", "backup", "checkpoint"):
            status, events, errors = runner_child.finish(runner_child.start(runner_child.plan_only(target, action)))
            assert (status, errors, events[-1].figures["outcome"]) == (0, "", "done")
        assert store.execute("SELECT count(*) FROM run").get == 0
        assert (store.pragma("data_version"), stale.owner.pragma("data_version")) == before
    assert not (tmp_path / "backups").exists()


def test_a_pause_refuses_and_names_the_cure(target: Target, stale: prismq.Queue) -> None:
    assert target.state is not None
    with state_store(target.state) as store:
        set_pause(store, "by ann since 10:00")
    ended_run = by_hand(target, "requeue")
    assert (ended_run.outcome, ended_run.reason, ended_run.next_step) == ("refused", "paused", "queuekeeper resume")
    assert "by ann since 10:00" in ended_run.message
    assert requeued(stale) == 0


def test_a_missing_file_is_a_failure_with_a_next_step(target: Target) -> None:
    gone = replace(target, path=target.path.with_name("gone.db"))
    ended_run = by_hand(gone, "checkpoint")
    assert (ended_run.outcome, ended_run.reason, ended_run.next_step) == ("failed", "missing", "check the path")
    assert not gone.path.exists()


def test_a_file_that_is_no_database_is_a_failure_in_words(target: Target) -> None:
    text = target.path.with_name("text.db")
    text.write_text("not a database, by far " * 100)
    for action in ("backup", "requeue"):
        ended_run = by_hand(replace(target, path=text), action)
        assert ended_run.outcome == "failed"
        assert "not a database" in ended_run.message
    assert text.read_text().startswith("not a database")


def test_an_action_that_does_not_exist_is_named_with_those_that_do(target: Target) -> None:
    ended_run = by_hand(target, "requeu")
    assert (ended_run.outcome, ended_run.reason) == ("refused", "unknown_action")
    assert "requeue" in ended_run.next_step


@pytest.mark.parametrize(
    ("action", "options"),
    [
        ("checkpoint", {"mode": "full); DROP TABLE task_queue; --"}),
        ("requeue", {"older": 3}),
        ("requeue", {"limit": -1}),
    ],
)
def test_options_that_the_action_does_not_take_start_nothing(
    target: Target, stale: prismq.Queue, action: str, options: dict[str, object]
) -> None:
    ended_run = by_hand(target, action, **options)
    assert (ended_run.outcome, ended_run.reason) == ("refused", "options")
    assert requeued(stale) == 0


def test_an_option_for_persons_is_refused_from_a_rule(target: Target, stale: prismq.Queue) -> None:
    request = Request("requeue", target.name, "alert", options={"workers_stopped": True, "guarded": True, "limit": 5})
    job = runner_child.claimed(target, "requeue", request)
    runner_child.finish(runner_child.start(job))
    assert (runner_child.record(job).reason, requeued(stale)) == ("options", 0)


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b'{"request": 3}\n', b"\xff\xfe\n", b"[" * 50_000 + b"\n"])
def test_a_job_that_cannot_be_read_is_reported_in_one_line(line: bytes) -> None:
    status, events, errors = runner_child.finish(runner_child.start(line))
    assert (status, errors) == (USAGE_ERROR, "")
    assert len(events) == 1
    assert "job" in events[0].message
    assert events[0].figures["outcome"] == "failed"


def assert_nothing_was_done(job: Job, stale: prismq.Queue, preexec_fn: Callable[[], object] | None = None) -> Event:
    status, events, errors = runner_child.finish(runner_child.start(job, preexec_fn=preexec_fn))
    assert (status, errors) == (STORE_UNAVAILABLE, "")
    assert (events[-1].kind, events[-1].figures["outcome"]) == ("ended", "failed")
    assert str(job.state) in events[-1].message
    assert requeued(stale) == 0
    return events[-1]


def test_a_history_that_cannot_be_written_any_more_forbids_acting(target: Target, stale: prismq.Queue) -> None:
    """A full disk, made by the kernel's limit on file sizes: the history can be opened and read, but nothing appended."""
    job = runner_child.claimed(target, "requeue")
    with state_store(job.state):  # held open: the WAL and its index exist already
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8))  # noqa: E731
        assert_nothing_was_done(job, stale, preexec_fn=limit)
    assert runner_child.record(job).state == "claimed"


def test_a_history_that_fills_during_the_run_is_reported_and_no_success_is_claimed(
    target: Target, stale: prismq.Queue, children: list[subprocess.Popen[bytes]], raw: RawReader
) -> None:
    job = runner_child.claimed(runner_child.slow(target), "requeue")
    children.append(runner_child.start(job))
    runner_child.wait_for(children[0], "progress")
    blocker = apsw.Connection(str(history_file(job.state)))
    blocker.execute("BEGIN IMMEDIATE")  # no other process may write: the child gives up after its patience
    runner_child.say(children[0], b"stop\n")
    status, events, errors = runner_child.finish(children[0])
    blocker.close()
    assert (status, errors) == (STORE_UNAVAILABLE, "")
    assert events[-1].figures["outcome"] == "failed"
    assert 0 < requeued(stale) < MANY
    assert [run.id for run in runner_child.recovered(job.state, raw)] == [job.claim.run_id if job.claim else 0]
    ended_run = runner_child.record(job)
    assert (ended_run.outcome, ended_run.reason) == ("interrupted", "process_gone")
    assert "killed" not in ended_run.message  # that is not known


HELD = """
import sys, apsw
reader = apsw.Connection(sys.argv[1])
reader.execute("BEGIN; SELECT count(*) FROM sqlite_schema").fetchall()
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_history_that_another_process_is_just_creating_is_waited_for(tmp_path: Path) -> None:
    """A file not yet in WAL mode cannot be changed while another reads it, and SQLite says so without any waiting."""
    tmp_path.joinpath("state").mkdir()
    new = apsw.Connection(str(history_file(tmp_path / "state")))
    new.execute("CREATE TABLE t (x)")
    new.close()
    command = [sys.executable, "-c", HELD, str(history_file(tmp_path / "state"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        assert other.stdin is not None
        release = threading.Timer(0.2, other.stdin.close)
        release.start()
        with state_store(tmp_path / "state") as store:
            assert store.pragma("journal_mode") == "wal"
        release.join()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB, mounted for the test."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount (root, in a container also CAP_SYS_ADMIN)")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_under_the_history_forbids_acting(target: Target, stale: prismq.Queue, small_disk: Path) -> None:
    full = replace(target, state=small_disk / "state")
    job = runner_child.claimed(full, "requeue")
    written = subprocess.run(["dd", "if=/dev/zero", f"of={small_disk / 'rubbish'}"], capture_output=True, check=False)
    assert b"No space left" in written.stderr
    assert_nothing_was_done(job, stale)


def test_a_read_only_history_forbids_acting(target: Target, stale: prismq.Queue, small_disk: Path) -> None:
    job = runner_child.claimed(replace(target, state=small_disk / "state"), "requeue")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert "--state" in assert_nothing_was_done(job, stale).message


def test_a_disk_too_small_for_the_record_refuses_the_run(target: Target, stale: prismq.Queue, small_disk: Path) -> None:
    ended_run = by_hand(replace(target, state=small_disk / "state"), "requeue")
    assert (ended_run.outcome, ended_run.reason) == ("refused", "state_full")
    assert requeued(stale) == 0


AS_NOBODY = """
import encodings.ascii, os, sys
from actions.registry import ACTIONS
from actions.runner.child import main
tuple(ACTIONS)  # before: Python's own library may be where that user may not read
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_another_user_than_the_owner_is_refused_and_no_file_of_his_appears() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o777)  # he could create files here
        queue = prismq.create(place / "queue.db")
        queue.leased(time.time() - LONG_AGO, 3)
        for file in place.iterdir():
            file.chmod(0o666)
        target = Target("queue", queue.path, state=place / "state", backup=BackupSettings(place / "backups"))
        jobs = [runner_child.claimed(target, action) for action in ("requeue", "checkpoint", "backup")]
        for path in (place / "state", *(place / "state").iterdir()):
            os.chown(path, 65534, 65534)
        for job in jobs:
            child = runner_child.start(job, command=(sys.executable, "-I", "-c", AS_NOBODY))
            status, _, errors = runner_child.finish(child)
            ended_run = runner_child.record(job)
            assert (status, errors, ended_run.outcome, ended_run.reason) == (3, "", "refused", "foreign_owner"), errors
            assert "run as user 0 or as root" in ended_run.next_step
        assert {path.stat().st_uid for path in place.glob("*") if path.name != "state"} == {0}
        assert {path.name for path in place.iterdir()} == {"queue.db", "queue.db-wal", "queue.db-shm", "state"}
        assert requeued(queue) == 0
        queue.owner.close()


def test_a_database_that_may_not_be_opened_is_a_failure_with_a_next_step(target: Target) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may open everything")
    target.path.chmod(0)
    assert by_hand(target, "requeue").reason == "permission"


def test_a_queue_with_an_odd_name_can_be_planned_for(queue: prismq.Queue) -> None:
    """A plan names its victims and their queues: a name of the application's may be long and hold anything."""
    queue.leased(time.time() - LONG_AGO, 30, type="\U0001f600\n\x07" * 400)
    status, events, _ = runner_child.finish(
        runner_child.start(runner_child.plan_only(target_of(queue.path), "requeue"))
    )
    assert (status, [event.kind for event in events]) == (0, ["planned", "ended"])
    assert events[-1].figures["outcome"] == "done"
