"""Integrity checks: their problems, where they read, what is stored. Damage is made in the bytes of real files."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from actions.maintenance import integrity_check
from actions.model.context import RunHistory
from actions.model.errors import Cancelled, Refused, Unverified
from actions.store.database import state_store
from actions.store.runs import Run
from actions.store.totals import read_totals
from collectors.backup_catalog.local_directory import manifest_path
from collectors.backup_catalog.store import find_backups
from collectors.raw_reader.client import RawReader
from collectors.target import BackupSettings, Limits, Target
from tests.support.scenes import damage, prismq, runner_child
from tests.support.scenes.run_actions import by_hand, by_rule, planned, target_of
from tests.support.scenes.run_in_process import plan_here, run_here, work_on

Application = Callable[[Path, float], AbstractContextManager[int]]
Make = Callable[..., prismq.Queue]
PATIENT = Limits(disk_reserve=0, read_rollback=30.0, read_wal=30.0)
INDEX = "ix_task_type_status"


def with_tasks(queue: prismq.Queue, number: int = 3000) -> prismq.Queue:
    queue.owner.execute(
        "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < ?) INSERT INTO task_queue (type, status)"
        " SELECT 'mail', 'completed' FROM s",
        (number,),
    )
    return queue


def wrong_entry(queue: prismq.Queue) -> None:
    """One entry of an index differs from its row: the pages are sound, the content is wrong."""
    damage.damage(queue.path, damage.leaf_of(queue.owner, INDEX), b"completed", b"complated")


def unreadable_page(queue: prismq.Queue) -> None:
    damage.damage(queue.path, damage.leaf_of(queue.owner, INDEX))


def checked(target: Target, *, full: bool) -> Run:
    """Again where the application's commits left no gap to read in: on a busy machine they take long."""
    for _ in range(20):
        run = by_hand(target, "integrity", full=full)
        if run.outcome != "locked":
            break
    return run


def verdicts(target: Target) -> dict[tuple[str, str], bool]:
    """By check and target, from history as the next process reads it."""
    assert target.state is not None
    with state_store(target.state) as store:
        checks = read_totals(store).checks
    assert all(at == pytest.approx(time.time(), abs=600) for _, at in checks.values())
    return {(check, place): ok for (_, check, place), (ok, _) in checks.items()}


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_sound_database_passes_beside_a_live_application(
    make_queue: Make, application: Application, mode: str
) -> None:
    queue = with_tasks(make_queue("queue.db", mode))
    target = target_of(queue.path, limits=PATIENT)
    names = sorted(path.name for path in queue.path.parent.glob("queue.db*"))
    with application(queue.path, 2):
        for full in (False, True):
            run = checked(target, full=full)
            assert run.outcome == "done", run.message
            assert (run.figures["problems"], run.figures["whole_file"]) == ("", True)
            assert run.figures["check"] == ("full" if full else "quick")
    assert verdicts(target) == {("quick", "live"): True, ("full", "live"): True}
    assert queue.value("SELECT count(*) FROM task_queue WHERE type = 'live'") > 0
    assert sorted(path.name for path in queue.path.parent.glob("queue.db*")) == names


def test_a_wrong_index_entry_is_detected_and_a_quick_check_does_not_clear_it(
    queue: prismq.Queue, tmp_path: Path
) -> None:
    with_tasks(queue)
    place = BackupSettings(tmp_path / "backups", own_folder=False)
    target = target_of(queue.path, limits=PATIENT, backup=place)
    assert by_hand(target, "backup").outcome == "done"
    wrong_entry(queue)
    run = by_hand(target, "integrity", full=True)
    assert (run.outcome, run.reason) == ("unverified", "damaged")
    assert f"missing from index {INDEX}" in run.message
    assert "REINDEX" in run.next_step
    assert "missing from index" in str(run.figures["problems"])
    assert verdicts(target) == {("full", "live"): False}
    assert by_hand(target, "integrity").outcome == "done", "a quick check does not look at what indexes hold"
    assert verdicts(target) == {("full", "live"): False, ("quick", "live"): True}
    prune = by_hand(target, "prune")
    assert (prune.outcome, prune.reason) == ("refused", "source_failed"), "the good backups may be all that is left"
    assert "missing from index" in prune.message
    assert by_hand(target, "integrity", full=True, on_backup=True).outcome == "done"
    assert verdicts(target)["full", "live"] is False, "of another target"
    queue.owner.execute(f"REINDEX {INDEX}")
    assert by_hand(target, "integrity", full=True).outcome == "done"
    assert all(verdicts(target).values())
    assert by_hand(target, "prune").outcome == "nothing_to_do"


def test_a_damaged_index_page_fails_the_quick_check_and_is_remembered(queue: prismq.Queue) -> None:
    with_tasks(queue)
    target = target_of(queue.path, limits=PATIENT)
    unreadable_page(queue)
    run = by_hand(target, "integrity")
    assert run.outcome == "unverified"
    assert f"index {INDEX} page" in run.message, "the tree is called by its name"
    queue.owner.execute(f"REINDEX {INDEX}")
    assert by_hand(target, "integrity").outcome == "done"
    assert verdicts(target) == {("quick", "live"): False}
    assert by_hand(target, "integrity", full=True).outcome == "done"
    assert verdicts(target) == {("quick", "live"): True, ("full", "live"): True}


def test_a_full_check_that_cannot_go_on_tells_what_the_quick_one_sees(queue: prismq.Queue, raw: RawReader) -> None:
    unreadable_page(with_tasks(queue))
    with pytest.raises(Unverified, match=f"is damaged: index {INDEX} page") as caught:
        run_here("integrity", work_on(target_of(queue.path, limits=PATIENT), raw, full=True))
    assert caught.value.reason == "damaged"


def test_a_table_page_that_is_damaged_calls_for_a_backup(queue: prismq.Queue, raw: RawReader) -> None:
    with_tasks(queue)
    damage.damage(queue.path, damage.leaf_of(queue.owner, "task_queue"))
    with pytest.raises(Unverified, match="task_queue: database disk image is malformed") as caught:
        run_here("integrity", work_on(target_of(queue.path, limits=PATIENT), raw))
    assert "queuekeeper restore" in caught.value.next_step


def test_what_is_no_database_any_more_is_damaged(queue: prismq.Queue) -> None:
    with_tasks(queue)
    queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    damage.damage(queue.path, 1, b"CREATE TABLE task_queue", b"CREATE TABEL task_queue")
    target = target_of(queue.path, limits=PATIENT)
    run = by_hand(target, "integrity")
    assert run.outcome == "unverified", run.message
    assert "malformed" in run.message
    assert verdicts(target) == {("quick", "live"): False}


# --- in parts


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the file were too large for one read."""
    monkeypatch.setattr(integrity_check, "predicted_check_seconds", lambda _size, **_kind: float("inf"))


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("full", [False, True])
def test_a_large_file_is_read_table_by_table(queue: prismq.Queue, raw: RawReader, full: bool) -> None:
    with_tasks(queue)
    work = work_on(target_of(queue.path, limits=PATIENT), raw, full=full)
    done = run_here("integrity", work)
    tables = queue.value("SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND type = 'table'")
    assert (done.figures["parts"], done.figures["whole_file"]) == (tables, False)
    unreadable_page(queue)
    with pytest.raises(Unverified, match=f"index {INDEX} page"):
        run_here("integrity", work)


@pytest.mark.usefixtures("in_parts")
def test_the_list_of_free_pages_is_checked_too(queue: prismq.Queue, raw: RawReader) -> None:
    with_tasks(queue)
    queue.owner.execute("DELETE FROM task_queue")
    queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    count = int(queue.value("PRAGMA freelist_count"))
    damage.damage(queue.path, 1, count.to_bytes(4), (count - 1).to_bytes(4))
    with pytest.raises(Unverified, match="Freelist: size is"):
        run_here("integrity", work_on(target_of(queue.path, limits=PATIENT), raw))


@pytest.mark.usefixtures("in_parts")
def test_a_full_check_in_parts_does_not_clear_what_only_the_whole_file_can(queue: prismq.Queue, raw: RawReader) -> None:
    from actions.store.integrity import integrity_result_from, record_integrity_result

    target = target_of(with_tasks(queue).path, limits=PATIENT)
    assert target.state is not None
    figures = run_here("integrity", work_on(target, raw, full=True)).figures
    with state_store(target.state) as store:
        failed = replace(integrity_result_from(figures, ok=False, message="two tables share a page"), whole=True)
        record_integrity_result(store, "queue", failed, time.time())
        record_integrity_result(store, "queue", integrity_result_from(figures, ok=True, message=""), time.time())
    assert verdicts(target) == {("full", "live"): False}
    with state_store(target.state) as store:
        record_integrity_result(store, "queue", replace(failed, ok=True), time.time())
    assert verdicts(target) == {("full", "live"): True}


def test_what_takes_longer_than_a_read_may_last_is_not_called_sound(queue: prismq.Queue, raw: RawReader) -> None:
    owner = queue.owner
    owner.execute("CREATE TABLE big (id INTEGER PRIMARY KEY, x); CREATE INDEX big_x ON big (x)").fetchall()
    owner.execute(
        "INSERT INTO big (x) SELECT 1 FROM json_each('[' || replace(hex(zeroblob(150000)), '0', '1,') || '1]')"
    )
    target = target_of(queue.path, limits=replace(PATIENT, read_wal=0.001))
    run = by_hand(target, "integrity", full=True)
    assert (run.outcome, run.reason) == ("failed", "unchecked")
    assert "big (longer than 0.001 s)" in run.message
    assert "--on-backup" in run.next_step
    assert verdicts(target) == {}
    assert run_here("integrity", work_on(target, raw, full=True, longest_read=60.0)).figures["whole_file"] is True
    plan = planned(target, "integrity", {"full": True, "longest_read": 60.0})
    assert plan.figures["target"] == "live"


def test_a_schema_that_only_the_application_understands_is_not_called_damaged(
    queue: prismq.Queue, raw: RawReader
) -> None:
    queue.owner.create_scalar_function("twice", lambda x: x * 2, 1, deterministic=True)
    queue.owner.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x); CREATE INDEX i ON t (twice(x))").fetchall()
    queue.owner.execute("INSERT INTO t VALUES (1, 1)")
    done = run_here("integrity", work_on(target_of(queue.path, limits=PATIENT), raw, full=True))
    assert "ok; only the application can check: t (unknown function: twice" in done.message
    assert done.figures["whole_file"]


# --- stopped, and beside a rollback journal


def test_it_stops_on_request_without_a_result(queue: prismq.Queue, raw: RawReader) -> None:
    work = work_on(target_of(with_tasks(queue).path, limits=PATIENT), raw, full=True)
    plan = plan_here("integrity", work)
    work.stop.request_stop()
    from actions import integrity

    with pytest.raises(Cancelled):
        integrity.run(work, plan)


def test_a_child_that_is_stopped_leaves_no_verdict(queue: prismq.Queue) -> None:
    target = target_of(with_tasks(queue).path, limits=PATIENT)
    job = runner_child.claimed(target, "integrity", full=True)
    child = runner_child.start(job)
    runner_child.say(child, b"stop\n")
    runner_child.finish(child)
    assert runner_child.record(job).outcome == "cancelled"
    assert verdicts(target) == {}


def test_in_rollback_journal_mode_a_check_holds_commits_up_no_longer_than_allowed(
    make_queue: Make, raw: RawReader
) -> None:
    queue = with_tasks(make_queue("rollback.db", "delete"))
    work = work_on(target_of(queue.path), raw)
    plan = plan_here("integrity", work)
    assert (plan.figures["longest_read"], plan.figures["target"]) == (0.05, "live")
    assert 0 < plan.stall <= 0.05
    assert (
        plan_here("integrity", work_on(target_of(queue.path), raw, full=True, longest_read=9.0)).figures["longest_read"]
        == 9
    )


# --- on a backup


@pytest.fixture
def backed_up(queue: prismq.Queue, tmp_path: Path) -> Target:
    with_tasks(queue)
    place = BackupSettings(tmp_path / "backups", own_folder=False)
    target = target_of(queue.path, limits=PATIENT, backup=place)
    assert by_hand(target, "backup").outcome == "done"
    return target


def test_what_is_too_large_to_be_read_live_is_checked_on_the_newest_backup(backed_up: Target, raw: RawReader) -> None:
    small = replace(backed_up, limits=replace(PATIENT, read_wal=0.001))
    run = by_hand(small, "integrity", full=True)
    assert (run.outcome, run.figures["target"]) == ("done", "backup"), run.message
    assert "full check of queue_backup_" in run.message
    assert "hours ago" in run.message
    assert verdicts(small) == {("full", "backup"): True}
    assert plan_here("integrity", work_on(backed_up, raw, full=True)).figures["target"] == "live"
    none = replace(small, backup=None)
    assert plan_here("integrity", work_on(none, raw, full=True)).figures["target"] == "live", "better in parts than not"


def test_a_copy_of_a_damaged_database_says_that_the_database_was_damaged(backed_up: Target) -> None:
    """The manifest is of the damaged copy: as if it had been damaged when it was written."""
    backup = find_backups(backed_up)[0]
    copy = apsw.Connection(str(Path(backup.reference)))
    leaf = damage.leaf_of(copy, INDEX)
    copy.close()
    damage.damage(Path(backup.reference), leaf, b"completed", b"complated")
    caught = by_hand(backed_up, "integrity", full=True, on_backup=True)
    assert (caught.outcome, caught.reason) == ("unverified", "damaged")
    assert "it was damaged in the backup store" in caught.message
    assert find_backups(backed_up)[0].state == "failed", "it no longer counts as a way back"
    assert verdicts(backed_up) == {("full", "backup"): False}
    manifest = json.loads(manifest_path(Path(backup.reference)).read_text())
    manifest |= {
        "sha256": __import__("hashlib").sha256(Path(backup.reference).read_bytes()).hexdigest(),
        "verified_time": 1.0,
        "damaged_time": None,
    }
    manifest_path(Path(backup.reference)).write_text(json.dumps(manifest))
    again = by_hand(backed_up, "integrity", full=True, on_backup=True)
    assert "the database itself was damaged when it was copied" in again.message
    assert by_hand(backed_up, "backup").outcome == "done"
    assert by_hand(backed_up, "integrity", full=True, on_backup=True).outcome == "done"
    assert verdicts(backed_up) == {("full", "backup"): True}


@pytest.mark.parametrize("broken", [False, True])
def test_a_compressed_backup_is_unpacked_in_private(queue: prismq.Queue, tmp_path: Path, broken: bool) -> None:
    place = BackupSettings(tmp_path / "backups", compress="zstd", own_folder=False)
    target = target_of(with_tasks(queue).path, limits=PATIENT, backup=place)
    path = Path(str(by_hand(target, "backup").figures["path"]))
    if broken:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    run = by_hand(target, "integrity", on_backup=True)
    assert run.outcome == ("unverified" if broken else "done"), run.message
    assert verdicts(target) == {("quick", "backup"): not broken}
    assert target.state is not None
    assert list((target.state / "scratch").iterdir()) == []


def test_without_a_backup_there_is_none_to_check(queue: prismq.Queue, raw: RawReader, tmp_path: Path) -> None:
    target = target_of(queue.path)
    with pytest.raises(Refused, match="no backup directory is known") as caught:
        plan_here("integrity", work_on(target, raw, on_backup=True))
    assert "--from DIR" in caught.value.next_step
    empty = replace(target, backup=BackupSettings(tmp_path / "none", own_folder=False))
    with pytest.raises(Refused, match="no verified backup to check"):
        plan_here("integrity", work_on(empty, raw, on_backup=True))


# --- beside the pages


def test_dangling_foreign_keys_are_reported_and_are_no_damage(queue: prismq.Queue) -> None:
    queue.put()
    queue.owner.execute("INSERT INTO task_logs (task_id, level) VALUES (99, 'info'), (98, 'info'), (1, 'info')")
    target = target_of(queue.path, limits=PATIENT)
    run = by_hand(target, "integrity")
    assert run.outcome == "done"
    assert "2 rows of task_logs point to rows of task_queue that are not there" in run.message
    assert verdicts(target) == {("quick", "live"): True}


def test_a_row_beyond_its_sequence_is_reported_and_no_damage(queue: prismq.Queue) -> None:
    queue.put("queued", 5)
    queue.owner.execute("UPDATE sqlite_sequence SET seq = 3 WHERE name = 'task_queue'")
    run = by_hand(target_of(queue.path, limits=PATIENT), "integrity")
    assert (run.outcome, "table task_queue has row 5 beyond its sequence 3" in run.message) == ("done", True)


@pytest.mark.parametrize(
    "legal",
    [
        "DELETE FROM sqlite_sequence",
        "UPDATE task_queue SET id = id + 1000",
        'CREATE TABLE odd (id INTEGER PRIMARY KEY AUTOINCREMENT, rowid TEXT); INSERT INTO odd VALUES (1, "zzz"), (2, 9000)',
        'CREATE TABLE "index" (a); INSERT INTO "index" VALUES (1); CREATE INDEX "missing from index" ON "index" (a)',
    ],
)
def test_what_is_legal_is_told_to_no_one_as_damage(queue: prismq.Queue, tmp_path: Path, legal: str) -> None:
    queue.put("queued", 5)
    queue.owner.execute(legal)
    target = target_of(queue.path, limits=PATIENT, backup=BackupSettings(tmp_path / "b"))
    for action, options in (("backup", {}), ("integrity", {"full": True}), ("drill", {}), ("verify", {})):
        run = by_hand(target, action, **options)
        assert run.outcome == "done", (action, run.message)
        assert "REINDEX" not in run.next_step
        assert "restore" not in run.next_step


def test_rows_that_break_a_rule_are_no_damage_of_pages(queue: prismq.Queue, tmp_path: Path) -> None:
    queue.owner.execute("CREATE TABLE u (a, b); INSERT INTO u VALUES (NULL, 1)")
    queue.owner.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    queue.owner.execute("PRAGMA writable_schema = ON")
    queue.owner.execute("UPDATE sqlite_schema SET sql = 'CREATE TABLE u (a NOT NULL, b)' WHERE name = 'u'")
    target = target_of(queue.path, limits=PATIENT, backup=BackupSettings(tmp_path / "b"))
    run = by_hand(target, "integrity", full=True)
    assert (run.outcome, run.reason) == ("unverified", "rows")
    assert "correct these rows" in run.next_step
    assert "restore" not in run.next_step
    backup = by_hand(target, "backup")
    assert backup.outcome == "done", "the copy is as the source is"
    assert "NULL value in u.a" in backup.message


def test_a_row_that_is_inserted_during_the_check_is_no_damage(
    queue: prismq.Queue, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actions.backups import queue_check

    queue.put("queued", 5)
    ask = queue_check.read_sequences

    def asked_before_an_insert(connection: apsw.Connection) -> object:
        numbers = ask(connection)
        queue.put("queued", 5)
        return numbers

    monkeypatch.setattr(queue_check, "read_sequences", asked_before_an_insert)
    assert run_here("integrity", work_on(target_of(queue.path, limits=PATIENT), raw)).figures["notes"] == ""


def test_a_sequence_that_went_back_since_the_last_check_is_reported(queue: prismq.Queue) -> None:
    queue.put("queued", 5)
    target = target_of(queue.path, limits=PATIENT)
    assert by_hand(target, "integrity").figures["last_numbers"] == '{"task_queue": 5}'
    queue.owner.execute("DELETE FROM task_queue WHERE id > 3; UPDATE sqlite_sequence SET seq = 3").fetchall()
    run = by_hand(target, "integrity")
    assert run.outcome == "done"
    assert "the sequence of task_queue went back from 5 to 3: commits were lost" in run.message
    assert "went back" not in by_hand(target, "integrity").message


def test_memory_of_another_make_does_not_matter(queue: prismq.Queue, raw: RawReader) -> None:
    queue.put()
    work = work_on(target_of(queue.path, limits=PATIENT), raw)
    assert (
        run_here("integrity", replace(work, run_history=RunHistory(figure=lambda _name: "{}"))).figures["notes"] == ""
    )


def test_a_schedule_may_ask_for_it(queue: prismq.Queue) -> None:
    assert by_rule(target_of(queue.path, limits=PATIENT), "integrity", full=True).outcome == "done"


@pytest.mark.parametrize(("full", "rate"), [(False, 400_000_000), (True, 100_000_000)])
def test_a_check_reads_as_much_in_a_second_as_is_documented(full: bool, rate: int) -> None:
    assert integrity_check.predicted_check_seconds(rate, full=full) == 1.0
    assert integrity_check.predicted_check_seconds(3 * rate, full=full) == 3.0
