"""A poll on real files: every value equals what SQL and stat say, and the application never notices."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from collectors.access.snapshot import Snapshot
from collectors.metric import Since
from collectors.poll import NO_PROFILE, poll_database
from collectors.raw_reader.client import RawReader
from collectors.registry import COLLECTORS
from collectors.target import BackupSettings, Limits, Target
from tests.support.checks.statements import slow_statements
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import prismq

Process = Callable[..., AbstractContextManager[int]]
CHILD = (sys.executable, "-I", "-m", "collectors.raw_reader.server")
# A loaded test machine may take longer than an application should have to wait: here only the decision counts.
ROOMY = Limits(read_wal=30, read_rollback=30)


def _target(path: Path, **changes: object) -> Target:
    return replace(Target("jobs", path, limits=ROOMY), **changes)  # type: ignore[arg-type]


def _values(snapshot: Snapshot) -> dict[tuple[str, ...], float]:
    return {(s.metric.name, *s.labels): s.value_at(snapshot.taken_at) for s in snapshot.samples}


def _state(snapshot: Snapshot) -> str:
    (state,) = [s.labels[0] for s in snapshot.samples_of("sqlite_wal_state") if s.value == 1]
    return state


def _mixed(queue: prismq.Queue, now: float) -> None:
    """Every state in two queues."""
    for kind, number in (("mail", 2), ("video", 3)):
        queue.put("queued", number, type=kind, run_after_utc=prismq.stamp(now - 90 * number))
        queue.put("queued", number + 1, type=kind, run_after_utc=prismq.stamp(now + 900))
        queue.leased(now + 200, number, type=kind)
        queue.leased(now - 400, number + 2, type=kind)
        queue.leased(now - 700, 1, type=kind, status="processing")
        queue.leased(now - 20, 1, type=kind)  # over, but within the grace
        for status in prismq.ENDED:
            queue.put(status, number + 3, type=kind, finished_at_utc=prismq.stamp(now - 50))


def test_every_queue_value_equals_independent_sql(queue: prismq.Queue, raw: RawReader) -> None:
    now = float(int(time.time()))
    _mixed(queue, now)
    snapshot = poll_database(_target(queue.path), None, now, raw)
    values = _values(snapshot)
    states = {
        "waiting": "status = 'queued' AND julianday(run_after_utc) <= julianday(?1, 'unixepoch')",
        "scheduled": "status = 'queued' AND julianday(run_after_utc) > julianday(?1, 'unixepoch')",
        "running": "status IN ('leased', 'processing') AND ?1",
        "done": "status = 'completed' AND ?1",
        "dead": "status IN ('failed', 'dead_letter') AND ?1",
    }
    for kind in ("mail", "video"):
        for state, where in states.items():
            count = queue.value(f"SELECT count(*) FROM task_queue WHERE {where} AND type = ?2", now, kind)
            assert values["sqlite_queue_tasks", kind, state] == count > 0
            assert values["sqlite_queue_tasks_capped", kind, state] == 0
        stale = "status IN ('leased', 'processing') AND unixepoch(lease_until_utc) < ? - 60 AND type = ?"
        assert values["sqlite_queue_stale_leases", kind] == queue.value(
            f"SELECT count(*) FROM task_queue WHERE {stale}", now, kind
        )
        assert values["sqlite_queue_oldest_stale_lease_age_seconds", kind] == 700
    assert values["sqlite_queue_oldest_waiting_age_seconds", "mail"] == 180
    assert values["sqlite_queue_oldest_waiting_age_seconds", "video"] == 270
    assert sum(v for k, v in values.items() if k[0] == "sqlite_queue_tasks") == queue.value(
        "SELECT count(*) FROM task_queue"
    )
    assert all(result.success for result in snapshot.collectors.values())
    assert (snapshot.up, snapshot.state, snapshot.message) == (True, "readable", "")


def test_every_file_value_equals_stat_and_pragmas(queue: prismq.Queue, raw: RawReader) -> None:
    queue.put("completed", 2000, error_message="x" * 500)
    queue.owner.execute("DELETE FROM task_queue WHERE id % 3")
    snapshot = poll_database(_target(queue.path), None, time.time(), raw)
    values = _values(snapshot)
    assert values[("sqlite_database_size_bytes",)] == queue.path.stat().st_size
    assert values[("sqlite_wal_size_bytes",)] == Path(f"{queue.path}-wal").stat().st_size > 0
    pages, free = queue.value("PRAGMA page_count"), queue.value("PRAGMA freelist_count")
    assert values[("sqlite_page_size_bytes",)] == queue.value("PRAGMA page_size")
    assert (values[("sqlite_pages",)], values[("sqlite_free_pages",)]) == (pages, free)
    assert values[("sqlite_fragmentation_ratio",)] == free / pages > 0
    _, frames, copied = queue.owner.execute("PRAGMA wal_checkpoint(NOOP)").get
    assert (values[("sqlite_wal_frames",)], values[("sqlite_wal_checkpointed_frames",)]) == (frames, copied)
    assert values[("sqlite_wal_backlog_bytes",)] == (frames - copied) * 4096
    version = apsw.sqlite_lib_version()
    assert values["sqlite_info", str(queue.path), "wal", "none", "prismq", "lease", version] == 1
    assert values[("sqlite_owner_wal_reset_vulnerable",)] == 1


def test_an_empty_queue_has_zeros_not_holes(queue: prismq.Queue, raw: RawReader) -> None:
    values = _values(poll_database(_target(queue.path), None, time.time(), raw))
    assert values["sqlite_queue_tasks", "", "waiting"] == 0
    assert values["sqlite_queue_stale_leases", ""] == 0
    assert values["sqlite_queue_oldest_waiting_age_seconds", ""] == 0


def test_a_requeued_queue_reads_zero_also_without_memory(queue: prismq.Queue, raw: RawReader) -> None:
    queue.leased(time.time() - 500, 3)
    target = _target(queue.path)
    only = frozenset({"leases"})
    before = poll_database(target, None, time.time(), raw, only=only)
    queue.owner.execute("UPDATE task_queue SET status = 'queued'")
    after = poll_database(target, None, time.time(), raw, only=only)
    assert [_values(s)["sqlite_queue_stale_leases", "mail"] for s in (before, after)] == [3, 0]


def test_a_queue_that_vanishes_stays_at_zero(queue: prismq.Queue, raw: RawReader) -> None:
    queue.put(type="video")
    first = poll_database(_target(queue.path), None, time.time(), raw)
    queue.owner.execute("DELETE FROM task_queue")
    second = poll_database(_target(queue.path), first, time.time(), raw)
    assert _values(second)["sqlite_queue_tasks", "video", "waiting"] == 0
    assert ("sqlite_queue_tasks", "", "waiting") not in _values(second)


def test_many_queues_are_folded_and_nothing_is_lost(queue: prismq.Queue, raw: RawReader) -> None:
    for number in range(30):
        queue.put(type=f"customer-{number:02}")
    snapshot = poll_database(_target(queue.path), None, time.time() + 1, raw)
    waiting = {s.labels[0]: s.value for s in snapshot.samples_of("sqlite_queue_tasks") if s.labels[1] == "waiting"}
    assert len(waiting) == 21
    assert waiting["other"] == 10
    assert sum(float(value) for value in waiting.values() if not isinstance(value, Since)) == 30
    assert snapshot.folded_labels == 10


def test_series_stay_below_their_budget(queue: prismq.Queue, raw: RawReader, tmp_path: Path) -> None:
    for number in range(30):
        queue.put(type=f"customer-{number:02}")
    target = _target(queue.path, backup=BackupSettings(tmp_path / "b"), state=tmp_path)
    samples = poll_database(target, None, time.time(), raw).samples
    assert len([s for s in samples if "queue" not in s.metric.labels]) <= 120


# --- isolation ---


def test_only_the_named_collectors_run(queue: prismq.Queue, raw: RawReader) -> None:
    snapshot = poll_database(_target(queue.path), None, time.time(), raw, only=frozenset({"storage", "disk"}))
    assert set(snapshot.collectors) == {"storage", "disk"}
    assert {s.metric.name.split("_")[1] for s in snapshot.samples} == {
        "database",
        "wal",
        "page",
        "pages",
        "free",
        "disk",
    }


def test_a_failing_collector_does_not_fail_the_others(queue: prismq.Queue, raw: RawReader) -> None:
    queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    queue.owner.execute("INSERT INTO task_queue (type, status) VALUES (CAST(x'ff' AS TEXT), 'queued')")
    snapshot = poll_database(_target(queue.path), None, time.time(), raw)
    assert snapshot.up
    failed = {name: result.reason for name, result in snapshot.collectors.items() if not result.success}
    assert failed == {"tasks": "bad_value", "leases": "bad_value"}
    assert not any("queue" in s.metric.labels for s in snapshot.samples)
    assert ("sqlite_pages",) in _values(snapshot)


def test_a_wrong_profile_fails_only_the_queues_collectors(queue: prismq.Queue, raw: RawReader) -> None:
    snapshot = poll_database(_target(queue.path, settings={"grcae": 3.0}), None, time.time(), raw)
    assert {n: r.reason for n, r in snapshot.collectors.items() if not r.success} == {
        "tasks": "profile",
        "leases": "profile",
        "workers": "profile",
        "enqueued": "profile",
    }
    assert "no such setting; known: grace" in snapshot.message
    assert snapshot.up


def test_a_database_of_no_known_queue_has_file_metrics_only(tmp_path: Path, raw: RawReader) -> None:
    path = tmp_path / "other.db"
    with apsw.Connection(str(path)) as connection:
        connection.execute("CREATE TABLE t (a)")
    snapshot = poll_database(_target(path), None, time.time(), raw)
    assert (snapshot.up, snapshot.message) == (True, NO_PROFILE)
    assert all(result.success for result in snapshot.collectors.values())
    assert not any("queue" in s.metric.name for s in snapshot.samples)


def test_a_slow_collector_is_stopped_and_the_others_are_read(queue: prismq.Queue, raw: RawReader) -> None:
    queue.put("queued", 50)
    first = poll_database(_target(queue.path), None, time.time(), raw)
    assert first.collectors["tasks"].success
    hurried = _target(queue.path, limits=Limits(read_wal=1.0))
    with slow_statements(lambda sql: "INSERT INTO temp." in sql or "min(head)" in sql, 2.0):
        snapshot = poll_database(hurried, first, time.time(), raw, only=frozenset({"storage", "tasks"}))
    assert snapshot.collectors["tasks"].reason == "timeout"
    assert snapshot.collectors["storage"].success
    assert snapshot.readings["tasks"] is first.readings["tasks"]
    assert list(snapshot.samples_of("sqlite_queue_tasks")) == []


# --- what may not be opened ---


def _names(path: Path) -> set[str]:
    return set(os.listdir(path.parent))


@pytest.mark.parametrize(
    ("content", "state", "reason"),
    [
        (b"", "readable", ""),
        (b"SQLite format 3\0", "not_a_database", "not_a_database"),
        (b"x" * 4096, "not_a_database", "not_a_database"),
    ],
)
def test_files_that_are_no_databases(tmp_path: Path, raw: RawReader, content: bytes, state: str, reason: str) -> None:
    path = tmp_path / "odd.db"
    path.write_bytes(content)
    before = _names(path)
    snapshot = poll_database(_target(path), None, time.time(), raw)
    assert (snapshot.state, snapshot.up) == (state, not reason)
    assert snapshot.collectors["fragmentation"].reason == reason
    assert _values(snapshot)[("sqlite_database_size_bytes",)] == len(content)
    assert _names(path) == before


def test_a_missing_database_is_down_and_is_not_made(tmp_path: Path, raw: RawReader) -> None:
    snapshot = poll_database(_target(tmp_path / "gone.db"), None, time.time(), raw)
    assert (snapshot.up, snapshot.state) == (False, "missing")
    assert snapshot.collectors["storage"].reason == "missing"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["fifo", "directory", "socket-like name"])
def test_what_is_no_file_does_not_hang_the_poll(tmp_path: Path, raw: RawReader, kind: str) -> None:
    path = tmp_path / "odd.db"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/null")
    assert poll_database(_target(path), None, time.time(), raw).state == "not_a_database"


def test_a_damaged_database_is_corrupt_not_empty(make_queue: Callable[..., prismq.Queue], raw: RawReader) -> None:
    queue = make_queue(journal_mode="delete")
    queue.put(number=500)
    queue.owner.close()
    with queue.path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 4000)
    snapshot = poll_database(_target(queue.path), None, time.time(), raw)
    assert (snapshot.up, snapshot.state) == (False, "corrupt")
    assert snapshot.collectors["tasks"].reason == "corrupt"
    assert snapshot.collectors["storage"].success


def test_owner_down_is_up_with_sizes_only_and_leaves_no_file(queue: prismq.Queue, raw: RawReader) -> None:
    queue.put(number=10)
    queue.owner.close()
    assert _names(queue.path) == {"queue.db"}
    first = poll_database(_target(queue.path), None, time.time(), raw)
    snapshot = poll_database(_target(queue.path), first, time.time() + 1, raw)
    assert (snapshot.up, snapshot.state) == (True, "owner_down")
    assert "no application has it open" in snapshot.message
    assert _state(snapshot) == "absent"
    values = _values(snapshot)
    assert values[("sqlite_database_size_bytes",)] == queue.path.stat().st_size
    assert ("sqlite_pages",) not in values
    assert {n: r.reason for n, r in snapshot.collectors.items() if not r.success} == dict.fromkeys(
        ("fragmentation", "tasks", "leases", "workers", "enqueued"), "owner_down"
    )
    assert _names(queue.path) == {"queue.db"}


def test_a_crashed_owners_wal_is_read_and_kept(queue: prismq.Queue, raw: RawReader, tmp_path: Path) -> None:
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    queue.put(number=7)
    for suffix in ("", "-wal", "-shm"):  # copied by another process: reading here would drop our own locks
        subprocess.run(["cp", f"{queue.path}{suffix}", str(crashed)], check=True)
    path = crashed / "queue.db"
    snapshot = poll_database(_target(path), None, time.time() + 1, raw)
    assert snapshot.state == "readable"
    assert _values(snapshot)["sqlite_queue_tasks", "mail", "waiting"] == 7
    assert _names(path) == {"queue.db", "queue.db-wal", "queue.db-shm"}
    assert Path(f"{path}-wal").stat().st_size > 0


def test_a_hot_journal_is_left_to_its_owner(tmp_path: Path, raw: RawReader) -> None:
    path = tmp_path / "hot.db"
    script = """
import apsw, os, signal, sys
c = apsw.Connection(sys.argv[1])
c.execute("CREATE TABLE t (a)")
c.execute("INSERT INTO t VALUES (zeroblob(200000))")
c.pragma("cache_size", 1)
c.execute("BEGIN IMMEDIATE")
c.execute("UPDATE t SET a = randomblob(200000)")
c.cache_flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert _names(path) == {"hot.db", "hot.db-journal"}
    before = [(tmp_path / name).read_bytes() for name in sorted(_names(path))]
    snapshot = poll_database(_target(path), None, time.time(), raw)
    assert (snapshot.up, snapshot.state) == (False, "hot_journal")
    assert "start the application" in snapshot.message
    assert [(tmp_path / name).read_bytes() for name in sorted(_names(path))] == before


def test_a_transaction_in_progress_is_no_hot_journal(make_queue: Callable[..., prismq.Queue], raw: RawReader) -> None:
    queue = make_queue(journal_mode="delete")
    queue.put(number=3)
    queue.owner.execute("BEGIN IMMEDIATE")
    queue.owner.execute("UPDATE task_queue SET attempts = 1")
    queue.owner.cache_flush()  # writes the journal
    snapshot = poll_database(_target(queue.path), None, time.time(), raw)
    queue.owner.execute("ROLLBACK")
    assert snapshot.state in ("readable", "busy")
    assert snapshot.state != "hot_journal"


def test_a_held_rollback_database_is_busy_not_down_for_ever(
    make_queue: Callable[..., prismq.Queue], raw: RawReader
) -> None:
    queue = make_queue(journal_mode="delete")
    target = _target(queue.path, limits=Limits())
    queue.owner.execute("BEGIN EXCLUSIVE")
    held = poll_database(target, None, time.time(), raw)
    queue.owner.execute("ROLLBACK")
    assert (held.up, held.state) == (False, "busy")
    assert poll_database(_target(queue.path), held, time.time(), raw).up


def test_a_symbolic_link_is_followed_to_its_wal(queue: prismq.Queue, raw: RawReader, tmp_path: Path) -> None:
    link = tmp_path / "links" / "jobs.db"
    link.parent.mkdir()
    link.symlink_to(queue.path)
    queue.put()
    snapshot = poll_database(_target(link), None, time.time(), raw)
    assert snapshot.state == "readable"
    assert _values(snapshot)[("sqlite_wal_size_bytes",)] > 0
    assert os.listdir(link.parent) == ["jobs.db"]
    assert snapshot.target.path == link


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become other users")
@pytest.mark.parametrize(("folder_mode", "state"), [(0o777, "refused"), (0o755, "readable")])
def test_a_foreign_user_who_could_leave_files_is_refused(folder_mode: int, state: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="queuekeeper-test-"))
    try:
        queue = prismq.create(folder / "queue.db")
        queue.put()
        for name in ("queue.db", "queue.db-wal", "queue.db-shm"):
            os.chown(folder / name, 4321, 4321)
            (folder / name).chmod(0o644)
        os.chown(folder, 4321, 4321)
        folder.chmod(folder_mode)
        script = (
            "import os, sys, time; from pathlib import Path\n"
            "from collectors.poll import poll_database; from collectors.raw_reader.client import RawReader\n"
            "from collectors.target import Limits, Target\n"
            # The interpreter may lie where only root can start it: the raw reader is started before.
            "raw = RawReader(); raw.read_lock_table(); os.setgroups([]); os.setgid(4999); os.setuid(4999)\n"
            "s = poll_database(Target('jobs', Path(sys.argv[1]), limits=Limits(30, 30, 30, 30)), None, time.time(), raw)\n"
            "print(s.state, s.up, s.message, flush=True); os._exit(0)"
        )
        command = [sys.executable, "-c", script, str(queue.path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.startswith(f"{state} {state == 'readable'}")
        assert ("run queuekeeper as that user" in done.stdout) == (state == "refused")
        assert {p.name: p.stat().st_uid for p in folder.iterdir()} == dict.fromkeys(
            ("queue.db", "queue.db-wal", "queue.db-shm"), 4321
        )
        queue.owner.close()
    finally:
        shutil.rmtree(folder)


def test_a_dead_raw_reader_fails_the_poll_loudly(queue: prismq.Queue) -> None:
    with RawReader((sys.executable, "-c", "")) as broken:
        snapshot = poll_database(_target(queue.path), None, time.time(), broken)
    assert (snapshot.up, snapshot.state) == (False, "raw_reader")
    assert "is queuekeeper installed" in snapshot.message


# --- states of the WAL ---


def _two(target: Target, raw: RawReader, between: Callable[[], object] = lambda: None) -> Snapshot:
    first = poll_database(target, None, 1000.0, raw)
    between()
    return poll_database(target, first, 1001.0, raw)


def test_the_first_reading_is_unknown_the_second_idle(queue: prismq.Queue, raw: RawReader) -> None:
    queue.put()
    assert _state(poll_database(_target(queue.path), None, 1000.0, raw)) == "unknown"
    assert _state(_two(_target(queue.path), raw)) == "idle"


def test_an_emptied_wal_is_idle(queue: prismq.Queue, raw: RawReader) -> None:
    queue.put()
    queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    snapshot = _two(_target(queue.path), raw)
    assert (_state(snapshot), _values(snapshot)[("sqlite_wal_frames",)]) == ("idle", 0)


def test_a_rollback_database_has_no_wal(make_queue: Callable[..., prismq.Queue], raw: RawReader) -> None:
    snapshot = _two(_target(make_queue(journal_mode="delete").path), raw)
    assert _state(snapshot) == "absent"
    assert list(snapshot.samples_of("sqlite_wal_frames")) == []


def test_a_reader_of_another_process_pins(queue: prismq.Queue, raw: RawReader, held_reader: Process) -> None:
    queue.put()
    target = _target(queue.path)
    with held_reader(queue.path) as pid:
        queue.put(number=5)
        first = poll_database(target, None, 1000.0, raw)
        second = poll_database(target, first, 1001.0, raw)
        queue.put(number=5)
        third = poll_database(target, second, 1016.0, raw)
        (pinner,) = third.readings["wal"].pinners
    assert [_state(s) for s in (first, second, third)] == ["unknown", "pinned", "pinned"]
    assert list(first.samples_of("sqlite_wal_pinned_seconds")) == []
    (sample,) = third.samples_of("sqlite_wal_pinned_seconds")
    assert sample.labels[0].startswith("python")
    assert sample.value_at(1016.0) == 16
    assert pinner.pid == pid
    fourth = poll_database(target, third, 1031.0, raw)
    assert _state(fourth) == "idle"
    assert list(fourth.samples_of("sqlite_wal_pinned_seconds")) == []


def test_our_own_readers_pin_nothing(queue: prismq.Queue, raw: RawReader) -> None:
    queue.put()
    ours = apsw.Connection(str(queue.path), flags=apsw.SQLITE_OPEN_READONLY)
    ours.execute("BEGIN")
    ours.execute("SELECT count(*) FROM task_queue").fetchall()
    snapshot = _two(_target(queue.path), raw, lambda: queue.put(number=5))
    ours.close()
    assert _state(snapshot) == "idle"


def test_frames_that_are_not_copied_are_a_backlog(queue: prismq.Queue, raw: RawReader) -> None:
    queue.fill_wal(1200)
    snapshot = _two(_target(queue.path), raw)
    assert _state(snapshot) == "backlog"
    assert _values(snapshot)[("sqlite_wal_backlog_bytes",)] >= 1200 * 4096


def test_readers_that_take_turns_starve_the_reset(queue: prismq.Queue, raw: RawReader, held_reader: Process) -> None:
    target = _target(queue.path)
    queue.owner.wal_autocheckpoint(0)
    queue.put(number=3)
    with held_reader(queue.path):
        queue.put()
        queue.owner.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        first = poll_database(target, None, 1000.0, raw)
        with held_reader(queue.path):
            pass
        queue.put()
        next_reader = held_reader(queue.path)
        next_reader.__enter__()
    queue.put()
    queue.owner.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    second = poll_database(target, first, 1001.0, raw)
    next_reader.__exit__(None, None, None)
    assert _state(second) == "reset_starved"


def test_fast_polls_still_tell_a_pin(queue: prismq.Queue, raw: RawReader, held_reader: Process) -> None:
    queue.put()
    states, snapshot = [], None
    with held_reader(queue.path):
        queue.put(number=3)
        for tick in range(15):
            snapshot = poll_database(_target(queue.path), snapshot, 1000 + tick / 10, raw, only=frozenset({"wal"}))
            states.append(_state(snapshot))
    assert states == ["unknown"] * 5 + ["pinned"] * 10


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_processes_that_we_cannot_see_make_the_state_unknown(
    queue: prismq.Queue, held_reader: Process, tmp_path: Path
) -> None:
    hidden = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *CHILD)
    if subprocess.run([*hidden[:5], "true"], capture_output=True, check=False).returncode:
        pytest.skip("no permission to make a pid namespace on this machine")
    script = (
        "import sys, apsw; c = apsw.Connection(sys.argv[1]); c.wal_autocheckpoint(0)\n"
        "c.execute('CREATE TABLE b (x)'); print('ready', flush=True)\n"
        "for line in sys.stdin:\n"
        "    c.execute('INSERT INTO b VALUES (zeroblob(6000000))'); print('done', flush=True)\n"
    )
    queue.put()
    with subprocess.Popen(
        [sys.executable, "-c", script, str(queue.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        queue.owner.close()

        def write() -> None:
            print("write", file=writer.stdin, flush=True)
            assert writer.stdout is not None
            assert writer.stdout.readline() == "done\n"

        with RawReader(hidden) as blind, RawReader() as seeing, held_reader(queue.path):
            write()
            unseen = _two(_target(queue.path), blind, write)
            seen = _two(_target(queue.path), seeing, write)
        writer.kill()
    assert (_state(unseen), _state(seen)) == ("unknown", "pinned")
    assert [s.labels for s in unseen.samples_of("sqlite_wal_pinned_seconds")] == [("unknown",)]


# --- beside a live application ---


def _poll_beside(queue: prismq.Queue, raw: RawReader, application: Process, polls: int) -> None:
    target = _target(queue.path)
    queue.put()
    with application(queue.path, 2) as pid:
        queue.owner.close()
        held = {
            (h.file, h.row)
            for h in raw.find_held_locks(queue.path)
            if h.pid == pid and h.row.start in (128, 0x40000002)
        }
        files, salts, snapshot = _names(queue.path), set(), None
        modes = {name: stat.S_IMODE((queue.path.parent / name).stat().st_mode) for name in files}
        assert len(held) == 2
        for tick in range(polls):
            snapshot = poll_database(target, snapshot, 1000 + tick / 10, raw)
            assert snapshot.up
            index = raw.read_wal_index(queue.path)
            salts.add(index.salt if index else "")
        assert held <= {(h.file, h.row) for h in raw.find_held_locks(queue.path)}
        assert _names(queue.path) == files
        assert {name: stat.S_IMODE((queue.path.parent / name).stat().st_mode) for name in files} == modes
        deadline = time.monotonic() + LONGEST_WAIT
        while len(salts) < 2 and time.monotonic() < deadline:  # the application's own checkpoints still reset its WAL
            snapshot = poll_database(target, snapshot, time.time(), raw, only=frozenset({"storage", "wal"}))
            index = raw.read_wal_index(queue.path)
            salts.add(index.salt if index else "")
        assert len(salts - {""}) >= 2
        wal = Path(f"{queue.path}-wal").stat().st_size
    assert wal < 3 * 1000 * (4096 + 24)


def test_two_hundred_polls_leave_no_trace(queue: prismq.Queue, raw: RawReader, application: Process) -> None:
    _poll_beside(queue, raw, application, 200)


@pytest.mark.soak
def test_a_thousand_polls_leave_no_trace(queue: prismq.Queue, raw: RawReader, application: Process) -> None:
    _poll_beside(queue, raw, application, 1000)


# --- declarations ---


def test_every_metric_is_declared_once_and_every_sample_is_declared(
    queue: prismq.Queue, raw: RawReader, tmp_path: Path
) -> None:
    names = [metric.name for collector in COLLECTORS for metric in collector.METRICS]
    assert len(names) == len(set(names))
    assert all(name.startswith("sqlite_") for name in names)
    target = _target(queue.path, backup=BackupSettings(tmp_path / "b"))
    assert {s.metric.name for s in poll_database(target, None, time.time(), raw).samples} <= set(names)
