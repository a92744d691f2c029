"""Which files are watched, and under which names."""

import os
from pathlib import Path

from collectors.target import BackupSettings
from exporter.config.resolve import resolve_targets
from exporter.config.settings import Config, DatabaseSpec


def files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def named(root: Path, *specs: DatabaseSpec, state: str = "state") -> dict[str, str]:
    config = Config(source=root / "c.yaml", databases=specs, state=root / state)
    return {target.name: str(target.path.relative_to(root)) for target in resolve_targets(config)}


def test_a_glob_names_databases_by_their_stem(tmp_path: Path) -> None:
    files(tmp_path, "a.db", "b.sqlite3", "note.txt")
    assert named(tmp_path, DatabaseSpec(f"{tmp_path}/*.db"), DatabaseSpec(f"{tmp_path}/*.sqlite3")) == {
        "a": "a.db",
        "b": "b.sqlite3",
    }


def test_equal_stems_take_the_shortest_path_that_tells_them_apart(tmp_path: Path) -> None:
    files(tmp_path, "x/prod/queue.db", "y/test/queue.db", "z/other.db")
    assert named(tmp_path, DatabaseSpec(f"{tmp_path}/**/*.db")) == {
        "prod/queue": "x/prod/queue.db",
        "test/queue": "y/test/queue.db",
        "other": "z/other.db",
    }


def test_a_deeper_difference_takes_a_longer_path(tmp_path: Path) -> None:
    files(tmp_path, "x/app/queue.db", "y/app/queue.db", "z/mail/queue.db")
    assert named(tmp_path, DatabaseSpec(f"{tmp_path}/**/*.db")) == {
        "x/app/queue": "x/app/queue.db",
        "y/app/queue": "y/app/queue.db",
        "mail/queue": "z/mail/queue.db",
    }


def test_files_that_differ_only_in_their_ending_still_get_two_names(tmp_path: Path) -> None:
    files(tmp_path, "queue.db", "queue.sqlite")
    names = named(tmp_path, DatabaseSpec(f"{tmp_path}/queue.*"))
    assert sorted(names.values()) == ["queue.db", "queue.sqlite"]


def test_a_configured_name_stays_and_the_glob_gives_way(tmp_path: Path) -> None:
    files(tmp_path, "x/jobs.db", "y/jobs.db")
    names = named(tmp_path, DatabaseSpec(f"{tmp_path}/*/*.db"), DatabaseSpec(f"{tmp_path}/x/jobs.db", name="jobs"))
    assert names == {"jobs": "x/jobs.db", "y/jobs": "y/jobs.db"}


def test_a_configured_path_is_watched_while_it_is_missing_and_a_vanished_match_is_not(tmp_path: Path) -> None:
    assert named(tmp_path, DatabaseSpec(f"{tmp_path}/gone.db"), DatabaseSpec(f"{tmp_path}/q/*.db")) == {
        "gone": "gone.db"
    }


def test_our_own_files_and_what_sqlite_keeps_beside_never_match(tmp_path: Path) -> None:
    files(
        tmp_path,
        "queue.db",
        "queue.db-wal",
        "queue.db-shm",
        "queue.db-journal",
        "queue_backup_queue_20260101T000000Z.db",
        "queue_backup_queue_20260101T000000Z.db.zst",
        "queue_backup_queue_20260101T000000Z.manifest.json",
        "x.db.partial",
        "state/history.db",
        "backups/queue/copy.db",
    )
    os.mkfifo(tmp_path / "pipe.db")
    (tmp_path / "folder.db").mkdir()
    spec = DatabaseSpec(f"{tmp_path}/**/*", backup=BackupSettings(tmp_path / "backups"))
    assert named(tmp_path, spec) == {"queue": "queue.db"}


def test_a_link_resolves_to_the_file_that_has_the_write_ahead_log(tmp_path: Path) -> None:
    files(tmp_path, "data/real.db")
    (tmp_path / "link.db").symlink_to(tmp_path / "data" / "real.db")
    assert named(tmp_path, DatabaseSpec(f"{tmp_path}/link.db", name="jobs")) == {"jobs": "data/real.db"}
    assert named(tmp_path, DatabaseSpec(f"{tmp_path}/*.db")) == {"real": "data/real.db"}


def test_one_file_is_watched_once(tmp_path: Path) -> None:
    files(tmp_path, "a.db")
    names = named(
        tmp_path, DatabaseSpec(f"{tmp_path}/*.db"), DatabaseSpec(f"{tmp_path}/a*"), DatabaseSpec(f"{tmp_path}/a.db")
    )
    assert names == {"a": "a.db"}
