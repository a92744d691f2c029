"""Backups that were taken while a clock was wrong: which one is the newest, how old it is, and what is said about it."""

import shutil
import time
from pathlib import Path

import pytest

from actions.model.condition import Condition, ConditionVerdict
from actions.policy.effect import condition_measurement
from actions.store.database import state_store
from actions.store.run_rows import Run
from actions.store.totals import read_totals
from collectors.access.connection import open_immutable
from collectors.access.snapshot import Snapshot
from collectors.backup_catalog.local_directory import manifest_path, read_manifest
from collectors.poll import poll_database
from collectors.raw_reader.client import RawReader
from collectors.target import BackupSettings, Limits, Target
from exporter.status.findings import find_database_problems
from exporter.text.run import run_line
from queuekeeper import QueueBackup
from tests.support.scenes import prismq
from tests.support.scenes.backup_damage import read_manifest_fields, run_backups_command, write_manifest_fields
from tests.support.scenes.run_actions import by_hand, by_rule, planned, target_of
from tests.support.scenes.wrong_clock import act_at_clock

DAY = 86400.0
TOO_OLD = Condition("sqlite_backup_age_seconds", above=49 * 3600.0)


@pytest.fixture
def target(queue: prismq.Queue, tmp_path: Path) -> Target:
    queue.put("queued", 1)
    place = BackupSettings(tmp_path / "b", own_folder=False)
    return target_of(queue.path, backup=place, limits=Limits(disk_reserve=0))


def act_at(target: Target, action: str, ahead: float = 0.0) -> Run:
    return act_at_clock(target, action, f"true_time() + {ahead}")


def path_of(run: Run) -> Path:
    assert run.outcome == "done", run.message
    return Path(str(run.figures["path"]))


def date_back(path: Path, seconds: float) -> None:
    fields = read_manifest_fields(path)
    for name in ("snapshot_time", "finished_time", "verified_time"):
        fields[name] -= seconds
    write_manifest_fields(path, fields)


def restored_rows(target: Target) -> object:
    there = target.path.with_name(f"restored-{time.monotonic_ns()}.db")
    run = by_hand(target, "restore", to=str(there))
    assert run.outcome == "done", run.message
    with open_immutable(there) as content:
        return content.execute("SELECT count(*) FROM task_queue").get


def backup_values(target: Target, raw: RawReader) -> tuple[dict[str, float], Snapshot]:
    snapshot = poll_database(target, None, time.time(), raw, only=frozenset({"backups"}))
    return {s.metric.name: s.value_at(time.time()) for s in snapshot.samples if not s.labels}, snapshot


@pytest.mark.parametrize("ahead", [200 * DAY, -400 * DAY])
def test_the_backup_taken_last_is_the_newest_whatever_its_clock_said(
    target: Target, queue: prismq.Queue, ahead: float
) -> None:
    """A clock ahead at the first backup; or set back at the second."""
    first = path_of(act_at(target, "backup", max(0.0, ahead)))
    queue.put("queued", 1)
    second = path_of(act_at(target, "backup", min(0.0, ahead)))
    assert [read_manifest(manifest_path(path)).sequence for path in (first, second)] == [1, 2]
    assert restored_rows(target) == 2
    assert by_hand(target, "drill").figures["path"] == str(second)
    assert by_hand(target, "verify").figures["path"] == str(second)
    backups = QueueBackup(queue.path, first.parent, state=target.state)
    assert [backup.path for backup in backups.list_backups()] == [second, first]
    latest = backups.get_latest_backup()
    assert latest is not None
    assert latest.path == second


def test_a_time_in_the_future_is_never_fresh_and_every_watcher_says_so(target: Target, raw: RawReader) -> None:
    path_of(act_at(target, "backup", 200 * DAY))
    values, snapshot = backup_values(target, raw)
    assert values["sqlite_backup_age_seconds"] > 30 * 365 * DAY
    assert values["sqlite_backup_last_success_timestamp_seconds"] == 0
    measured = condition_measurement(TOO_OLD, snapshot, time.time())
    assert TOO_OLD.judge_measurement(measured) is ConditionVerdict.WRONG
    findings = " ".join(finding.what for finding in find_database_problems(snapshot, (), time.time()))
    assert "a time in the future" in findings or "time in the future" in findings
    refused = by_rule(target, "purge", older_than=DAY)
    assert (refused.outcome, refused.reason) == ("refused", "no_fresh_backup"), refused.message
    assert "time in the future" in refused.message
    listed = run_backups_command(target, "list")
    assert "its time is in the future" in listed.stdout, listed.stderr


def test_the_age_is_that_of_the_newest_backup_whose_time_can_be_believed(target: Target, raw: RawReader) -> None:
    """The case that let a purge run with a backup of 30 days."""
    date_back(path_of(act_at(target, "backup")), 30 * DAY)
    path_of(act_at(target, "backup", 200 * DAY))
    values, _ = backup_values(target, raw)
    assert values["sqlite_backup_age_seconds"] == pytest.approx(30 * DAY, abs=3600)
    refused = by_rule(target, "purge", older_than=DAY)
    assert (refused.outcome, refused.reason) == ("refused", "no_fresh_backup"), refused.message
    assert by_hand(target, "backup").outcome == "done"
    values, _ = backup_values(target, raw)
    assert values["sqlite_backup_age_seconds"] < 3600


def test_backups_of_a_version_that_did_not_count_are_older_and_those_of_the_future_the_oldest(
    target: Target, queue: prismq.Queue
) -> None:
    uncounted = []
    for age in (3 * DAY, 2 * DAY, -50 * DAY):
        queue.put("queued", 1)
        uncounted.append(path_of(act_at(target, "backup")))
        date_back(uncounted[-1], age)
        fields = read_manifest_fields(uncounted[-1])
        del fields["sequence"]
        write_manifest_fields(uncounted[-1], fields)
    assert restored_rows(target) == 3  # one task before, and two when the second was taken
    queue.put("queued", 10)
    path_of(act_at(target, "backup", -900 * DAY))
    assert restored_rows(target) == 14


def test_counting_goes_on_when_the_history_or_the_store_is_lost(target: Target) -> None:
    first = path_of(act_at(target, "backup"))
    assert target.state is not None
    shutil.rmtree(target.state)
    second = path_of(act_at(target, "backup"))
    assert read_manifest(manifest_path(second)).sequence == 2
    shutil.rmtree(first.parent)
    assert read_manifest(manifest_path(path_of(act_at(target, "backup")))).sequence == 3


def test_a_clock_that_stands_at_one_moment_gives_each_backup_a_name_of_its_own(
    target: Target,
) -> None:
    moment = str(time.time())
    paths = {path_of(act_at_clock(target, "backup", moment)) for _ in range(3)}
    assert len(paths) == 3


@pytest.mark.parametrize("step", [-259195.0, 200 * DAY])
def test_a_clock_that_is_set_while_a_run_goes_on_does_not_change_how_long_it_took(target: Target, step: float) -> None:
    """Right at the first readings of the run, then set."""
    run = act_at_clock(target, "backup", f"true_time() + ({step} if len(asked) > 6 else 0.0)")
    assert run.outcome == "done", run.message
    assert run.figures["clock_moved_seconds"] == pytest.approx(step, abs=60)
    assert run.seconds is not None
    assert 0 <= run.seconds < 600
    assert " in -" not in run_line(run)
    with state_store(target.state) as store:  # type: ignore[arg-type]
        assert read_totals(store, time.time()).durations["backup"].total < 600


def test_a_drill_of_the_future_is_no_recent_drill(target: Target) -> None:
    path_of(act_at(target, "backup"))
    assert act_at(target, "drill", 200 * DAY).outcome == "done"
    assert target.state is not None
    with state_store(target.state) as store:
        totals = read_totals(store, time.time())
        assert totals.drills[target.name][0] == 0
        assert totals.last_success[target.name, "drill"] == 0
        assert read_totals(store, time.time() + 200 * DAY).drills[target.name][0] > 0


def test_no_age_is_told_of_a_backup_of_the_future(target: Target) -> None:
    path_of(act_at(target, "backup", 200 * DAY))
    drill = by_hand(target, "drill")
    assert drill.outcome == "done", drill.message
    assert "its time is in the future" in drill.message
    assert drill.figures["data_age_seconds"] is None
    assert "its time is in the future" in planned(target, "restore", {"in_place": True}).message
    assert "whose time is in the future" in by_hand(target, "integrity", on_backup=True).message
