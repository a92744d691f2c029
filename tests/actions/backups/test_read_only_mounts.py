"""Backups of a WAL database of a killed owner, on a read-only mount: what is committed is in the copy, or it is refused."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from actions.store.runs import Run
from collectors.access.connection import open_immutable
from collectors.backup_catalog.local_directory import manifest_path, read_manifest
from collectors.target import BackupSettings, Limits, Target
from tests.support.scenes import prismq
from tests.support.scenes.killed_owner import commit_and_die, read_only_folder, read_only_view
from tests.support.scenes.run_actions import by_hand

ROWS = 3000


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """A database that is whole in its file; its folder holds nothing else."""
    folder = tmp_path / "application"
    folder.mkdir()
    connection = apsw.Connection(str(folder / "q.db"))
    connection.execute("PRAGMA journal_mode=WAL").fetchall()
    connection.execute(
        "CREATE TABLE task (id INTEGER PRIMARY KEY, state TEXT, pad BLOB); CREATE TABLE other (id INTEGER PRIMARY KEY);"
        f"WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {ROWS})"
        "INSERT INTO task SELECT i, 'queued', randomblob(300) FROM s; INSERT INTO other VALUES (1)"
    ).fetchall()
    connection.close()
    place = BackupSettings(tmp_path / "b", own_folder=False)
    return Target(name="q", path=folder / "q.db", state=tmp_path / "state", backup=place, limits=Limits(disk_reserve=0))


def copied_value(run: Run, sql: str) -> object:
    assert run.outcome == "done", run.message
    with open_immutable(Path(str(run.figures["path"]))) as copy:
        return copy.execute(sql).get


COMMITS = {
    "every row updated": ("UPDATE task SET state = 'done'", "SELECT count(*) FROM task WHERE state = 'done'", ROWS),
    "one inserted, one deleted": (
        "BEGIN; DELETE FROM task WHERE id = 7; INSERT INTO task VALUES (90000, 'new', x''); COMMIT",
        "SELECT count(*) FROM task WHERE id = 90000 AND NOT EXISTS (SELECT 1 FROM task WHERE id = 7)",
        1,
    ),
    "one of several transactions": (
        "UPDATE other SET id = 5; UPDATE other SET id = 6; UPDATE task SET state = 'x' WHERE id = 1",
        "SELECT other.id FROM other, task WHERE task.id = 1 AND state = 'x'",
        6,
    ),
}


@pytest.mark.parametrize("commits", COMMITS)
def test_what_a_killed_application_committed_is_in_the_copy(target: Target, commits: str) -> None:
    sql, question, answer = COMMITS[commits]
    commit_and_die(target.path, sql)
    with read_only_folder(target.path.parent):
        run = by_hand(target, "backup")
        assert copied_value(run, question) == answer
        assert (run.figures["method"], "-shm cannot be written here" in str(run.figures["note"])) == ("pages", True)
        assert by_hand(target, "drill").outcome == "done"


def test_beside_a_living_writer_a_read_only_view_gives_one_commit_point(target: Target, tmp_path: Path) -> None:
    """As of a backup host or a side-car container: the writer's folder is mounted read-only at another place."""
    with apsw.Connection(str(target.path)) as connection:
        connection.execute(
            "CREATE TABLE meta (n INT); INSERT INTO meta VALUES (0); CREATE TABLE log (k INTEGER PRIMARY KEY, item INT);"
            "CREATE TABLE item (id INTEGER PRIMARY KEY, v INT); INSERT INTO item SELECT id, 0 FROM task"
        )
    connection.close()
    view = tmp_path / "view"
    with prismq.process("two_tables_writer.py", target.path, "2"), read_only_view(target.path.parent, view):
        for full in (False, True):
            run = by_hand(replace(target, path=view / "q.db"), "backup", full=full)
            counts = "SELECT n = (SELECT count(*) FROM log) AND n = (SELECT coalesce(max(k), 0) FROM log) FROM meta"
            assert copied_value(run, counts) == 1
            assert run.figures["method"] == "pages"


def zero_wal_index(target: Target) -> None:
    target.shm.write_bytes(bytes(target.shm.stat().st_size))


def claim_all_copied(target: Target) -> None:
    """The -shm of a moment when the file was whole, as a backup tool leaves it beside a newer -wal."""
    older = target.shm.read_bytes()
    connection = apsw.Connection(str(target.path))
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    stale = target.shm.read_bytes()
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.close()
    assert stale != older
    commit_and_die(target.path, "UPDATE task SET state = 'last'")
    target.shm.write_bytes(stale)


@pytest.mark.parametrize("damage", [zero_wal_index, claim_all_copied])
def test_a_wal_index_that_lies_does_not_reach_the_copy(target: Target, damage: Callable[[Target], None]) -> None:
    commit_and_die(target.path, "UPDATE task SET state = 'last'")
    damage(target)
    with read_only_folder(target.path.parent):
        run = by_hand(target, "backup")
    assert copied_value(run, "SELECT count(*) FROM task WHERE state = 'last'") == ROWS


def test_commits_that_cannot_be_read_without_a_wal_index_are_refused_with_a_cure_that_works(
    target: Target, tmp_path: Path
) -> None:
    commit_and_die(target.path, "UPDATE task SET state = 'last'")
    target.shm.unlink()
    with read_only_folder(target.path.parent):
        run = by_hand(target, "backup")
    assert (run.outcome, run.reason) == ("refused", "wal_unreadable")
    assert "copy the database and its -wal to another folder" in run.next_step
    assert list(target.backup.directory.glob("*")) == []
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(target.path.parent, elsewhere)
    run = by_hand(replace(target, path=elsewhere / "q.db"), "backup")
    assert copied_value(run, "SELECT count(*) FROM task WHERE state = 'last'") == ROWS


def test_every_page_was_compared_through_sqlite_where_it_reads_by_an_index_of_its_own(target: Target) -> None:
    commit_and_die(target.path, "UPDATE other SET id = 5")
    with read_only_folder(target.path.parent):
        run = by_hand(target, "backup", full=True)
    assert run.figures["proof"] == "content"
    assert "with what SQLite reads in the pinned transaction" in run.message
    manifest = read_manifest(manifest_path(Path(str(run.figures["path"]))))
    assert manifest.proof == "content"
    assert manifest.content_sha256 is not None


@pytest.mark.parametrize(
    ("alone", "missing", "copy_it"), [("-wal", "-shm", "and its -wal to"), ("-shm", "-wal", "alone to another")]
)
def test_one_of_wal_and_index_without_the_other_is_refused_with_the_cause(
    target: Target, alone: str, missing: str, copy_it: str
) -> None:
    """The database is at rest, and neither of them holds anything."""
    target.path.with_name(target.path.name + alone).touch()
    with read_only_folder(target.path.parent):
        run = by_hand(target, "backup")
    assert (run.outcome, run.reason) == ("refused", "wal_unreadable")
    assert f"cannot make the {missing} here" in run.message
    assert copy_it in run.next_step
