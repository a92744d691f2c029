"""Restores: into a live database, to another path, where one is missing or malformed; drills, prunes, the Python API."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from actions.store.database import state_store
from actions.store.totals import read_totals
from collectors.backup_catalog.local_directory import manifest_path, read_manifest
from collectors.target import BackupSettings, Limits, RetentionCounts, Target
from queuekeeper import BackupInfo, QueueBackup, QueueBackupError
from tests.support.scenes import prismq
from tests.support.scenes.run_actions import by_hand, by_rule, planned, target_of

Hold = Callable[[Path], AbstractContextManager[int]]


@pytest.fixture
def target(queue: prismq.Queue, tmp_path: Path) -> Target:
    queue.put("queued", 20)
    return target_of(queue.path, backup=BackupSettings(tmp_path / "b", own_folder=False), limits=Limits(disk_reserve=0))


def backed_up(target: Target) -> Path:
    run = by_hand(target, "backup")
    assert run.outcome == "done", run.message
    return Path(str(run.figures["path"]))


def rows(path: Path) -> int:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(connection.execute("SELECT count(*) FROM task_queue").get)
    finally:
        connection.close()


# --- into a live database


def test_a_connected_application_sees_the_restored_rows_and_goes_on(target: Target, queue: prismq.Queue) -> None:
    backed_up(target)
    queue.put("queued", 7)
    queue.owner.execute("UPDATE task_queue SET status = 'failed' WHERE id = 1")
    run = by_hand(target, "restore", in_place=True)
    assert (run.outcome, run.figures["way"]) == ("done", "live")
    assert queue.value("SELECT count(*) FROM task_queue") == 20
    assert queue.value("SELECT status FROM task_queue WHERE id = 1") == "queued"
    assert queue.value("PRAGMA journal_mode") == "wal"
    queue.put("queued")
    assert queue.value("SELECT count(*) FROM task_queue") == 21
    assert queue.value("PRAGMA integrity_check") == "ok"


def test_a_reader_keeps_its_snapshot_and_then_sees_the_restored_rows(target: Target, queue: prismq.Queue) -> None:
    backed_up(target)
    queue.put("queued", 7)
    reader = apsw.Connection(str(queue.path), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN; SELECT 1 FROM task_queue").fetchall()
    assert by_hand(target, "restore", in_place=True).outcome == "done"
    assert reader.execute("SELECT count(*) FROM task_queue").get == 27
    reader.execute("COMMIT")
    assert reader.execute("SELECT count(*) FROM task_queue").get == 20
    reader.close()


def test_a_writer_in_a_transaction_makes_it_end_locked_and_nothing_changed(target: Target, queue: prismq.Queue) -> None:
    backed_up(target)
    queue.put("queued", 7)
    queue.owner.execute("BEGIN IMMEDIATE")
    try:
        run = by_hand(target, "restore", in_place=True)
    finally:
        queue.owner.execute("COMMIT")
    assert (run.outcome, run.reason) == ("locked", "write_lock")
    assert queue.value("SELECT count(*) FROM task_queue") == 27


def test_what_would_be_lost_is_named_before(target: Target, queue: prismq.Queue) -> None:
    backed_up(target)
    queue.put("queued", 7)
    event = planned(target, "restore", {"in_place": True})
    assert (
        "task_queue: 27 rows now, 20 in the backup, of them 7 newer than the backup (rows 21, 22" in event.message
        or ("task_queue: 27 rows now, 20 in the backup, of them 7 newer" in str(event.figures["lost"]))
    )
    assert queue.value("SELECT count(*) FROM task_queue") == 27


def test_a_safety_copy_is_taken_first_and_never_chosen_by_default(target: Target, queue: prismq.Queue) -> None:
    first = backed_up(target)
    queue.put("queued", 7)
    run = by_hand(target, "restore", in_place=True)
    safety = Path(str(run.figures["safety_backup"]))
    assert read_manifest(manifest_path(safety)).kind == "safety"
    assert rows(safety) == 27
    queue.put("queued", 1)
    again = by_hand(target, "restore", in_place=True)
    assert again.figures["backup"] == str(first)
    assert queue.value("SELECT count(*) FROM task_queue") == 20
    back = by_hand(target, "restore", in_place=True, backup=str(safety))
    assert back.outcome == "done"
    assert queue.value("SELECT count(*) FROM task_queue") == 27


def test_another_page_size_is_handled(
    target: Target, queue: prismq.Queue, make_queue: Callable[..., prismq.Queue], tmp_path: Path
) -> None:
    backup = backed_up(target)
    other = make_queue("large.db", "wal", 8192)
    other.put("queued", 3)
    manifest = json.loads(manifest_path(backup).read_text())
    manifest["source"] = {**manifest["source"], "path": str(other.path), "database": "large"}
    manifest_path(backup).write_text(json.dumps(manifest))
    into = replace(target, name="large", path=other.path)
    run = by_hand(into, "restore", in_place=True, backup=str(backup))
    assert run.outcome == "done", run.message
    assert other.value("PRAGMA page_size") == 8192
    assert other.value("SELECT count(*) FROM task_queue") == 20
    assert other.value("PRAGMA integrity_check") == "ok"


def test_beside_busy_workers_only_old_or_new_rows_are_ever_seen(
    target: Target, queue: prismq.Queue, application: Callable[..., AbstractContextManager[int]]
) -> None:
    backed_up(target)
    queue.put("completed", 500)
    seen = set()
    reader = apsw.Connection(str(queue.path), flags=apsw.SQLITE_OPEN_READONLY)
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.add(reader.execute("SELECT count(*) FROM task_queue WHERE status = 'completed'").get)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        with application(queue.path, 5):
            run = by_hand(target, "restore", in_place=True)
    finally:
        stop.set()
        watcher.join()
        reader.close()
    assert run.outcome == "done", run.message
    assert seen == {0, 500}
    assert queue.value("PRAGMA integrity_check") == "ok"


def test_a_restore_is_never_automatic(target: Target) -> None:
    backed_up(target)
    assert by_rule(target, "restore").outcome == "refused"


# --- elsewhere


def test_to_another_path_it_makes_one_private_file(target: Target, tmp_path: Path) -> None:
    backed_up(target)
    place = tmp_path / "elsewhere"
    place.mkdir()
    run = by_hand(target, "restore", to=str(place / "copy.db"))
    assert run.outcome == "done", run.message
    assert [path.name for path in place.iterdir()] == ["copy.db"]
    assert (place / "copy.db").stat().st_mode & 0o777 == target.path.stat().st_mode & 0o777
    assert rows(place / "copy.db") == 20


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
def test_nothing_is_overwritten(target: Target, tmp_path: Path, suffix: str) -> None:
    backed_up(target)
    existing = tmp_path / f"copy.db{suffix}"
    existing.write_text("mine")
    run = by_hand(target, "restore", to=str(tmp_path / "copy.db"))
    assert (run.outcome, run.reason) == ("refused", "exists")
    assert existing.read_text() == "mine"


# --- where one is missing or malformed


def test_a_missing_database_gets_its_content_back_and_stale_sidecars_do_not_mix(
    target: Target, queue: prismq.Queue
) -> None:
    backed_up(target)
    queue.owner.wal_autocheckpoint(0)
    queue.put("queued", 9)
    queue.owner.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    queue.owner.close()
    assert target.wal.stat().st_size > 0
    target.path.unlink()
    run = by_hand(target, "restore", in_place=True)
    assert (run.outcome, run.figures["way"]) == ("done", "missing"), run.message
    assert not target.wal.exists()
    assert rows(target.path) == 20
    assert "-wal" in str(run.figures["moved_aside"])


def test_a_malformed_database_is_moved_aside_with_its_sidecars(target: Target, queue: prismq.Queue) -> None:
    backed_up(target)
    queue.owner.close()
    target.path.write_bytes(b"\x00" * 5000)
    target.wal.write_bytes(b"rubbish")
    run = by_hand(target, "restore", in_place=True)
    assert (run.outcome, run.figures["way"]) == ("done", "malformed"), run.message
    assert not target.wal.exists()
    aside = sorted(path.name for path in target.path.parent.glob("queue.db.before-restore-*"))
    assert len(aside) == 2
    assert rows(target.path) == 20


def test_a_malformed_database_that_a_process_has_open_is_not_swapped(target: Target, queue: prismq.Queue) -> None:
    backed_up(target)
    queue.owner.close()
    target.path.write_bytes(b"\x00" * 5000)
    code = "import sys; f = open(sys.argv[1]); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(target.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout.readline() == "ready\n"
        run = by_hand(target, "restore", in_place=True)
        user.kill()
    assert (run.outcome, run.reason, run.figures["pid"]) == ("blocked", "application_connected", user.pid)
    assert target.path.stat().st_size == 5000


def test_a_raw_reader_of_ours_that_still_has_the_wal_index_open_does_not_block(
    target: Target, queue: prismq.Queue
) -> None:
    backed_up(target)
    queue.owner.close()
    target.path.write_bytes(b"\x00" * 5000)
    target.shm.write_bytes(b"\x00" * 32768)
    code = "import sys; f = open(sys.argv[1]); print('ready', flush=True); sys.stdin.read()"
    as_ours = [sys.executable, "-c", code, str(target.shm), "collectors.raw_reader.server"]
    with subprocess.Popen(as_ours, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout.readline() == "ready\n"
        run = by_hand(target, "restore", in_place=True)
        reader.kill()
    assert run.outcome == "done", run.message


# --- refusals


def test_a_damaged_backup_is_never_restored(target: Target, queue: prismq.Queue) -> None:
    path = backed_up(target)
    data = bytearray(path.read_bytes())
    data[9000] ^= 1
    path.write_bytes(data)
    queue.put("queued", 7)
    run = by_hand(target, "restore", in_place=True)
    assert run.outcome == "unverified"
    assert queue.value("SELECT count(*) FROM task_queue") == 27


def test_another_tenants_backup_is_refused(target: Target, make_queue: Callable[..., prismq.Queue]) -> None:
    path = backed_up(target)
    other = make_queue("other.db")
    other.put("queued", 2)
    run = by_hand(replace(target, name="other", path=other.path), "restore", in_place=True, backup=str(path))
    assert (run.outcome, run.reason) == ("unverified", "foreign_source")
    assert other.value("SELECT count(*) FROM task_queue") == 2


def test_no_room_is_refused_with_the_missing_bytes(target: Target, queue: prismq.Queue) -> None:
    backed_up(target)
    queue.put("queued", 7)
    run = by_hand(replace(target, limits=Limits(disk_reserve=2**60)), "restore", in_place=True)
    assert run.reason == "disk_full"
    assert "bytes are missing" in run.message
    assert queue.value("SELECT count(*) FROM task_queue") == 27


# --- drills and compressed backups


@pytest.mark.parametrize("compress", ["none", "zstd"])
def test_a_drill_restores_checks_and_measures(target: Target, compress: str) -> None:
    target = replace(target, backup=replace(target.backup, compress=compress))
    backed_up(target)
    before = time.time()
    run = by_hand(target, "drill")
    assert run.outcome == "done", run.message
    assert run.figures["tasks"] == 20
    assert list((target.state / "scratch").iterdir()) == []
    with state_store(target.state) as store:
        at, seconds = read_totals(store).drills["queue"]
    assert at >= before
    assert seconds == run.figures["restore_seconds"]


def test_a_drill_tells_of_rows_beyond_the_sequence(target: Target) -> None:
    """The file is whole and its manifest fits: an application may have moved its keys, so that is told and no failure."""
    import hashlib

    path = backed_up(target)
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE sqlite_sequence SET seq = 3")
    connection.close()
    data = json.loads(manifest_path(path).read_text())
    data["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest_path(path).write_text(json.dumps(data))
    run = by_hand(target, "drill")
    assert run.outcome == "done"
    assert "beyond its sequence" in str(run.figures["notes"])


def test_a_compressed_backup_verifies_and_restores(target: Target, queue: prismq.Queue) -> None:
    target = replace(target, backup=replace(target.backup, compress="zstd"))
    path = backed_up(target)
    assert path.name.endswith(".db.zst")
    assert by_hand(target, "verify").outcome == "done"
    queue.put("queued", 7)
    assert by_hand(target, "restore", in_place=True).outcome == "done"
    assert queue.value("SELECT count(*) FROM task_queue") == 20
    assert sorted(file.name for file in path.parent.glob(".*")) == []


@pytest.mark.parametrize("at", [0, 100, -5])
def test_a_damaged_compressed_backup_is_unverified_even_with_a_fitting_checksum(target: Target, at: int) -> None:
    import hashlib

    target = replace(target, backup=replace(target.backup, compress="zstd"))
    path = backed_up(target)
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    manifest = json.loads(manifest_path(path).read_text())
    manifest["sha256"] = hashlib.sha256(data).hexdigest()
    manifest_path(path).write_text(json.dumps(manifest))
    assert by_hand(target, "verify").outcome == "unverified"


# --- prune


def test_prune_keeps_what_the_rules_keep(target: Target) -> None:
    target = replace(target, backup=replace(target.backup, keep=RetentionCounts(2, 0, 0, 0, 0)))
    paths = [backed_up(target) for _ in range(4)]
    assert planned(target, "prune").figures["delete"] == 2
    assert all(path.exists() for path in paths)
    run = by_hand(target, "prune")
    assert (run.outcome, run.figures["deleted"]) == ("done", 2)
    assert [path.exists() for path in paths] == [False, False, True, True]
    assert [manifest_path(path).exists() for path in paths] == [False, False, True, True]
    assert by_hand(target, "prune").outcome == "nothing_to_do"


def test_prune_leaves_foreign_and_unverified_files_alone(target: Target) -> None:
    target = replace(target, backup=replace(target.backup, keep=RetentionCounts(1, 0, 0, 0, 0)))
    first, second = backed_up(target), backed_up(target)
    manifest_path(first).unlink()
    (first.parent / "queue_backup_mine.db").write_text("foreign")
    assert by_hand(target, "prune").outcome == "nothing_to_do"
    assert first.exists()
    assert second.exists()


def test_a_source_that_failed_its_check_stops_rotation(target: Target) -> None:
    target = replace(target, backup=replace(target.backup, keep=RetentionCounts(1, 0, 0, 0, 0)))
    backed_up(target)
    backed_up(target)
    with state_store(target.state) as store:
        store.execute(
            "INSERT INTO run (database, path, action, request, trigger, state, requested_at, ended_at, outcome, message)"
            " SELECT database, path, 'backup', request, 'schedule', 'ended', 1, 1, 'unverified', 'index damaged'"
            " FROM run LIMIT 1"
        )
    run = by_hand(target, "prune")
    assert (run.outcome, run.reason) == ("refused", "source_failed")


# --- the Python API


def test_the_python_api_does_what_it_says(queue: prismq.Queue, tmp_path: Path) -> None:
    queue.put("queued", 5)
    backups = QueueBackup(queue.path, tmp_path / "api", state=tmp_path / "state")
    assert (tmp_path / "api").is_dir()
    first = backups.create_backup()
    second = backups.create_backup("named")
    assert backups.verify_backup(first) is True
    assert [info.path for info in backups.list_backups()] == [second, first]
    latest = backups.get_latest_backup()
    assert latest is not None
    assert (latest.path, latest.size_bytes) == (second, second.stat().st_size)
    assert latest.size_mb == pytest.approx(second.stat().st_size / 2**20)
    assert BackupInfo.from_path(second).created_at.utcoffset().total_seconds() == 0
    queue.put("queued", 5)
    assert backups.restore_backup(first, tmp_path / "copy.db") == tmp_path / "copy.db"
    assert backups.restore_backup(first) == queue.path
    assert queue.value("SELECT count(*) FROM task_queue") == 5
    assert backups.cleanup_old_backups(keep_count=1) == 1
    assert backups.get_latest_backup().path == second


def test_the_python_apis_errors_are_sentences(queue: prismq.Queue, tmp_path: Path) -> None:
    with pytest.raises(QueueBackupError, match="not found"):
        QueueBackup(tmp_path / "nothing.db")
    backups = QueueBackup(queue.path, tmp_path / "api", state=tmp_path / "state")
    with pytest.raises(QueueBackupError, match="not found"):
        backups.verify_backup(tmp_path / "nothing.db")
    with pytest.raises(QueueBackupError, match="not found"):
        BackupInfo.from_path(tmp_path / "nothing.db")
    with pytest.raises(QueueBackupError, match="at least 1"):
        backups.cleanup_old_backups(0)
    assert backups.get_latest_backup() is None


def test_several_threads_take_turns(queue: prismq.Queue, tmp_path: Path) -> None:
    queue.put("queued", 5)
    made: list[Path] = []
    troubles: list[Exception] = []

    def work() -> None:
        try:
            backups = QueueBackup(queue.path, tmp_path / "api", state=tmp_path / "state")
            path = backups.create_backup()
            backups.verify_backup(path)
            made.append(path)
        except Exception as error:  # noqa: BLE001 asserted below
            troubles.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    assert len(set(made)) == 4


# --- the command


def test_the_command_says_what_would_be_lost_and_restores(target: Target, queue: prismq.Queue) -> None:
    path = backed_up(target)
    queue.put("queued", 7)
    command = [sys.executable, "-m", "exporter.commands", "restore", str(target.path), "--from", str(path.parent)]
    common = ["--state", str(target.state)]
    usage = subprocess.run([*command, *common], capture_output=True, text=True)
    assert usage.returncode == 2
    assert "--to PATH or --in-place" in usage.stderr
    done = subprocess.run([*command, *common, "--in-place"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "would be lost: task_queue: 27 rows now, 20 in the backup, of them 7 newer" in done.stderr
    assert queue.value("SELECT count(*) FROM task_queue") == 20
