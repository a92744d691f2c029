"""A folder of backups on a new host: restored to a new path without a configuration; whose copy it is is said."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from collectors.backup_catalog.local_directory import manifest_path
from collectors.backup_catalog.names import backup_file_name, compressed_name, is_own_name, manifest_name
from collectors.backup_catalog.partial_names import LONGEST_SQLITE_PATH, partial_name, shorten_name
from collectors.target import BackupSettings, Limits, Target
from tests.support.scenes import prismq
from tests.support.scenes.forked_process import run_forked
from tests.support.scenes.run_actions import by_hand, planned, target_of
from tests.support.scenes.small_disk import small_disk

PATIENCE = 120.0


class NewHost:
    """The backups of an old host in `folder`, whose databases are gone; `run` types a command."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "old-backups"
        self.place = tmp_path / "new"
        self.state = tmp_path / "state"
        self.place.mkdir()

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        command = [*map(str, words), "--state", str(self.state)]
        return run_forked("exporter.commands", *command, timeout=PATIENCE)

    def restore(self, *words: object) -> subprocess.CompletedProcess[str]:
        return self.run("restore", *words, "--from", self.folder)


@pytest.fixture
def host(tmp_path: Path) -> NewHost:
    return NewHost(tmp_path)


@pytest.fixture
def back_up(make_queue: Callable[..., prismq.Queue], host: NewHost) -> Callable[..., Path]:
    """Backs up a queue of the old host, whose file is then gone: back_up(name, rows, folder) -> the backup."""

    def take(name: str, rows: int, folder: Path | None = None, **settings: Any) -> Path:
        queue = make_queue(name)
        queue.put("queued", rows)
        place = BackupSettings(folder or host.folder, own_folder=False, **settings)
        run = by_hand(target_of(queue.path, backup=place, limits=Limits(disk_reserve=0)), "backup")
        assert run.outcome == "done", run.message
        queue.owner.close()
        queue.path.unlink()
        return Path(str(run.figures["path"]))

    return take


def rows(path: Path) -> int:
    owner = prismq.apsw.Connection(str(path))
    count = int(owner.execute("SELECT count(*) FROM task_queue").get)
    assert owner.pragma("journal_mode") == "wal"
    owner.close()
    return count


def test_without_a_database_the_newest_verified_of_the_only_one_is_taken(
    host: NewHost, back_up: Callable[..., Path], tmp_path: Path
) -> None:
    back_up("jobs.db", 3)
    newest = back_up("jobs.db", 4)
    done = host.restore("--to", host.place / "fresh.db")
    assert done.returncode == 0, done.stderr
    assert f"a backup of {tmp_path / 'jobs.db'}" in done.stdout
    assert newest.name in done.stdout
    assert rows(host.place / "fresh.db") == 4


def test_backups_that_came_without_their_manifests_are_told_how_to_come(
    host: NewHost, back_up: Callable[..., Path]
) -> None:
    manifest_path(back_up("jobs.db", 3)).unlink()
    done = host.restore("--to", host.place / "fresh.db")
    assert done.returncode == 3
    assert "has no verified backup of any database" in done.stderr
    assert "needs its .manifest.json beside it" in done.stderr


def test_in_json_the_source_is_a_figure(host: NewHost, back_up: Callable[..., Path], tmp_path: Path) -> None:
    back_up("jobs.db", 3)
    done = host.restore("--to", host.place / "fresh.db", "--json")
    assert json.loads(done.stdout)["figures"]["source"] == str(tmp_path / "jobs.db")


@pytest.mark.parametrize("db", ["jobs.db", "{old}/jobs.db", "/nowhere/at/all/jobs.db", "jobs"])
def test_a_database_that_is_not_here_may_be_named_as_it_was(
    host: NewHost, back_up: Callable[..., Path], tmp_path: Path, db: str
) -> None:
    back_up("jobs.db", 3)
    back_up("mail.db", 5)
    done = host.restore(db.format(old=tmp_path), "--to", host.place / "fresh.db")
    assert done.returncode == 0, done.stderr
    assert rows(host.place / "fresh.db") == 3


def test_of_several_it_asks_which_and_names_them(host: NewHost, back_up: Callable[..., Path], tmp_path: Path) -> None:
    back_up("jobs.db", 3)
    mail = back_up("mail.db", 5)
    refused = host.restore("--to", host.place / "jobs.db")
    assert refused.returncode == 3
    assert f"verified backups of 2 databases; there are: {tmp_path}/jobs.db, {tmp_path}/mail.db" in refused.stderr
    assert "--source PATH" in refused.stderr
    assert list(host.place.iterdir()) == []
    assert host.restore("--source", "mail", "--to", host.place / "mail.db").returncode == 0
    assert rows(host.place / "mail.db") == 5
    assert host.run("restore", mail, "--to", host.place / "again.db").returncode == 0
    assert rows(host.place / "again.db") == 5
    unknown = host.restore("--source", "other", "--to", host.place / "other.db")
    assert (unknown.returncode, "has no verified backup of other" in unknown.stderr) == (3, True)


def test_a_folder_with_a_folder_for_each_database_is_read_too(host: NewHost, back_up: Callable[..., Path]) -> None:
    back_up("jobs.db", 3, host.folder / "jobs")
    assert host.restore("--to", host.place / "fresh.db").returncode == 0
    assert rows(host.place / "fresh.db") == 3


def test_what_is_unverified_damaged_or_a_safety_copy_is_not_taken(host: NewHost, back_up: Callable[..., Path]) -> None:
    good, unproved, shorter, safety = (back_up("jobs.db", number) for number in (3, 4, 5, 6))
    for path, change in ((unproved, {"verified_time": None}), (safety, {"kind": "safety"})):
        manifest_path(path).write_text(json.dumps({**json.loads(manifest_path(path).read_text()), **change}))
    shorter.write_bytes(shorter.read_bytes()[:-1])
    done = host.restore("--to", host.place / "fresh.db")
    assert done.returncode == 0, done.stderr
    assert good.name in done.stdout
    assert rows(host.place / "fresh.db") == 3


def test_in_the_place_of_a_missing_database_only_a_named_backup_of_another_is_put(
    host: NewHost, back_up: Callable[..., Path], tmp_path: Path
) -> None:
    backup = back_up("jobs.db", 3)
    refused = host.restore(host.place / "app.db", "--in-place")
    assert refused.returncode == 3
    assert f"the newest there is of {tmp_path / 'jobs.db'}" in refused.stderr
    assert f"queuekeeper restore {host.place / 'app.db'} {backup} --in-place" in refused.stderr
    done = host.run("restore", host.place / "app.db", backup, "--in-place")
    assert done.returncode == 0, done.stderr
    assert f"a backup of {tmp_path / 'jobs.db'}" in done.stdout
    assert rows(host.place / "app.db") == 3


def test_another_databases_backup_never_replaces_one_that_is_here(
    host: NewHost, back_up: Callable[..., Path], make_queue: Callable[..., prismq.Queue]
) -> None:
    backup = back_up("jobs.db", 3)
    here = make_queue("here.db")
    here.put("queued", 9)
    for words in ((here.path, backup, "--in-place", "--yes"), (here.path, "--in-place", "--yes")):
        refused = host.restore(*words)
        assert refused.returncode in (3, 5), refused.stdout
        assert "next: " in refused.stderr
    assert here.value("SELECT count(*) FROM task_queue") == 9


def test_without_anything_it_says_what_to_give(host: NewHost) -> None:
    host.folder.mkdir()
    usage = host.run("restore", "--to", host.place / "x.db")
    assert (usage.returncode, "--from DIR" in usage.stderr) == (2, True)
    empty = host.restore("--to", host.place / "x.db")
    assert (empty.returncode, "no verified backup" in empty.stderr) == (3, True)


@contextmanager
def read_only_mount(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    yield


@pytest.mark.parametrize("compress", ["none", "zstd"])
def test_from_a_medium_that_is_mounted_read_only(
    host: NewHost, back_up: Callable[..., Path], tmp_path: Path, compress: str
) -> None:
    with small_disk(tmp_path / "medium", 16) as medium:
        back_up("jobs.db", 3, medium, compress=compress)
        with read_only_mount(medium):
            done = host.run("restore", "--from", medium, "--to", host.place / "fresh.db")
            assert done.returncode == 0, done.stderr
    assert rows(host.place / "fresh.db") == 3


def test_a_person_who_does_not_own_the_folder_of_the_new_path(
    host: NewHost, back_up: Callable[..., Path], tmp_path: Path
) -> None:
    """A world-writable folder of root's, as /tmp is."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    back_up("jobs.db", 3)
    os.chown(host.place, 1234, 1234)
    done = host.restore("--to", host.place / "fresh.db")
    assert done.returncode == 0, done.stderr


# --- names


@pytest.mark.parametrize("length", [143, 200, 244])
def test_a_database_with_a_long_name_is_backed_up_and_restored(
    make_queue: Callable[..., prismq.Queue], tmp_path: Path, length: int
) -> None:
    queue = make_queue("q" * (length - 3) + ".db")
    queue.put("queued", 3)
    target = target_of(queue.path, backup=BackupSettings(tmp_path / "b"), limits=Limits(disk_reserve=0))
    run = by_hand(target, "backup", name="n" * 64)
    assert run.outcome == "done", run.message
    queue.owner.close()
    queue.path.write_bytes(b"\0" * 5000)
    run = by_hand(target, "restore", in_place=True)
    assert run.outcome == "done", run.message
    assert rows(queue.path) == 3
    assert by_hand(target, "verify").outcome == "done"


def test_a_new_path_that_sqlite_cannot_keep_is_refused_in_words(host: NewHost, back_up: Callable[..., Path]) -> None:
    back_up("jobs.db", 3)
    deep = host.place
    while len(str(deep)) < LONGEST_SQLITE_PATH:
        deep = deep / ("d" * 100)
    deep.mkdir(parents=True)
    for path in (host.place / ("x" * 250), deep / "x.db"):
        refused = host.restore("--to", path)
        assert (refused.returncode, "shorter path" in refused.stderr) == (3, True), refused.stderr
    nowhere = host.restore("--to", host.place / "no" / "such" / "x.db")
    assert nowhere.returncode == 2, nowhere.stderr
    assert "mkdir -p" in nowhere.stderr


def test_names_are_shortened_only_where_they_must_and_stay_distinct(tmp_path: Path) -> None:
    assert shorten_name("queue.db", 40) == "queue.db"
    one, other = shorten_name("a" * 200 + "1", 60), shorten_name("a" * 200 + "2", 60)
    assert (len(one), one != other) == (60, True)
    assert len(os.fsencode(shorten_name("ü" * 100, 41))) <= 41
    name = partial_name(tmp_path, "x" * 255, "123:456")
    assert len(os.fsencode(name)) + len("-journal") <= 255


def test_a_folder_that_is_too_deep_for_sqlite_is_refused_in_words(
    make_queue: Callable[..., prismq.Queue], tmp_path: Path
) -> None:
    folder = tmp_path
    while len(str(folder)) < LONGEST_SQLITE_PATH - 100:
        folder = folder / ("d" * 60)
    queue = make_queue()
    run = by_hand(target_of(queue.path, backup=BackupSettings(folder, own_folder=False)), "backup")
    assert (run.outcome, run.reason) == ("refused", "name_too_long"), run.message
    assert not list(folder.iterdir())


@pytest.mark.parametrize("limit", [143, 255])
def test_the_longest_names_of_a_backup_fit_the_file_system(limit: int) -> None:
    name = backup_file_name("q" * 251, "n" * 64, 1.5, limit)
    assert is_own_name(name)
    assert max(map(len, (name, compressed_name(name), manifest_name(name)))) <= limit
    assert name != backup_file_name("q" * 250 + "r", "n" * 64, 1.5, limit)


# --- what other hosts left


@pytest.fixture
def leftover(
    host: NewHost, back_up: Callable[..., Path], make_queue: Callable[..., prismq.Queue]
) -> tuple[Target, Path]:
    back_up("jobs.db", 3)
    queue = make_queue("jobs.db")
    queue.put("queued", 3)
    path = host.folder / ".queue_backup_jobs_20260101T000000_000000Z.db.partial-4f1c0ffee@77:123"
    path.write_bytes(b"x" * 5000)
    target = target_of(queue.path, backup=BackupSettings(host.folder, own_folder=False))
    return replace(target, state=host.state), path


def test_what_another_host_left_is_told_and_removed_by_word(host: NewHost, leftover: tuple[Target, Path]) -> None:
    target, path = leftover
    listed = host.run("backups", "list", target.path, "--from", host.folder)
    assert "left by host 4f1c0ffee, 4.9 KiB" in listed.stderr.replace("5.0 kB", "4.9 KiB"), listed.stderr
    assert "--remove-partials" in listed.stderr
    run = by_hand(target, "prune")
    assert run.outcome == "nothing_to_do"
    assert "1 partial files of other hosts (4f1c0ffee) take 5000 bytes" in run.message
    assert path.exists()
    assert str(path) in planned(target, "prune", {"remove_partials": True}).message
    run = by_hand(target, "prune", remove_partials=True)
    assert (run.outcome, run.figures["deleted"], run.figures["freed_bytes"]) == ("done", 0, 5000), run.message
    assert not path.exists()
    assert by_hand(target, "verify").outcome == "done"


def test_what_a_restore_of_another_host_left_beside_the_database_too(
    host: NewHost, leftover: tuple[Target, Path]
) -> None:
    target, _ = leftover
    path = target.path.with_name(f".{target.path.name}.partial-other@7:1-journal")
    path.write_bytes(b"x")
    stranger = target.path.with_name(".else.db.partial-other@7:1")
    stranger.write_bytes(b"x")
    assert by_hand(target, "prune", remove_partials=True).outcome == "done"
    assert (path.exists(), stranger.exists()) == (False, True)


def test_a_killed_run_of_this_host_is_removed_without_asking(host: NewHost, leftover: tuple[Target, Path]) -> None:
    target, _ = leftover
    own = host.folder / f".queue_backup_x.db.partial-{os.uname().nodename}@999999999:1"
    own.write_bytes(b"x")
    shutil.copy(own, f"{own}-journal")
    assert by_hand(target, "backup").outcome == "done"
    assert (own.exists(), Path(f"{own}-journal").exists()) == (False, False)
