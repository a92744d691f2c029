"""Backups: one commit point beside a live writer, proved, private, a single file; and what a damaged one says."""

import hashlib
import json
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from actions.store.runs import Run
from collectors.backup_catalog.local_directory import manifest_path, read_manifest
from collectors.poll import poll_database
from collectors.raw_reader.client import RawReader
from collectors.target import BackupSettings, Limits, Target
from tests.support.scenes import prismq
from tests.support.scenes.run_actions import by_hand, by_rule, planned, target_of


@pytest.fixture
def target(queue: prismq.Queue, tmp_path: Path) -> Target:
    queue.put("queued", 20)
    queue.put("completed", 5)
    return target_of(queue.path, backup=BackupSettings(tmp_path / "backups"), limits=Limits(disk_reserve=0))


@pytest.fixture
def busy_database(tmp_path: Path) -> Iterator[apsw.Connection]:
    """About 20 MB in WAL mode, whose every transaction writes three tables."""
    connection = apsw.Connection(str(tmp_path / "busy.db"))
    connection.execute("PRAGMA journal_mode=WAL").fetchall()
    connection.execute(
        "CREATE TABLE meta (n INT); INSERT INTO meta VALUES (0);"
        "CREATE TABLE log (k INTEGER PRIMARY KEY, item INT); CREATE TABLE item (id INTEGER PRIMARY KEY, v INT, pad BLOB);"
        "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 20000)"
        "INSERT INTO item SELECT i, 0, randomblob(1000) FROM s"
    )
    yield connection
    connection.close()


def backup_of(run: Run) -> Path:
    assert run.outcome == "done", run.message
    return Path(str(run.figures["path"]))


def immutable(path: Path) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    return apsw.Connection(f"file:{path}?immutable=1", flags=flags)


def age(target: Target, raw: RawReader) -> float | None:
    now = time.time()
    return next(
        (
            sample.value_at(now)
            for sample in poll_database(target, None, now, raw).samples_of("sqlite_backup_age_seconds")
        ),
        None,
    )


def test_a_backup_beside_a_writer_that_never_rests_is_one_commit_point(
    busy_database: apsw.Connection, tmp_path: Path
) -> None:
    place = BackupSettings(tmp_path / "backups", own_folder=False)
    target = target_of(tmp_path / "busy.db", backup=place, limits=Limits(disk_reserve=0))
    with prismq.process("two_tables_writer.py", target.path, "1"):
        for _ in range(3):
            run = by_hand(target, "backup")
            assert run.figures["restarts"] == 0
            copy = immutable(backup_of(run))
            (n,) = copy.execute("SELECT n FROM meta").fetchone()
            assert copy.execute("SELECT count(*), coalesce(max(k), 0) FROM log").fetchone() == (n, n)
            newest = "SELECT item, max(k) k FROM log GROUP BY 1"
            wrong = f"SELECT count(*) FROM item LEFT JOIN ({newest}) g ON g.item = id WHERE v IS NOT coalesce(k, 0)"
            assert copy.execute(wrong).get == 0
            assert copy.execute("PRAGMA integrity_check").get == "ok"
            copy.close()


def test_a_backup_is_one_private_file_with_a_manifest_and_opens_in_another_sqlite(target: Target) -> None:
    path = backup_of(by_hand(target, "backup"))
    folder = path.parent
    assert folder == target.backup.directory / "queue"
    assert sorted(file.name for file in folder.iterdir()) == sorted([path.name, manifest_path(path).name])
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    code = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM task_queue').fetchone()[0])"
    count = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert count.stdout == "25\n"
    assert [name for name in folder.iterdir() if name.suffix in ("-wal", "-shm", "-journal")] == []


def test_the_manifest_tells_what_the_source_held(target: Target, queue: prismq.Queue) -> None:
    path = backup_of(by_hand(target, "backup", name="before-upgrade"))
    manifest = read_manifest(manifest_path(path))
    assert path.name.startswith("queue_backup_before-upgrade_queue_2")
    assert manifest.row_counts["task_queue"] == 25
    assert manifest.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (manifest.bytes, manifest.pages * manifest.page_size) == (path.stat().st_size, path.stat().st_size)
    assert manifest.source.path == str(queue.path)
    assert manifest.source.inode == queue.path.stat().st_ino
    assert (manifest.kind, manifest.compression) == ("manual", "none")
    assert manifest.verified_time is not None


def test_the_age_on_metrics_counts_from_the_snapshot(target: Target, raw: RawReader) -> None:
    assert age(target, raw) is None
    path = backup_of(by_hand(target, "backup"))
    snapshot = read_manifest(manifest_path(path)).snapshot_time
    least = time.time() - snapshot
    seconds = age(target, raw)
    assert seconds is not None
    assert least <= seconds <= time.time() - snapshot


def test_two_backups_in_the_same_instant_do_not_collide(target: Target) -> None:
    first, second = backup_of(by_hand(target, "backup")), backup_of(by_hand(target, "backup"))
    assert first != second
    assert first.exists()


@pytest.mark.parametrize("journal_mode", ["delete", "truncate", "persist"])
def test_a_rollback_journal_database_is_copied_in_one_step(
    make_queue: Callable[..., prismq.Queue], tmp_path: Path, journal_mode: str
) -> None:
    queue = make_queue("old.db", journal_mode)
    queue.put("queued", 7)
    target = target_of(queue.path, backup=BackupSettings(tmp_path / "backups"), limits=Limits(disk_reserve=0))
    for full in (False, True):
        run = by_hand(target, "backup", full=full)
        assert read_manifest(manifest_path(backup_of(run))).row_counts["task_queue"] == 7
        assert (run.figures["method"], "was compared with the files" in run.message) == ("one_step", True)


def test_a_backup_without_a_place_is_refused_with_the_cure(queue: prismq.Queue) -> None:
    run = by_hand(target_of(queue.path), "backup")
    assert (run.outcome, run.reason) == ("refused", "no_directory")
    assert "--to" in run.next_step


def test_a_full_disk_is_refused_before_anything_is_written(target: Target) -> None:
    run = by_hand(replace(target, limits=Limits(disk_reserve=2**60)), "backup")
    assert (run.outcome, run.reason) == ("refused", "disk_full")
    assert "bytes are missing" in run.message
    assert not target.backup.directory.exists()


@pytest.mark.parametrize("name", ["../evil", "a b", "x/y", "é\n"])
def test_a_name_never_reaches_a_path(target: Target, name: str) -> None:
    assert by_hand(target, "backup", name=name).reason == "name"


def test_a_database_name_made_of_folders_stays_in_its_folder(target: Target) -> None:
    path = backup_of(by_hand(replace(target, name="a/b"), "backup"))
    assert path.parent == target.backup.directory / "a" / "b"
    assert "/" not in path.name


def test_a_dry_run_writes_no_backup(target: Target) -> None:
    assert planned(target, "backup").figures["outcome"] == "done"
    assert not target.backup.directory.exists()


def test_a_good_backup_verifies_and_the_proof_is_dated(target: Target) -> None:
    path = backup_of(by_hand(target, "backup"))
    before = read_manifest(manifest_path(path)).verified_time
    run = by_hand(target, "verify")
    assert (run.outcome, run.figures["path"]) == ("done", str(path))
    assert read_manifest(manifest_path(path)).verified_time > before
    assert len(list(path.parent.iterdir())) == 2


def rewrite(path: Path, sql: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(sql)
    connection.close()


def fix_checksum(path: Path) -> None:
    """Make the checksum fit the damaged backup."""
    place = manifest_path(path)
    data = json.loads(place.read_text())
    data["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    place.write_text(json.dumps(data))


def flip_a_byte(path: Path, at: int = 8192) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def test_a_flipped_byte_is_unverified(target: Target) -> None:
    path = backup_of(by_hand(target, "backup"))
    flip_a_byte(path)
    run = by_hand(target, "verify")
    assert (run.outcome, run.reason) == ("unverified", "checksum")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: rewrite(path, "DELETE FROM task_queue WHERE id = 3"),
        lambda path: rewrite(path, "CREATE TABLE extra (x)"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    ],
    ids=["a row deleted", "another schema", "an empty file", "half a file"],
)
def test_damage_is_found_even_when_the_checksum_was_made_to_fit(target: Target, damage: Callable[[Path], None]) -> None:
    path = backup_of(by_hand(target, "backup"))
    damage(path)
    fix_checksum(path)
    run = by_hand(target, "verify")
    assert (run.outcome, run.reason) == ("unverified", "content")


@pytest.mark.parametrize("action", ["verify", "drill"])
def test_a_row_changed_since_a_full_backup_is_found_even_when_the_checksum_was_made_to_fit(
    target: Target, action: str
) -> None:
    path = backup_of(by_hand(target, "backup", full=True))
    assert by_hand(target, action).outcome == "done"
    rewrite(path, "UPDATE task_queue SET priority = priority + 1 WHERE id = 3")
    fix_checksum(path)
    run = by_hand(target, action)
    assert (run.outcome, run.reason) == ("unverified", "content")
    assert "digests differ" in run.message


@pytest.mark.parametrize("compress", ["none", "zstd"])
def test_a_backup_says_in_words_which_proof_it_had(target: Target, compress: str) -> None:
    assert target.backup is not None
    target = replace(target, backup=replace(target.backup, compress=compress))
    usual, full = by_hand(target, "backup"), by_hand(target, "backup", full=True)
    assert (usual.figures["proof"], full.figures["proof"]) == ("pages", "content")
    assert "was compared with" in usual.message
    assert "was compared with what SQLite reads in the pinned transaction" in full.message
    digests = [read_manifest(manifest_path(backup_of(run))).content_sha256 for run in (usual, full)]
    assert digests[0] is None
    assert by_hand(target, "verify", backup=str(backup_of(full))).outcome == "done"


def test_a_backup_of_another_database_is_unverified(
    target: Target, make_queue: Callable[..., prismq.Queue], tmp_path: Path
) -> None:
    other = make_queue("other.db")
    theirs = target_of(other.path, backup=BackupSettings(tmp_path / "theirs"), limits=Limits(disk_reserve=0))
    path = backup_of(by_hand(theirs, "backup"))
    run = by_hand(target, "verify", backup=str(path))
    assert (run.outcome, run.reason) == ("unverified", "foreign_source")


def test_a_backup_without_a_manifest_is_unverified(target: Target) -> None:
    path = backup_of(by_hand(target, "backup"))
    manifest_path(path).unlink()
    assert by_hand(target, "verify").reason == "no_manifest"


def test_leftovers_of_a_killed_run_go_and_those_of_a_living_one_stay(target: Target) -> None:
    import os

    from actions.model.process_identity import own_identity

    folder = target.backup.directory / "queue"
    folder.mkdir(parents=True)
    host = os.uname().nodename
    dead = folder / f".queue_backup_queue_1.db.partial-{host}@999999:1"
    foreign = folder / ".queue_backup_queue_1.db.partial-elsewhere@999999:1"
    living = folder / f".queue_backup_queue_1.db.partial-{host}@{own_identity()}"
    for path in (dead, foreign, living, dead.with_name(dead.name + "-journal")):
        path.touch()
    run = by_hand(target, "backup")
    assert run.figures["leftovers_removed"] == 2
    assert sorted(path.name for path in folder.glob(".*")) == sorted([foreign.name, living.name])


def test_an_automatic_backup_says_scheduled(target: Target) -> None:
    path = backup_of(by_rule(target, "backup"))
    assert read_manifest(manifest_path(path)).kind == "scheduled"


def test_the_command_says_unverified_with_its_exit_code(target: Target, tmp_path: Path) -> None:
    path = backup_of(by_hand(target, "backup"))
    flip_a_byte(path)
    command = [
        sys.executable,
        "-m",
        "exporter.commands",
        "backups",
        "verify",
        str(target.path),
        "--from",
        str(path.parent),
    ]
    done = subprocess.run([*command, "--state", str(tmp_path / "state")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith(f"unverified: {path.name} is not what was written")
