"""A restored file is what its source was beside its rows: journal mode, header fields, owner, group, mode; or it is said."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from actions.restores.settings import WantedSettings, put_back_settings
from collectors.backup_catalog.local_directory import manifest_path, read_manifest
from collectors.target import BackupSettings, Limits, Target
from tests.support.scenes import prismq
from tests.support.scenes.run_actions import by_hand, target_of

PRAGMAS = ("journal_mode", "page_size", "auto_vacuum", "user_version", "application_id", "encoding")
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def make_source(path: Path) -> apsw.Connection:
    """A WAL database whose every setting differs from the default; its owner stays connected."""
    owner = apsw.Connection(str(path))
    owner.execute(
        "PRAGMA page_size=8192; PRAGMA auto_vacuum=2; PRAGMA encoding='UTF-16le'; PRAGMA journal_mode=WAL;"
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t (v) VALUES (1), (2);"
        "PRAGMA user_version=-7; PRAGMA application_id=4711"
    ).fetchall()
    path.chmod(0o640)
    if ROOT:
        for suffix in ("", "-wal", "-shm"):
            os.chown(f"{path}{suffix}", 1234, 1235)
    return owner


@pytest.fixture
def target(tmp_path: Path) -> Target:
    folder = tmp_path / "app"
    folder.mkdir()
    place = BackupSettings(tmp_path / "b", own_folder=False)
    return replace(target_of(folder / "jobs.db", backup=place, limits=Limits(disk_reserve=0)), state=tmp_path / "state")


def settings_of(path: Path) -> dict[str, object]:
    connection = apsw.Connection(str(path))
    try:
        found = {name: connection.pragma(name) for name in PRAGMAS}
    finally:
        connection.close()
    status = path.stat()
    return {**found, "owner": status.st_uid, "group": status.st_gid, "mode": status.st_mode & 0o777}


def damage(target: Target, way: str) -> Path:
    """Bring the target into the state in which this way is taken; returns the path that a restore gives."""
    if way == "missing":
        target.path.unlink()
    if way == "malformed":
        target.path.write_bytes(b"\0" * 5000)
    return target.path.parent / "new.db" if way == "to" else target.path


def forget_settings(backup: Path) -> None:
    """Make the manifest as version 0.1.0 wrote it."""
    fields = json.loads(manifest_path(backup).read_text())
    for name in ("journal_mode", "auto_vacuum", "user_version", "application_id"):
        del fields[name]
    for name in ("file_owner", "file_group", "file_mode"):
        del fields[name]
    manifest_path(backup).write_text(json.dumps(fields))


@pytest.mark.parametrize("compress", ["none", "zstd"])
@pytest.mark.parametrize("way", ["to", "missing", "malformed"])
def test_every_setting_comes_back_and_nothing_lies_beside_it(target: Target, way: str, compress: str) -> None:
    target = replace(target, backup=replace(target.backup, compress=compress))
    owner = make_source(target.path)
    run = by_hand(target, "backup")
    assert run.outcome == "done", run.message
    before = settings_of(target.path)
    owner.close()
    destination = damage(target, way)
    options = {"to": str(destination)} if way == "to" else {"in_place": True}
    run = by_hand(target, "restore", **options)
    assert (run.outcome, run.figures["way"]) == ("done", way), run.message
    assert not list(destination.parent.glob(f"{destination.name}-*"))
    assert "not_kept" not in run.figures
    assert "journal mode wal; page_size 8192; auto_vacuum 2; user_version -7; application_id 4711" in str(
        run.figures["settings"]
    )
    assert settings_of(destination) == before
    assert before["journal_mode"] == "wal"


def test_a_rollback_journal_database_stays_one(target: Target) -> None:
    owner = make_source(target.path)
    owner.execute("PRAGMA journal_mode=DELETE").fetchall()
    assert by_hand(target, "backup").outcome == "done"
    owner.close()
    run = by_hand(target, "restore", to=str(target.path.parent / "new.db"))
    assert run.outcome == "done", run.message
    assert settings_of(target.path.parent / "new.db")["journal_mode"] == "delete"


def test_the_manifest_says_what_the_source_was(target: Target) -> None:
    owner = make_source(target.path)
    run = by_hand(target, "backup")
    manifest = read_manifest(manifest_path(Path(str(run.figures["path"]))))
    owner.close()
    status = target.path.stat()
    assert (manifest.journal_mode, manifest.auto_vacuum, manifest.page_size) == ("wal", 2, 8192)
    assert (manifest.user_version, manifest.application_id) == (-7, 4711)
    assert (manifest.file_owner, manifest.file_group, manifest.file_mode) == (status.st_uid, status.st_gid, 0o640)


# --- backups of a version that did not record it


@pytest.mark.parametrize("way", ["missing", "malformed"])
def test_without_a_record_what_is_left_tells(target: Target, way: str) -> None:
    """A damaged file whose header is whole, or the WAL of a database that is gone."""
    owner = make_source(target.path)
    backup = Path(str(by_hand(target, "backup").figures["path"]))
    forget_settings(backup)
    owner.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    owner.execute("UPDATE t SET v = 3")
    owner.close()
    if way == "missing":
        target.path.unlink()
    else:
        target.path.write_bytes(target.path.read_bytes()[:100] + b"\xff" * 9000)
        target.wal.unlink()
    run = by_hand(target, "restore", in_place=True)
    assert (run.outcome, run.figures["way"]) == ("done", way), run.message
    assert settings_of(target.path)["journal_mode"] == "wal"


def test_without_a_record_and_without_traces_it_says_unknown(target: Target) -> None:
    owner = make_source(target.path)
    backup = Path(str(by_hand(target, "backup").figures["path"]))
    forget_settings(backup)
    owner.close()
    target.path.unlink()
    run = by_hand(target, "restore", to=str(target.path.parent / "new.db"))
    assert run.outcome == "done", run.message
    assert "journal mode (unknown" in str(run.figures["not_kept"])
    assert "owner, group and mode (unknown" in run.message


# --- what cannot be put back


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    path = tmp_path / "copy.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE t (v)")
    connection.close()
    return path


def test_where_there_is_no_shared_memory_it_stays_a_single_file_and_says_so(copy: Path) -> None:
    copy.with_name("copy.db-shm").symlink_to("/nowhere/at-all")  # cannot be opened in any way
    result = put_back_settings(copy, WantedSettings("wal", None, None, None, "manifest"))
    assert any(problem.startswith("journal mode wal (this file system cannot") for problem in result.not_kept)
    assert copy.read_bytes()[18:20] == b"\x01\x01"
    assert not copy.with_name("copy.db-wal").exists()
    copy.with_name("copy.db-shm").unlink()
    assert settings_of(copy)["journal_mode"] == "delete"


@pytest.mark.skipif(not ROOT, reason="only root can become another user")
def test_an_owner_that_may_not_be_set_is_named_with_the_one_it_has() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        path = Path(f"/tmp/qk-owner-{os.getpid()}.db")
        os.setresuid(65534, 65534, 65534)
        connection = apsw.Connection(str(path))
        connection.execute("CREATE TABLE t (v)")
        connection.close()
        result = put_back_settings(path, WantedSettings("wal", 1234, 1235, 0o640, "manifest"))
        path.unlink()
        os.write(writing, json.dumps([result.not_kept, result.kept]).encode())
        os._exit(0)
    os.close(writing)
    not_kept, kept = json.loads(os.read(reading, 65536))
    os.close(reading)
    os.waitpid(child, 0)
    assert len(not_kept) == 2
    assert not_kept[0].startswith("owner 1234 (Operation not permitted; it is 65534")
    assert not_kept[1].startswith("group 1235 (")
    assert "mode 0640" in kept
    assert "journal mode wal" in kept


def test_a_manifest_with_impossible_numbers_breaks_nothing(copy: Path) -> None:
    result = put_back_settings(copy, WantedSettings("off", 2**60, 2**60, 0o640, "manifest"))
    assert len(result.not_kept) == 2
    assert copy.stat().st_mode & 0o777 == 0o640


# --- into a live database


def test_another_page_size_keeps_the_header_and_says_what_differs(target: Target) -> None:
    owner = make_source(target.path)
    backup = Path(str(by_hand(target, "backup").figures["path"]))
    owner.close()
    target.path.unlink()
    live = apsw.Connection(str(target.path))
    live.execute(
        "PRAGMA page_size=4096; PRAGMA journal_mode=WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, v)"
    ).fetchall()
    run = by_hand(target, "restore", in_place=True, backup=str(backup))
    assert (run.outcome, run.figures["way"]) == ("done", "live"), run.message
    now = settings_of(target.path)
    live.close()
    assert (now["page_size"], now["journal_mode"]) == (4096, "wal")
    assert (now["auto_vacuum"], now["user_version"], now["application_id"]) == (2, -7, 4711)
    assert "page_size 8192 (the live file keeps 4096)" in str(run.figures["not_kept"])


def test_rowids_that_another_page_size_would_change_end_it_before_anything_changed(target: Target) -> None:
    owner = make_source(target.path)
    owner.execute("CREATE TABLE bare (v); INSERT INTO bare VALUES (1), (2), (3); DELETE FROM bare WHERE v = 2")
    backup = Path(str(by_hand(target, "backup").figures["path"]))
    owner.close()
    target.path.unlink()
    live = apsw.Connection(str(target.path))
    live.execute(
        "PRAGMA page_size=4096; PRAGMA journal_mode=WAL; CREATE TABLE mine (v); INSERT INTO mine VALUES (9)"
    ).fetchall()
    run = by_hand(target, "restore", in_place=True, backup=str(backup))
    assert (run.outcome, run.reason) == ("failed", "page_size")
    assert "bare" in run.message
    assert len(list(target.backup.directory.glob("*.db"))) == 1
    assert live.execute("SELECT v FROM mine").get == 9
    live.close()


# --- a copy whose header is another


@pytest.mark.parametrize("action", ["verify", "drill"])
@pytest.mark.parametrize("pragma", ["user_version", "application_id"])
def test_a_backup_with_another_header_field_than_recorded_is_not_proved(
    target: Target, make_queue: Callable[..., prismq.Queue], pragma: str, action: str
) -> None:
    import hashlib

    queue = make_queue("jobs.db")
    queue.put("queued", 3)
    target = replace(target, path=queue.path)
    backup = Path(str(by_hand(target, "backup").figures["path"]))
    connection = apsw.Connection(str(backup))
    connection.execute(f"PRAGMA {pragma}=99")
    connection.close()
    fields = json.loads(manifest_path(backup).read_text())
    manifest_path(backup).write_text(json.dumps({**fields, "sha256": hashlib.sha256(backup.read_bytes()).hexdigest()}))
    run = by_hand(target, action)
    assert run.outcome == "unverified", run.message
    assert f"{pragma} is 99 instead of 0" in run.message
