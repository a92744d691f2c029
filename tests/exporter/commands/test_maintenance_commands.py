"""vacuum, analyze, optimize and integrity from the command line: what they say, and every mistake in one helpful line."""

import json
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner, Result

from collectors.target import Limits, Target
from exporter.commands.main import main
from tests.support.scenes import damage, prismq
from tests.support.scenes.run_actions import by_hand
from tests.support.scenes.small_disk import fill, small_disk

Make = Callable[..., prismq.Queue]


def run(state: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--state", str(state)])


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def with_free_pages(queue: prismq.Queue, gone: str = "1") -> prismq.Queue:
    queue.put("completed", 200, payload='{"x": "' + "y" * 2000 + '"}')
    queue.owner.execute(f"DELETE FROM task_queue WHERE {gone}")
    queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return queue


def test_a_dry_run_shows_the_price_before_anything_is_done(queue: prismq.Queue, state: Path) -> None:
    with_free_pages(queue)
    before = queue.value("PRAGMA page_count")
    result = run(state, "vacuum", queue.path, "--dry-run")
    assert result.exit_code == 0, result.output
    for word in ("planned only: VACUUM", "gives back: ", "stall: ", "every writer waits about"):
        assert word in result.output
    assert queue.value("PRAGMA page_count") == before
    fields = json.loads(run(state, "vacuum", queue.path, "--dry-run", "--json").output)
    assert (fields["dry_run"], fields["way"], fields["outcome"]) == (True, "full", "done")
    assert fields["stall"] > 0


def test_each_command_prints_its_run(queue: prismq.Queue, state: Path) -> None:
    queue.put("queued", 300, payload='{"x": "' + "y" * 2000 + '"}')
    with_free_pages(queue, "status = 'completed'")
    ends = {
        "vacuum": "shrinks at the next checkpoint",
        "analyze": "analyzed 3 of 3",
        "optimize": "SQLite finds no table",
    }
    for command, words in ends.items():
        result = run(state, command, queue.path)
        assert (result.exit_code, words in result.output) == (0, True), result.output
    for options in ((), ("--full",)):
        fields = json.loads(run(state, "integrity", queue.path, "--json", *options).stdout)
        assert (fields["action"], fields["outcome"], fields["figures"]["problems"]) == ("integrity", "done", "")
        assert fields["figures"]["check"] == ("full" if options else "quick")
    again = run(state, "vacuum", queue.path)
    assert (again.exit_code, again.output.startswith("nothing_to_do: ")) == (0, True), again.output


def test_a_zero_is_not_taken_for_an_option_left_out(queue: prismq.Queue, state: Path) -> None:
    import time

    from actions.store.database import state_store
    from actions.store.free_pages import record_free_pages

    with_free_pages(queue)
    with state_store(state) as store:
        hour = int(time.time() // 3600)
        record_free_pages(store, {("queue", hour - age): 0 for age in range(3)}, time.time())
    refilled = run(state, "vacuum", queue.path)
    assert (refilled.exit_code, "are filled again" in refilled.output) == (0, True)
    assert "--free-for 0s" in refilled.output
    assert run(state, "vacuum", queue.path, "--free-for", "0s").output.startswith("done: freed")


def test_damage_ends_with_five_and_the_first_problem(queue: prismq.Queue, state: Path) -> None:
    queue.put("completed", 500)
    damage.damage(queue.path, damage.leaf_of(queue.owner, "ix_task_type_status"))
    result = run(state, "integrity", queue.path)
    assert result.exit_code == 5
    assert "unverified: " in result.output
    assert "index ix_task_type_status page" in result.output
    assert "next: keep all backups" in result.output, "REINDEX reads the pages that it gives back, so it fails here"


# One line each: (arguments, exit code, words that the line must hold).
MISTAKES: list[tuple[tuple[str, ...], int, tuple[str, ...]]] = [
    (("vacuum", "nowhere.db"), 2, ("nowhere.db not found", "give the path")),
    (("vacuum", "FOLDER"), 2, ("is a directory",)),
    (("vacuum", "DB", "--incremental"), 3, ("auto_vacuum is none", "leave --incremental out")),
    (("vacuum", "DB", "--free-for", "soon"), 2, ("soon",)),
    (("vacuum", "ROWIDS"), 3, ("without INTEGER PRIMARY KEY: extra", "--rowids-unused")),
    (("vacuum", "TEXT"), 1, ("file is not a database",)),
    (("analyze", "DB", "--table", "task_queu"), 3, ("there is no table task_queu", "did you mean task_queue?")),
    (("analyze", "DB", "--table", "x'; DROP TABLE workers; --"), 3, ("there is no table x'; DROP", "its tables: ")),
    (("analyze", "DB", "--table", ""), 3, ("there is no table", "its tables: ")),
    (("analyze", "DB", "--stall", "-1s"), 2, ("-1s",)),
    (("analyze", "TEXT"), 1, ("file is not a database",)),
    (("optimize", "nowhere.db"), 2, ("not found",)),
    (("optimize", "TEXT"), 1, ("file is not a database",)),
    (("integrity", "nowhere.db", "--full"), 2, ("not found",)),
    (("integrity", "DB", "--on-backup"), 3, ("no backup directory is known", "--from DIR")),
    (("integrity", "DB", "--on-backup", "--from", "FOLDER"), 3, ("no verified backup", "queuekeeper backup DB")),
    (("integrity", "DB", "--longest-read", "x"), 2, ("x",)),
    (("integrity", "TEXT"), 5, ("is damaged: the whole file: file is not a database", "restore")),
    (("integrity", "DB", "--no-such-option"), 2, ("No such option",)),
]


@pytest.mark.parametrize(("arguments", "code", "words"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_one_line_with_its_cure(
    make_queue: Make, state: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, words: tuple[str, ...]
) -> None:
    queue = with_free_pages(make_queue())
    if "ROWIDS" in arguments:
        queue.owner.execute("CREATE TABLE extra (x); INSERT INTO extra VALUES (1)").fetchall()
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.db").write_text("no database at all, but longer than a header is" * 10)
    places = {"DB": queue.path, "ROWIDS": queue.path, "FOLDER": tmp_path / "folder", "TEXT": tmp_path / "text.db"}
    result = run(state, *(places.get(word, word) for word in arguments))
    assert result.exit_code == code, result.output
    for word in words:
        assert word in result.output
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit)
    assert queue.value("PRAGMA quick_check") == "ok"


@pytest.mark.parametrize("command", ["analyze", "optimize"])
def test_statistics_on_a_full_disk_change_nothing(tmp_path: Path, state: Path, command: str) -> None:
    with small_disk(tmp_path / "small", 4) as disk:
        queue = prismq.create(disk / "queue.db")
        queue.put("queued", 100)
        queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        before = queue.value("SELECT group_concat(name) FROM sqlite_schema")
        fill(disk, 0)
        target = Target("queue", queue.path, state=state, limits=Limits(disk_reserve=0))
        full = by_hand(target, command)
        assert (full.outcome, full.reason) == ("failed", "disk_full")
        assert "database or disk is full" in full.message
        assert full.next_step.startswith("free space on the disk of the database")
        (disk / "filler").unlink()
        assert queue.value("PRAGMA integrity_check") == "ok"
        assert queue.value("SELECT group_concat(name) FROM sqlite_schema") == before
        assert by_hand(target, command).outcome == "done"
        queue.owner.close()
        assert isinstance(queue.owner, apsw.Connection)
