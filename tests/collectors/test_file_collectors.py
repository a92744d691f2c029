"""What is read without a connection: manifests and backups, disks, the owner's version."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from collectors import backups, disk, owner
from collectors.access.context import PollContext
from collectors.backup_catalog.local_directory import manifest_path, read_manifest
from collectors.backup_catalog.manifest import (
    BackupSource,
    Manifest,
    ManifestError,
    belongs_to,
    decode_manifest,
    encode_manifest,
)
from collectors.metric import Sample, Since
from collectors.raw_reader.client import RawReader
from collectors.target import BackupSettings, Target

NOW = 1_764_000_000.0


def _target(tmp_path: Path, **changes: Any) -> Target:
    path = tmp_path / "app" / "queue.db"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return Target("jobs", path, backup=BackupSettings(tmp_path / "backups"), **changes)


def _manifest(target: Target, snapshot: float = NOW, size: int = 4) -> Manifest:
    status = target.path.stat()
    return Manifest(
        source=BackupSource(str(target.path), status.st_dev, status.st_ino, target.name),
        snapshot_time=snapshot,
        finished_time=snapshot + 3,
        kind="manual",
        bytes=size,
        page_size=4096,
        pages=7,
        schema_sha256="0" * 64,
        row_counts={"task_queue": 12},
        sha256="a" * 64,
        compression="none",
        sqlite_version="3.54.1",
        queuekeeper_version="0.1.0",
        verified_time=snapshot + 4,
    )


def _add(target: Target, name: str, manifest: Manifest | str | None, content: bytes = b"copy") -> Path:
    assert target.backup is not None
    folder = target.backup.directory / target.name
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"queue_backup_{name}.db"
    file.write_bytes(content)
    if manifest is not None:
        manifest_path(file).write_text(manifest if isinstance(manifest, str) else encode_manifest(manifest))
    return file


def _look(target: Target) -> PollContext:
    return PollContext(target, NOW, RawReader())  # the raw reader starts no child unless it is asked


def _read(target: Target, previous: backups.BackupsReading | None = None) -> backups.BackupsReading:
    return backups.read(_look(target), previous)


def _values(samples: Iterable[Sample]) -> dict[tuple[str, ...], float | Since]:
    return {(sample.metric.name, *sample.labels): sample.value for sample in samples}


# --- manifest ---


def test_a_manifest_survives_its_file(tmp_path: Path) -> None:
    manifest = _manifest(_target(tmp_path))
    path = tmp_path / "x.manifest.json"
    path.write_text(encode_manifest(manifest))
    assert read_manifest(path) == manifest
    assert decode_manifest(encode_manifest(replace(manifest, verified_time=None))).verified_time is None


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('"format": 1', '"format": 2', "format: "),
        ('"pages": 7', '"pages": -7', "pages: "),
        ('"pages": 7', '"pages": "7"', "pages: "),
        ('"kind": "manual"', '"kind": "odd"', "kind: "),
        ("a" * 64, "A" * 64, "sha256: "),
        ('"device"', '"divice"', "source.device: "),
        ("{", "", "Invalid JSON"),
    ],
)
def test_a_damaged_manifest_is_refused_with_its_place(tmp_path: Path, old: str, new: str, place: str) -> None:
    text = encode_manifest(_manifest(_target(tmp_path)))
    assert old in text
    with pytest.raises(ManifestError, match=place):
        decode_manifest(text.replace(old, new, 1))


def test_fields_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    manifest = _manifest(_target(tmp_path))
    assert decode_manifest(encode_manifest(manifest).replace("{", '{"later": 1,', 1)) == manifest


def test_a_manifest_lies_beside_its_backup() -> None:
    for name in ("queue_backup_a.b.db", "queue_backup_a.b.db.zst"):
        assert manifest_path(Path("/b") / name) == Path("/b/queue_backup_a.b.manifest.json")


def test_identity_survives_a_new_name_or_a_new_file_but_not_both(tmp_path: Path) -> None:
    target = _target(tmp_path)
    manifest = _manifest(target)
    assert belongs_to(manifest, target)
    assert belongs_to(manifest, replace(target, name="queue"))
    shutil.copy(target.path, tmp_path / "new")
    (tmp_path / "new").replace(target.path)
    assert belongs_to(manifest, target)
    assert not belongs_to(manifest, replace(target, name="queue"))
    target.path.unlink()
    assert belongs_to(manifest, target)
    assert not belongs_to(replace(manifest, source=replace(manifest.source, path="/other.db")), target)


# --- backups ---


def test_backups_are_judged_by_their_manifest(tmp_path: Path) -> None:
    target = _target(tmp_path)
    _add(target, "old", _manifest(target, NOW - 500))
    _add(target, "new", _manifest(target, NOW - 100))
    _add(target, "bare", None, b"123456")
    _add(target, "never", replace(_manifest(target, NOW - 5), verified_time=None))
    _add(target, "foreign", replace(_manifest(target, NOW - 4), source=BackupSource("/elsewhere.db", 1, 2, "jobs")))
    _add(target, "short", _manifest(target, NOW - 3, size=5))
    _add(target, "garbled", "{")
    values = _values(backups.samples(_read(target)))
    assert {state: values["sqlite_backups", state] for state in backups.BACKUP_STATES} == {
        "verified": 2,
        "unverified": 3,
        "failed": 2,
    }
    assert values["sqlite_backups_size_bytes", "unverified"] == 6 + 4 + 4
    assert values[("sqlite_backup_last_success_timestamp_seconds",)] == NOW - 100
    assert values[("sqlite_backup_age_seconds",)] == Since(NOW - 100)
    assert values[("sqlite_backup_last_verified_timestamp_seconds",)] == NOW - 96
    assert values[("sqlite_backup_last_size_bytes",)] == 4
    assert values[("sqlite_backup_last_duration_seconds",)] == 3


def test_a_backup_from_before_a_failed_one_still_counts_its_own_age(tmp_path: Path) -> None:
    target = _target(tmp_path)
    _add(target, "good", _manifest(target, NOW - 900))
    _add(target, "bad", _manifest(target, NOW - 10, size=99))
    assert _values(backups.samples(_read(target)))[("sqlite_backup_age_seconds",)] == Since(NOW - 900)


def test_no_verified_backup_is_no_time_but_zero_backups(tmp_path: Path) -> None:
    target = _target(tmp_path)
    names = {name for name, *_ in _values(backups.samples(_read(target)))}
    assert names == {"sqlite_backups", "sqlite_backups_size_bytes"}
    assert list(backups.samples(_read(replace(target, backup=None)))) == []


def test_partial_files_and_strangers_are_no_backups(tmp_path: Path) -> None:
    target = _target(tmp_path)
    file = _add(target, "a", _manifest(target))
    for name in (".queue_backup_b.db.partial-77", "notes.txt", "a.db-wal", "a.sqlite-journal", "a.sqlite3-shm"):
        (file.parent / name).write_bytes(b"x")
    (file.parent / "folder.db").mkdir()
    assert list(_read(target).listing.backups) == [str(file)]


def test_an_unchanged_manifest_is_not_read_again_and_a_changed_one_is(tmp_path: Path) -> None:
    target = _target(tmp_path)
    file = _add(target, "a", replace(_manifest(target), verified_time=None))
    first = _read(target)
    again = _read(target, first)
    assert again.listing.backups[str(file)] is first.listing.backups[str(file)]
    manifest_path(file).write_text(encode_manifest(_manifest(target)))
    assert _read(target, again).listing.backups[str(file)].state == "verified"
    file.unlink()
    assert _read(target, again).listing.backups == {}


def test_copies_of_another_tool_are_listed_unverified(tmp_path: Path) -> None:
    target = _target(tmp_path)
    assert target.backup is not None
    own = target.backup.directory / target.name
    own.mkdir(parents=True)
    for path in (own / "nightly.sqlite3", own / "old.db"):
        path.write_bytes(b"copy")
    names = ("jobs-2026-11-23.db", "2026_queue.sqlite", "queue.db", "queue2.db", "unqueued.db", "mail.db", "jobs.txt")
    for name in names:
        (target.backup.directory / name).write_bytes(b"copy")
    listed = _read(target).listing.backups
    assert {backup.name for backup in listed.values()} == {
        "nightly.sqlite3",
        "old.db",
        "jobs-2026-11-23.db",
        "2026_queue.sqlite",
        "queue.db",
    }
    assert {backup.state for backup in listed.values()} == {"unverified"}
    counts = _values(backups.samples(_read(target)))
    assert counts["sqlite_backups", "unverified"] == 5
    assert "sqlite_backup_age_seconds" not in {name for name, *_ in counts}


def test_the_database_itself_is_no_backup_of_itself(tmp_path: Path) -> None:
    target = _target(tmp_path)
    beside = replace(target, backup=BackupSettings(target.path.parent, own_folder=False))
    target.path.with_name("queue-copy.db").write_bytes(b"copy")
    target.path.with_name("queue-link.db").symlink_to(target.path)
    assert [backup.name for backup in _read(beside).listing.backups.values()] == ["queue-copy.db"]


def test_a_folder_that_did_not_change_is_not_listed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = _target(tmp_path)
    file = _add(target, "a", _manifest(target))
    for folder in (file.parent, file.parent.parent):
        os.utime(folder, (NOW - 60, NOW - 60))
    listed: list[Path] = []
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: listed.append(self) or iterdir(self))
    first = _read(target)
    again = _read(target, first)
    assert len(listed) == 2
    assert again.listing.backups == first.listing.backups
    file.write_bytes(b"another length")
    assert _read(target, again).listing.backups[str(file)].state == "failed"
    assert len(listed) == 2
    _add(target, "b", _manifest(target))
    os.utime(file.parent, (NOW - 30, NOW - 30))
    assert len(_read(target, again).listing.backups) == 2
    assert len(listed) == 3


def test_a_folder_that_changed_a_moment_ago_is_not_trusted(tmp_path: Path) -> None:
    target = _target(tmp_path)
    file = _add(target, "a", _manifest(target))
    stamp = (NOW - 1, NOW - 1)
    os.utime(file.parent, stamp)
    first = _read(target)
    _add(target, "b", _manifest(target))
    os.utime(file.parent, stamp)  # within one tick of the file system's clock
    assert len(_read(target, first).listing.backups) == 2


# --- disk ---


def test_every_role_has_its_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLITE_TMPDIR", "/dev/shm")
    target = _target(tmp_path, state=tmp_path / "not" / "made" / "yet")
    spaces = {room.role: room for room in disk.read(_look(target), None).file_systems}
    assert list(spaces) == ["database", "backups", "temp", "state"]
    here, shm = os.statvfs(tmp_path), os.statvfs("/dev/shm")
    assert {spaces[role].size for role in ("database", "backups", "state")} == {here.f_blocks * here.f_frsize}
    assert spaces["temp"].size == shm.f_blocks * shm.f_frsize
    assert 0 < spaces["database"].free <= spaces["database"].size
    assert not (tmp_path / "not").exists()


def test_roles_that_the_target_does_not_have_are_left_out(tmp_path: Path) -> None:
    target = replace(_target(tmp_path), backup=None)
    assert {sample.labels[0] for sample in disk.samples(disk.read(_look(target), None))} == {"database", "temp"}


def test_temporary_files_go_where_sqlite_puts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path / "a"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "b"))
    assert disk.temporary_directory() == tmp_path / "a"
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path / "missing"))
    assert disk.temporary_directory() == tmp_path / "b"
    monkeypatch.delenv("TMPDIR")
    assert disk.temporary_directory() == Path("/var/tmp")


# --- owner ---


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (None, True), ("", True), ("latest", True), ("3.40.1", True), ("3.51.2", True), ("3.51.3", False),
        ("3.52.0", True), ("3.52.1", False), ("3.53.0", False), ("3.54.1", False), ("4.0.0", False),
        ("3.50.6", True), ("3.50.7", False), ("3.44.5", True), ("3.44.6", False), ("3.45.9", True), ("3.51", True),
        (" 3.51.3 ", False), ("3.51.3.1", False), ("3.6.0", True), ("3.51.3-debian", True),
    ],
)  # fmt: skip
def test_only_proved_versions_are_safe(version: str | None, expected: bool) -> None:
    assert owner.is_vulnerable_version(version) is expected
