"""A prune reads what stays before anything goes: by hand, by rule, from Python; killed, on a full disk, not allowed to read."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actions.model.request import Request
from actions.runner.protocol import Job
from actions.runner.spawn import RunningAction
from actions.store.database import state_store
from actions.store.runs import enqueue_and_claim
from collectors.backup_catalog.catalog import BackupState
from collectors.backup_catalog.local_directory import manifest_path, read_manifest
from collectors.backup_catalog.store import find_backups
from collectors.target import BackupSettings, Limits, RetentionCounts, Target
from queuekeeper import QueueBackup, QueueBackupError
from tests.support.scenes import prismq
from tests.support.scenes.backup_damage import (
    BOUND_ROOT,
    flip_byte,
    read_manifest_fields,
    run_backups_command,
    write_manifest_fields,
)
from tests.support.scenes.run_actions import by_hand, by_rule, target_of
from tests.support.scenes.small_disk import fill, small_disk

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and give up its rights")


@pytest.fixture(params=["none", "zstd"])
def target(queue: prismq.Queue, tmp_path: Path, request: pytest.FixtureRequest) -> Target:
    queue.put("queued", 20)
    place = BackupSettings(tmp_path / "b", RetentionCounts(1, 0, 0, 0, 0), request.param, own_folder=False)
    return target_of(queue.path, backup=place, limits=Limits(disk_reserve=0))


def backed_up(target: Target) -> Path:
    run = by_hand(target, "backup")
    assert run.outcome == "done", run.message
    return Path(str(run.figures["path"]))


def states(target: Target) -> dict[Path, BackupState]:
    return {Path(backup.reference): backup.state for backup in find_backups(target)}


def change_four_bytes(path: Path) -> None:
    for at in (3000, 3001, 3002, 3003):
        flip_byte(path, at)


def test_the_only_intact_one_stays_when_the_newest_two_of_three_were_changed_by_four_bytes(target: Target) -> None:
    good, second, third = (backed_up(target) for _ in range(3))
    for path in (second, third):
        change_four_bytes(path)
    run = by_hand(target, "prune", keep_last=1)
    assert (run.outcome, run.figures["deleted"]) == ("done", 0), run.message
    assert good.name in run.message
    assert second.name in run.message
    assert third.name in run.message
    assert states(target) == {good: "verified", second: "failed", third: "failed"}
    assert by_hand(target, "prune", keep_last=1).outcome == "nothing_to_do"


def test_one_damaged_copy_costs_the_older_copies_nothing_and_they_thin_out_as_before(target: Target) -> None:
    oldest, older, newest = (backed_up(target) for _ in range(3))
    change_four_bytes(newest)
    run = by_rule(target, "prune")
    assert (run.outcome, run.figures["deleted"]) == ("done", 1), run.message
    assert run.figures["intact"] == older.name
    assert states(target) == {older: "verified", newest: "failed"}
    assert not oldest.exists()


def test_a_sound_folder_is_thinned_out_and_the_newest_is_read_each_time(target: Target) -> None:
    paths = [backed_up(target) for _ in range(4)]
    run = by_hand(target, "prune", keep_last=2)
    assert (run.figures["deleted"], run.figures["read_again"]) == (2, 2)
    backed_up(target)
    run = by_hand(target, "prune", keep_last=2)
    assert run.figures["deleted"] == 1
    assert run.figures["read_again"] == 1, "the other one was read again lately"
    assert paths[3].exists()


def test_a_copy_that_a_scrub_read_long_ago_is_read_again(target: Target) -> None:
    paths = [backed_up(target) for _ in range(3)]
    assert by_hand(target, "scrub").outcome == "done"
    fields = read_manifest_fields(paths[1])
    write_manifest_fields(paths[1], {**fields, "finished_time": 1.0, "verified_time": time.time() - 30 * 86400})
    assert by_hand(target, "prune", keep_last=2).figures["read_again"] == 2


def test_nothing_goes_when_no_copy_that_stays_is_intact(target: Target) -> None:
    """All ordinary ones are damaged; an old safety copy may be the last that is good."""
    paths = [backed_up(target) for _ in range(3)]
    safeties = [backed_up(target) for _ in range(2)]
    for number, path in enumerate(safeties):
        age = (60 + number) * 86400
        fields = read_manifest_fields(path)
        write_manifest_fields(path, {**fields, "kind": "safety", "snapshot_time": fields["snapshot_time"] - age})
    for path in (*paths, safeties[1]):
        change_four_bytes(path)
    run = by_hand(target, "prune")
    assert (run.outcome, run.reason) == ("unverified", "none_intact"), run.message
    assert all(path.exists() for path in (*paths, *safeties))


def test_python_keeps_the_good_one_too(target: Target, queue: prismq.Queue) -> None:
    good, second, third = (backed_up(target) for _ in range(3))
    for path in (second, third):
        change_four_bytes(path)
    backups = QueueBackup(queue.path, good.parent, state=target.state)
    with pytest.raises(QueueBackupError):
        backups.verify_backup(third)
    assert backups.cleanup_old_backups(1) == 0
    latest = backups.get_latest_backup()
    assert latest is not None
    assert latest.path == good
    assert {backup.path for backup in backups.list_backups()} == {good, second, third}


@as_root
def test_a_copy_that_may_not_be_read_is_no_proof_so_an_older_one_stays(target: Target) -> None:
    oldest, older, newest = (backed_up(target) for _ in range(3))
    newest.chmod(0)
    run = run_backups_command(target, "prune", "--keep-last", "1", "--json", before=BOUND_ROOT)
    fields = json.loads(run.stdout)
    assert fields["outcome"] == "done", fields
    assert fields["figures"]["intact"] == older.name
    assert newest.name in fields["figures"]["unreadable"]
    assert states(target) == {older: "verified", newest: "verified"}
    assert not oldest.exists()


@as_root
def test_a_restore_does_not_pass_over_a_copy_that_it_only_could_not_read(target: Target, tmp_path: Path) -> None:
    _older, newest = (backed_up(target) for _ in range(2))
    newest.chmod(0)
    words = ["restore", str(target.path), "--from", str(newest.parent), "--to", str(tmp_path / "there.db")]
    command = [*BOUND_ROOT, sys.executable, "-m", "exporter.commands", *words, "--state", str(target.state)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert newest.name in done.stderr
    assert not (tmp_path / "there.db").exists()
    assert states(target)[newest] == "verified"


@as_root
def test_a_manifest_that_may_not_be_read_hides_no_other_backup_and_its_copy_stays(target: Target) -> None:
    oldest, older, newest = (backed_up(target) for _ in range(3))
    manifest_path(newest).chmod(0)
    listed = run_backups_command(target, "list", "--json", before=BOUND_ROOT)
    assert [row["state"] for row in json.loads(listed.stdout)] == ["verified", "verified", "unverified"], listed.stderr
    run = run_backups_command(target, "prune", "--keep-last", "1", "--json", before=BOUND_ROOT)
    assert json.loads(run.stdout)["outcome"] == "done", run.stdout
    assert states(target) == {older: "verified", newest: "verified"}
    assert not oldest.exists()


@as_root
def test_on_a_full_disk_a_prune_still_gives_back_space_and_marks_what_it_can(
    queue: prismq.Queue, tmp_path: Path
) -> None:
    queue.put("queued", 20)
    with small_disk(tmp_path / "disk", 8) as disk:
        place = BackupSettings(disk, own_folder=False)
        target = target_of(queue.path, backup=place, limits=Limits(disk_reserve=0))
        oldest, older, newest = (backed_up(target) for _ in range(3))
        change_four_bytes(newest)
        fill(disk, 0)
        run = by_hand(target, "prune", keep_last=1)
        assert run.outcome == "done", run.message
        assert not oldest.exists()
        assert older.exists()
        assert all(read_manifest(manifest_path(path)) for path in (older, newest))


@pytest.mark.parametrize("times", [4, pytest.param(40, marks=pytest.mark.soak)])
@pytest.mark.parametrize(("action", "phase"), [("prune", "prove"), ("prune", "prune"), ("scrub", "scrub")])
def test_killed_at_any_moment_every_manifest_is_whole_and_the_good_copy_is_there(
    target: Target, action: str, phase: str, times: int
) -> None:
    chance = random.Random(int(os.environ.get("QK_SEED") or random.randrange(1 << 32)))
    good = backed_up(target)
    damaged = [backed_up(target) for _ in range(3)]
    for path in damaged:
        change_four_bytes(path)
    options = {"keep_last": 1} if action == "prune" else {}
    for _ in range(times):
        kill_in_phase(target, Request(action, target.name, options=options), phase, chance)
        for path in (good, *damaged):
            manifest = read_manifest(manifest_path(path))
            assert path.stat().st_size == manifest.bytes
        assert states(target)[good] == "verified"
    by_hand(target, action, **options)
    assert states(target) == {good: "verified", **dict.fromkeys(damaged, "failed")}
    assert [path for path in good.parent.iterdir() if path.name.startswith(".")] == []


def kill_in_phase(target: Target, request: Request, phase: str, chance: random.Random) -> None:
    """Kill the child a random moment after it reports that this phase begins."""
    assert target.state is not None
    with state_store(target.state) as store:
        claim = enqueue_and_claim(store, request, str(target.path), time.time())
    child = RunningAction(Job(request, target, target.state, claim))
    for event in child.read_events():
        if event.kind == "phase" and event.message == phase:
            time.sleep(chance.random() * 0.02)
            os.kill(child.pid, signal.SIGKILL)
    child.wait_for_exit()
