"""The door as a process: deaf and vanished callers, two at once, stale claims, an unusable history, foreign users."""

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import apsw
import door_child
import prismq
import pytest
from acting import by_hand, target_of
from hypothesis import example, given
from hypothesis import strategies as st

from actions.door.child import NOT_OURS, STORE_UNAVAILABLE
from actions.door.job import Job
from actions.door.start import RunningAction
from actions.history import runs
from actions.history.settings import pause
from actions.history.store import history, history_file
from actions.run.events import MAX_EVENT_BYTES, Event, decode, encode
from actions.run.outcome import USAGE_ERROR
from actions.run.request import Request
from collectors.raw_reader.ask import RawReader
from collectors.target import BackupPlace, Limits, Target

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
    place = BackupPlace(tmp_path / "backups", own_folder=False)
    return target_of(stale.path, backup=place, limits=Limits(disk_reserve=0), owner_sqlite="3.51.3")


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """What a test puts here is ended with it."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        door_child.close(child)


def requeued(queue: prismq.Queue) -> int:
    return int(queue.value("SELECT count(*) FROM task_queue WHERE status = 'queued'"))


def truncates(queue: prismq.Queue) -> bool:
    """Whether the application's own checkpoint meets nobody."""
    return queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0] == 0


def full_pipe() -> tuple[int, int]:
    """A pipe into which not one more byte goes."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"." * 4096)
    except BlockingIOError:
        return reading, writing


# Callers


@pytest.mark.parametrize("action", ["requeue", "backup", "checkpoint"])
def test_a_caller_that_never_reads_holds_nothing_up(
    target: Target, stale: prismq.Queue, children: list[subprocess.Popen[bytes]], action: str
) -> None:
    stale.fill_wal(3000)
    job = door_child.claimed(target, action)
    reading, writing = full_pipe()
    children.append(door_child.start(job, stdout=writing))
    os.close(writing)
    assert children[0].wait(door_child.PATIENCE) == 0
    assert door_child.record(job).outcome == "done"
    assert truncates(stale)
    assert set(os.read(reading, 1 << 20)) == {ord(".")}
    os.close(reading)


def test_a_caller_that_closes_only_its_ear_lets_the_action_end(
    target: Target, children: list[subprocess.Popen[bytes]], stale: prismq.Queue
) -> None:
    job = door_child.claimed(target, "requeue")
    reading, writing = os.pipe()
    children.append(door_child.start(job, stdout=writing))
    os.close(writing)
    os.close(reading)
    assert children[0].wait(door_child.PATIENCE) == 0
    assert (door_child.record(job).outcome, requeued(stale)) == ("done", MANY)


def test_a_vanished_caller_interrupts_at_a_safe_point_and_what_was_done_is_told(
    target: Target, stale: prismq.Queue, children: list[subprocess.Popen[bytes]]
) -> None:
    job = door_child.claimed(door_child.slow(target), "requeue")
    children.append(door_child.start(job))
    door_child.wait_for(children[0], "progress")
    door_child.hang_up(children[0])
    status, _, errors = door_child.finish(children[0])
    told = door_child.record(job)
    assert (status, errors) == (1, "")
    assert (told.outcome, told.reason) == ("interrupted", "caller_gone")
    assert 0 < requeued(stale) < MANY
    assert told.figures["requeued"] == requeued(stale)
    with history(job.state) as store:
        assert store.execute("SELECT amount FROM amount_total WHERE name = 'requeued_tasks'").get == requeued(stale)
    assert by_hand(target, "requeue").figures["requeued"] == MANY - told.figures["requeued"]


def test_a_backup_whose_caller_vanished_leaves_no_file(
    target: Target, stale: prismq.Queue, children: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    stale.fill_wal(8000)
    job = door_child.claimed(target, "backup")
    children.append(door_child.start(job))
    door_child.wait_for(children[0], "progress")
    door_child.hang_up(children[0])
    assert door_child.finish(children[0])[0] == 1
    assert door_child.record(job).outcome == "interrupted"
    assert list((tmp_path / "backups").iterdir()) == []
    assert truncates(stale)


@pytest.mark.parametrize("how", ["word", "SIGTERM", "SIGINT"])
def test_who_asks_it_to_stop_gets_a_cancelled_run(
    target: Target, stale: prismq.Queue, children: list[subprocess.Popen[bytes]], how: str
) -> None:
    job = door_child.claimed(door_child.slow(target), "requeue")
    children.append(door_child.start(job))
    door_child.wait_for(children[0], "progress")
    if how == "word":
        door_child.say(children[0], b"stop\n")
    else:
        children[0].send_signal(getattr(signal, how))
    status, _, errors = door_child.finish(children[0])
    told = door_child.record(job)
    assert (status, errors, told.outcome) == (1, "", "cancelled")
    assert told.figures["requeued"] == requeued(stale) < MANY


def test_a_terminals_interrupt_does_not_reach_the_child(target: Target) -> None:
    """Ctrl-C goes to the whole foreground group; the child is asked by its caller alone."""
    child = RunningAction(door_child.claimed(door_child.slow(target), "requeue"))
    assert os.getpgid(child.pid) != os.getpgid(0)
    child.stop()
    list(child.events())
    child.wait()


def test_stopping_a_child_that_has_ended_is_nothing(target: Target) -> None:
    child = RunningAction(door_child.claimed(target, "requeue"))
    list(child.events())
    assert child.wait() == (0, "")
    child.stop()


def test_waiting_without_listening_is_not_hanging_up(target: Target) -> None:
    job = door_child.claimed(target, "requeue")
    assert RunningAction(job).wait() == (0, "")
    assert door_child.record(job).outcome == "done"


def test_a_disk_that_fills_in_the_middle_fails_and_what_was_done_is_told(
    target: Target, stale: prismq.Queue, children: list[subprocess.Popen[bytes]]
) -> None:
    """The kernel's limit on file sizes, set from outside: the database's WAL cannot grow, the smaller history's can."""
    job = door_child.claimed(door_child.slow(target), "requeue")
    children.append(door_child.start(job))
    door_child.wait_for(children[0], "progress")
    size = target.wal.stat().st_size
    resource.prlimit(children[0].pid, resource.RLIMIT_FSIZE, (size, size))
    status, _, errors = door_child.finish(children[0])
    told = door_child.record(job)
    assert (status, errors, told.outcome) == (1, "", "failed")
    assert told.message.startswith("SQLite: ")
    assert 0 < requeued(stale) == told.figures["requeued"] < MANY
    stale.put()
    assert stale.value("PRAGMA integrity_check") == "ok"


# Two at once, and stale claims


def test_a_second_action_ends_locked_and_the_first_is_untouched(
    target: Target, stale: prismq.Queue, children: list[subprocess.Popen[bytes]], raw: RawReader
) -> None:
    first = door_child.claimed(door_child.slow(target), "requeue")
    children.append(door_child.start(first))
    door_child.wait_for(children[0], "progress")
    assert raw.flock_holder(target.path) == children[0].pid
    elsewhere = replace(target, state=target.path.parent / "another-state")
    for place in (target, elsewhere):
        second = door_child.claimed(place, "backup")
        status, events, _ = door_child.finish(door_child.start(second))
        told = door_child.record(second)
        assert (status, told.outcome, told.reason) == (4, "locked", "action_running")
        assert "queuekeeper history" in told.next_step
        assert events[-1].figures["outcome"] == "locked"
    door_child.say(children[0], b"stop\n")
    door_child.finish(children[0])
    assert door_child.record(first).outcome == "cancelled"
    assert raw.flock_holder(target.path) is None


def test_a_child_whose_claim_was_taken_back_leaves_and_does_nothing(target: Target, stale: prismq.Queue) -> None:
    assert target.state is not None
    wish = Request("requeue", target.name, "threshold", options={"guarded": True, "limit": MANY})
    with history(target.state) as store:
        run_id, _ = runs.ask(store, wish, str(target.path), 1.0)
        old = runs.claim(store, run_id, 2.0)
        assert old is not None
        assert runs.give_back(store, run_id, old.token)
        new = runs.claim(store, run_id, 3.0)
    status, events, errors = door_child.finish(door_child.start(Job(wish, target, target.state, old)))
    assert (status, events, errors) == (NOT_OURS, [], "")
    assert requeued(stale) == 0
    assert new is not None
    assert door_child.finish(door_child.start(Job(wish, target, target.state, new)))[0] == 0
    assert requeued(stale) == MANY


def test_a_run_is_performed_once_however_many_children_get_its_claim(target: Target, stale: prismq.Queue) -> None:
    job = door_child.claimed(target, "requeue")
    started = [door_child.start(job) for _ in range(4)]
    statuses = sorted(door_child.finish(child)[0] for child in started)
    assert statuses[0] in (0, 4)  # one was the first at the lock, unless a later one ended the claim as locked
    told = door_child.record(job)
    assert told.outcome in ("done", "locked")
    assert requeued(stale) == (MANY if told.outcome == "done" else 0)
    with history(job.state) as store:
        assert store.execute("SELECT sum(runs) FROM run_total").get == 1


REPLACING = """
import os, sys
from pathlib import Path
from actions.door.lock import take_action_lock
from actions.run.errors import ActionError
database, other = Path(sys.argv[1]), sys.argv[2]
def between(event, _arguments):  # after the open, before the lock
    if event == "fcntl.flock":
        os.replace(other, database) if other else os.unlink(database)
sys.addaudithook(between)
try:
    take_action_lock(database, database.parent)
except ActionError as error:
    print(error.reason, error.next_step)
"""


@pytest.mark.parametrize("replaced_by", ["new.db", ""])
def test_a_file_that_is_replaced_while_it_is_being_locked_is_not_acted_upon(tmp_path: Path, replaced_by: str) -> None:
    (tmp_path / "queue.db").write_bytes(b"old")
    (tmp_path / "new.db").write_bytes(b"new")
    other = str(tmp_path / replaced_by) if replaced_by else ""
    ran = subprocess.run(
        [sys.executable, "-c", REPLACING, str(tmp_path / "queue.db"), other], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("replaced run it again")


# What forbids acting


def test_a_dry_run_records_nothing_and_changes_nothing(target: Target, stale: prismq.Queue, tmp_path: Path) -> None:
    assert target.state is not None
    stale.fill_wal(1200)
    with history(target.state) as store:
        before = store.pragma("data_version"), stale.owner.pragma("data_version")
        for action in ("requeue", "backup", "checkpoint"):
            status, events, errors = door_child.finish(door_child.start(door_child.plan_only(target, action)))
            assert (status, errors, events[-1].figures["outcome"]) == (0, "", "done")
        assert store.execute("SELECT count(*) FROM run").get == 0
        assert (store.pragma("data_version"), stale.owner.pragma("data_version")) == before
    assert not (tmp_path / "backups").exists()


def test_a_pause_refuses_and_names_the_cure(target: Target, stale: prismq.Queue) -> None:
    assert target.state is not None
    with history(target.state) as store:
        pause(store, "by ann since 10:00")
    told = by_hand(target, "requeue")
    assert (told.outcome, told.reason, told.next_step) == ("refused", "paused", "queuekeeper resume")
    assert "by ann since 10:00" in told.message
    assert requeued(stale) == 0


def test_a_missing_file_is_a_failure_with_a_next_step(target: Target) -> None:
    gone = replace(target, path=target.path.with_name("gone.db"))
    told = by_hand(gone, "checkpoint")
    assert (told.outcome, told.reason, told.next_step) == ("failed", "missing", "check the path")
    assert not gone.path.exists()


def test_a_file_that_is_no_database_is_a_failure_in_words(target: Target) -> None:
    text = target.path.with_name("text.db")
    text.write_text("not a database, by far " * 100)
    for action in ("backup", "requeue"):
        told = by_hand(replace(target, path=text), action)
        assert told.outcome == "failed"
        assert "not a database" in told.message
    assert text.read_text().startswith("not a database")


def test_an_action_that_does_not_exist_is_named_with_those_that_do(target: Target) -> None:
    told = by_hand(target, "requeu")
    assert (told.outcome, told.reason) == ("refused", "unknown_action")
    assert "requeue" in told.next_step


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
    told = by_hand(target, action, **options)
    assert (told.outcome, told.reason) == ("refused", "options")
    assert requeued(stale) == 0


def test_what_only_a_person_may_say_is_not_taken_from_a_rule(target: Target, stale: prismq.Queue) -> None:
    wish = Request("requeue", target.name, "alert", options={"workers_stopped": True, "guarded": True, "limit": 5})
    job = door_child.claimed(target, "requeue", wish)
    door_child.finish(door_child.start(job))
    assert (door_child.record(job).reason, requeued(stale)) == ("options", 0)


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b'{"request": 3}\n', b"\xff\xfe\n", b"[" * 50_000 + b"\n"])
def test_a_job_that_cannot_be_read_is_told_in_a_line(line: bytes) -> None:
    status, events, errors = door_child.finish(door_child.start(line))
    assert (status, errors) == (USAGE_ERROR, "")
    assert len(events) == 1
    assert "job" in events[0].message
    assert events[0].figures["outcome"] == "failed"


# A history that cannot be used


def assert_nothing_was_done(job: Job, stale: prismq.Queue, preexec_fn: Callable[[], object] | None = None) -> Event:
    status, events, errors = door_child.finish(door_child.start(job, preexec_fn=preexec_fn))
    assert (status, errors) == (STORE_UNAVAILABLE, "")
    assert (events[-1].kind, events[-1].figures["outcome"]) == ("ended", "failed")
    assert str(job.state) in events[-1].message
    assert requeued(stale) == 0
    return events[-1]


def test_a_history_that_cannot_be_written_any_more_forbids_acting(target: Target, stale: prismq.Queue) -> None:
    """A full disk, made by the kernel's limit on file sizes: the history can be opened and read, but nothing appended."""
    job = door_child.claimed(target, "requeue")
    with history(job.state):  # held open: the WAL and its index exist already
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8))  # noqa: E731
        assert_nothing_was_done(job, stale, preexec_fn=limit)
    assert door_child.record(job).state == "claimed"


def test_a_history_that_fills_while_the_action_runs_is_told_and_no_success_is_claimed(
    target: Target, stale: prismq.Queue, children: list[subprocess.Popen[bytes]], raw: RawReader
) -> None:
    job = door_child.claimed(door_child.slow(target), "requeue")
    children.append(door_child.start(job))
    door_child.wait_for(children[0], "progress")
    blocker = apsw.Connection(str(history_file(job.state)))
    blocker.execute("BEGIN IMMEDIATE")  # nobody else may write: the child gives up after its patience
    door_child.say(children[0], b"stop\n")
    status, events, errors = door_child.finish(children[0])
    blocker.close()
    assert (status, errors) == (STORE_UNAVAILABLE, "")
    assert events[-1].figures["outcome"] == "failed"
    assert 0 < requeued(stale) < MANY
    assert [run.id for run in door_child.recovered(job.state, raw)] == [job.claim.run_id if job.claim else 0]
    told = door_child.record(job)
    assert (told.outcome, told.reason) == ("interrupted", "process_gone")
    assert "killed" not in told.message  # nobody knows that


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
    job = door_child.claimed(full, "requeue")
    written = subprocess.run(["dd", "if=/dev/zero", f"of={small_disk / 'rubbish'}"], capture_output=True, check=False)
    assert b"No space left" in written.stderr
    assert_nothing_was_done(job, stale)


def test_a_read_only_history_forbids_acting(target: Target, stale: prismq.Queue, small_disk: Path) -> None:
    job = door_child.claimed(replace(target, state=small_disk / "state"), "requeue")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert "--state" in assert_nothing_was_done(job, stale).message


def test_a_disk_too_small_to_remember_what_comes_refuses(target: Target, stale: prismq.Queue, small_disk: Path) -> None:
    told = by_hand(replace(target, state=small_disk / "state"), "requeue")
    assert (told.outcome, told.reason) == ("refused", "state_full")
    assert requeued(stale) == 0


# Foreign users

AS_NOBODY = """
import encodings.ascii, os, sys
from actions.door.child import main
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_another_user_than_the_owner_is_refused_and_no_file_of_his_appears() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o777)  # he could create files here
        queue = prismq.create(place / "queue.db")
        queue.leased(time.time() - LONG_AGO, 3)
        for file in place.iterdir():
            file.chmod(0o666)
        target = Target("queue", queue.path, state=place / "state", backup=BackupPlace(place / "backups"))
        jobs = [door_child.claimed(target, action) for action in ("requeue", "checkpoint", "backup")]
        for path in (place / "state", *(place / "state").iterdir()):
            os.chown(path, 65534, 65534)
        for job in jobs:
            child = door_child.start(job, command=(sys.executable, "-I", "-c", AS_NOBODY))
            status, _, errors = door_child.finish(child)
            told = door_child.record(job)
            assert (status, errors, told.outcome, told.reason) == (3, "", "refused", "foreign_owner"), errors
            assert "run as user 0 or as root" in told.next_step
        assert {path.stat().st_uid for path in place.glob("*") if path.name != "state"} == {0}
        assert {path.name for path in place.iterdir()} == {"queue.db", "queue.db-wal", "queue.db-shm", "state"}
        assert requeued(queue) == 0
        queue.owner.close()


def test_a_database_that_may_not_be_opened_is_a_failure_with_a_next_step(target: Target) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may open everything")
    target.path.chmod(0)
    assert by_hand(target, "requeue").reason == "permission"


# Events

TEXT = st.text(st.characters(), max_size=6000)  # with lone surrogates, as in a path that is not UTF-8
FIGURES = st.dictionaries(TEXT, st.one_of(TEXT, st.integers(), st.floats(), st.booleans(), st.none()), max_size=8)


@given(st.sampled_from(["planned", "progress", "note", "ended"]), TEXT, FIGURES)
@example("ended", "\U0001f600" * 5000, {})
@example("ended", "\x00" * 5000, {"outcome": "done", "next_step": "\ud800" * 5000})
@example("planned", "x" * 5000, {"outcome": "done", "victims": "y" * 5000})
def test_an_event_is_one_line_that_fits_and_can_be_read(kind: str, message: str, figures: dict[str, object]) -> None:
    line = encode(Event(kind, message, figures))
    assert len(line) <= MAX_EVENT_BYTES
    assert line.count(b"\n") == 1
    event = decode(line)
    assert event.kind == kind
    short = len(json.dumps([message, list(figures.items())])) < MAX_EVENT_BYTES // 2
    if short:
        assert len(event.message) == len(message)
        assert set(event.figures) == {name.encode("utf-8", "replace").decode() for name in figures}


@given(TEXT, TEXT)
def test_an_event_too_long_keeps_its_outcome(message: str, next_step: str) -> None:
    event = decode(
        encode(Event("ended", message * 3, {"next_step": next_step, "outcome": "refused", "list": "x" * 9000}))
    )
    assert event.figures["outcome"] == "refused"


def test_a_queue_with_an_odd_name_can_be_planned_for(queue: prismq.Queue) -> None:
    """A plan names its victims and their queues: a name of the application's may be long and hold anything."""
    queue.leased(time.time() - LONG_AGO, 30, type="\U0001f600\n\x07" * 400)
    status, events, _ = door_child.finish(door_child.start(door_child.plan_only(target_of(queue.path), "requeue")))
    assert (status, [event.kind for event in events]) == (0, ["planned", "ended"])
    assert events[-1].figures["outcome"] == "done"


def test_the_lock_is_not_taken_away_by_looking(target: Target, raw: RawReader, stale: prismq.Queue) -> None:
    """The kernel's table is read; taking the lock to see whether it is free would refuse an action that starts then."""
    descriptor = os.open(stale.path.with_name("lockfile"), os.O_CREAT | os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert raw.flock_holder(stale.path) is None
    assert raw.flock_holder(stale.path.with_name("lockfile")) == os.getpid()
    os.close(descriptor)
