"""The action: what it writes and what it never touches, what it refuses, kill -9 and a full disk in each phase."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import apsw
import pytest

from actions.model.request import Request
from actions.runner.manual import remote_actions
from actions.runner.protocol import Job
from actions.runner.spawn import RunningAction
from actions.salvaging.private_copy import copy_damaged_files
from actions.salvaging.prove_result import ResultProof, prove_result
from actions.store.database import state_store
from actions.store.runs import enqueue_and_claim
from collectors.target import BackupSettings, Limits, Target
from tests.support.scenes import prismq
from tests.support.scenes.run_actions import by_hand, by_rule, planned, target_of
from tests.support.scenes.small_disk import fill, small_disk

ROWS = 4000
PHASES = ("copy", "salvage", "verify")


@pytest.fixture
def damaged(tmp_path: Path) -> Target:
    return make_damaged(tmp_path)


def make_damaged(folder: Path) -> Target:
    """A queue of 4,000 tasks, three pages of which are zeros, with an index that is whole."""
    path = folder / "queue.db"
    owner = apsw.Connection(str(path))
    owner.execute("CREATE TABLE tasks (id INTEGER PRIMARY KEY AUTOINCREMENT, state TEXT, body TEXT)")
    owner.execute("CREATE INDEX by_state ON tasks (state)")
    with owner:
        owner.executemany("INSERT INTO tasks (state, body) VALUES ('queued', ?)", (("b" * 100,) for _ in range(ROWS)))
    pages = owner.execute("SELECT pageno FROM dbstat WHERE name = 'tasks' AND pagetype = 'leaf'").fetchall()
    owner.close()
    content = bytearray(path.read_bytes())
    for (page,) in pages[10:13]:
        content[(page - 1) * 4096 : page * 4096] = bytes(4096)
    path.write_bytes(content)
    return target_of(path, limits=Limits(disk_reserve=0))


def source_state(target: Target) -> dict[str, object]:
    """Bytes and times of everything that is the source's."""
    folder = target.path.parent
    files = sorted(file for file in folder.iterdir() if file.name.startswith(target.path.name))
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def count(path: Path) -> int:
    with apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY) as database:
        rows = int(database.execute("SELECT count(*) FROM tasks").get)
    database.close()
    return rows


def test_what_is_readable_is_in_one_private_file_and_the_source_is_untouched(damaged: Target, tmp_path: Path) -> None:
    before, new = source_state(damaged), tmp_path / "out" / "new.db"
    new.parent.mkdir()
    run = by_hand(damaged, "salvage", to=str(new))
    assert run.outcome == "done", run.message
    assert source_state(damaged) == before
    assert os.listdir(new.parent) == ["new.db"]
    assert new.stat().st_mode & 0o777 == 0o600
    kept = count(new)
    assert 0 < kept < ROWS
    figures = run.figures
    assert (figures["rows_kept"], figures["rows_lost"], figures["rows_lost_is"]) == (kept, ROWS - kept, "counted")
    assert figures["table tasks"] == f"{kept} rows kept, {ROWS - kept} lost (counted in its index by_state)"
    assert [name for name in figures if name.startswith("step ")] == [f"step {n}" for n in range(1, 6)]


@pytest.mark.parametrize("way", ["pread64", "read,pread64"])
def test_sectors_that_the_disk_does_not_give_are_read_around(way: str, damaged: Target, tmp_path: Path) -> None:
    """The kernel answers the first readings of each process with an I/O error: of the header too."""
    if not shutil.which("strace") or subprocess.run(["strace", "-o", "/dev/null", "true"], check=False).returncode:
        pytest.skip("strace cannot trace here")
    new = tmp_path / "new.db"
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", str(damaged.path), "-e", f"trace={way}"]
    ours = [sys.executable, "-m", "exporter.commands", "salvage", str(damaged.path), "--to", str(new)]
    command = [*trace, "-e", f"inject={way}:error=EIO:when=1..3", *ours, "--state", str(damaged.state)]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert 0 < count(new) < ROWS


def test_the_steps_that_it_prints_put_the_new_file_in_place(damaged: Target, tmp_path: Path) -> None:
    new = tmp_path / "new file.db"
    damaged.path.chmod(0o640)
    figures = by_hand(damaged, "salvage", to=str(new)).figures
    for step in ("move the damaged files aside and keep them: ", "put the new file there: "):
        command = next(str(words) for words in figures.values() if str(words).startswith(step)).removeprefix(step)
        subprocess.run(["sh", "-ec", command], check=True)
    assert count(damaged.path) == figures["rows_kept"]
    assert damaged.path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(f"{damaged.path}.damaged") == ["queue.db"]


def test_the_newest_verified_backup_is_laid_beside_it(tmp_path: Path) -> None:
    target = make_damaged(tmp_path)
    sound = tmp_path / "sound.db"
    damaged_bytes = target.path.read_bytes()
    by_hand(target, "salvage", to=str(sound))
    place = BackupSettings(tmp_path / "b", own_folder=False)
    target = target_of(target.path, limits=Limits(disk_reserve=0), backup=place)
    target.path.write_bytes(sound.read_bytes())
    owner = apsw.Connection(str(target.path))
    owner.execute("INSERT INTO tasks (id, state) VALUES (100000, 'only in the backup')")
    owner.close()
    assert by_hand(target, "backup").outcome == "done"
    target.path.write_bytes(damaged_bytes)
    figures = by_hand(target, "salvage", to=str(tmp_path / "again.db")).figures
    assert str(figures["newest_backup"]).endswith(".db")
    assert figures["backup_has_more_of"] == "tasks: 1 rows"
    assert "the newest verified backup has" in str(figures["table tasks"])
    assert str(figures["step 2"]).startswith("stop the application")
    assert "--in-place --application-stopped" in str(figures["step 3"])


@pytest.mark.parametrize("name", ["there.db", "dangling.db", "old.db", "queue.db-wal", "queue.db", "no folder/x.db"])
def test_no_file_is_overwritten_and_none_becomes_part_of_the_source(damaged: Target, tmp_path: Path, name: str) -> None:
    (tmp_path / "there.db").write_text("there")
    (tmp_path / "dangling.db").symlink_to(tmp_path / "nowhere")
    (tmp_path / "old.db-wal").write_text("of an older database")
    before = sorted(os.listdir(tmp_path))
    run = by_hand(damaged, "salvage", to=str(tmp_path / name))
    assert run.outcome == "refused", run.message
    assert sorted(set(os.listdir(tmp_path)) - {"state"}) == [each for each in before if each != "state"]


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000, random.Random(1).randbytes(64 * 4096)])
def test_what_is_no_database_is_refused_with_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "queue.db"
    path.write_bytes(content)
    run = by_hand(target_of(path, limits=Limits(disk_reserve=0)), "salvage", to=str(tmp_path / "new.db"))
    assert (run.outcome, run.reason) == ("failed", "not_a_database"), run.message
    assert not (tmp_path / "new.db").exists()


def test_a_file_whose_first_page_is_lost_gives_its_rows_apart(damaged: Target, tmp_path: Path) -> None:
    content = bytearray(damaged.path.read_bytes())
    content[:4096] = bytes(4096)
    damaged.path.write_bytes(content)
    run = by_hand(damaged, "salvage", to=str(tmp_path / "new.db"))
    assert run.outcome == "done", run.message
    assert int(str(run.figures["rows_apart"])) > ROWS / 2
    assert run.figures["rows_lost_is"] == "estimated"


def test_a_plan_says_what_is_visible_and_writes_nothing(damaged: Target, tmp_path: Path) -> None:
    before = source_state(damaged)
    figures = planned(damaged, "salvage", {"to": str(tmp_path / "new.db")}).figures
    assert figures["tables"] == "tasks, sqlite_sequence"
    assert figures["needed_bytes"] == 2 * damaged.path.stat().st_size
    assert source_state(damaged) == before
    assert sorted(set(os.listdir(tmp_path)) - {"state"}) == ["queue.db"]


def test_it_is_a_persons_and_at_the_machine_only(damaged: Target) -> None:
    assert "salvage" not in remote_actions()
    assert by_rule(damaged, "salvage").outcome == "refused"


def test_the_copy_is_made_again_when_the_source_changes_meanwhile(damaged: Target, tmp_path: Path) -> None:
    """The first attempt is disturbed once: what counts is a copy of one moment."""
    disturbed: list[int] = []

    def disturb(done: int) -> None:
        if not disturbed:
            disturbed.append(done)
            with damaged.path.open("ab") as file:
                file.write(bytes(4096))

    facts = copy_damaged_files(damaged.path, tmp_path / "copy.db", disturb)
    assert not facts.changed
    assert (tmp_path / "copy.db").read_bytes() == damaged.path.read_bytes()


def test_a_source_that_changes_all_the_time_is_told(damaged: Target, tmp_path: Path) -> None:
    def disturb(_done: int) -> None:
        with damaged.path.open("ab") as file:
            file.write(bytes(4096))

    assert copy_damaged_files(damaged.path, tmp_path / "copy.db", disturb).changed


def run_until(target: Target, new: Path, phase: str, act: str | int, folder: Path) -> None:
    """Start a salvage; when `phase` begins, send it a signal (a number), or fill its disk (a word)."""
    with state_store(target.state) as store:
        request = Request("salvage", target.name, options={"to": str(new)})
        claim = enqueue_and_claim(store, request, str(target.path), time.time())
    child = RunningAction(Job(request, target, target.state, claim))
    for event in child.read_events():
        if event.kind == "phase" and event.message == phase:
            if isinstance(act, int):
                os.kill(child.pid, act)
            else:
                with suppress(OSError):  # the child writes too: the disk may be full a little earlier
                    fill(folder, 0)
    child.wait_for_exit()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_or_stopped_in_any_phase_it_leaves_the_source_and_no_half_file(
    damaged: Target, tmp_path: Path, phase: str, number: int
) -> None:
    before, new = source_state(damaged), tmp_path / "out" / "new.db"
    new.parent.mkdir()
    run_until(damaged, new, phase, number, tmp_path)
    assert source_state(damaged) == before
    # It may have been faster than the signal: then the file is whole.
    assert not new.exists() or count(new) > 0
    again = new.with_name("again.db")
    assert by_hand(damaged, "salvage", to=str(again)).outcome == "done"
    assert [name for name in os.listdir(new.parent) if name.startswith(".")] == []


@pytest.mark.parametrize("phase", ["copy", "salvage"])
def test_a_disk_that_fills_up_leaves_the_source_and_no_half_file(tmp_path: Path, phase: str) -> None:
    target = make_damaged(tmp_path)
    before = source_state(target)
    with small_disk(tmp_path / "small", 4) as disk:
        run_until(target, disk / "new.db", phase, "fill", disk)
        # On a fast machine it may have been done before the disk was full: then the file is whole.
        assert set(os.listdir(disk)) <= {"filler", "new.db"}
        assert not (disk / "new.db").exists() or prove_result(disk / "new.db") == ResultProof("")
    assert source_state(target) == before


def test_a_disk_without_room_is_refused_beforehand(tmp_path: Path) -> None:
    target = make_damaged(tmp_path)
    with small_disk(tmp_path / "small", 1) as disk:
        run = by_hand(target, "salvage", to=str(disk / "new.db"))
        assert (run.outcome, run.reason) == ("refused", "disk_full"), run.message
        assert os.listdir(disk) == []


def test_a_virtual_table_that_lost_rows_is_told_and_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    owner = apsw.Connection(str(path))
    owner.execute(
        "CREATE TABLE tasks (id INTEGER PRIMARY KEY); CREATE VIRTUAL TABLE places USING rtree(id, low, high);"
        "CREATE VIRTUAL TABLE unknown USING fts5(text)"
    ).fetchall()
    with owner:
        owner.executemany("INSERT INTO places VALUES (?, ?, ?)", ((n, n, n + 1) for n in range(500)))
        owner.executemany("INSERT INTO tasks VALUES (?)", ((n,) for n in range(500)))
    pages = owner.execute("SELECT pageno FROM dbstat WHERE name = 'places_node' AND pagetype = 'leaf'").fetchall()
    owner.close()
    content = bytearray(path.read_bytes().replace(b"unknown USING fts5", b"unknown USING nosu"))
    for (page,) in pages[1:3]:
        content[(page - 1) * 4096 : page * 4096] = bytes(4096)
    path.write_bytes(content)
    run = by_hand(target_of(path, limits=Limits(disk_reserve=0)), "salvage", to=str(tmp_path / "new.db"))
    assert run.outcome == "done", run.message
    assert count(tmp_path / "new.db") == 500
    assert "virtual table places: " in str(run.figures["notes"])


def test_a_process_that_has_it_open_is_named(damaged: Target, tmp_path: Path) -> None:
    with prismq.process("held_reader.py", damaged.path) as user:
        words = str(planned(damaged, "salvage", {"to": str(tmp_path / "new.db")}).figures["warnings"])
        assert f"pid {user.pid} has the database open" in words
        run = by_hand(damaged, "salvage", to=str(tmp_path / "new.db"))
        assert run.outcome == "done", run.message
        assert f"pid {user.pid} has the database open" in str(run.figures["notes"])
