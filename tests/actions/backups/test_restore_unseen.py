"""A file is not swapped under an application that cannot be seen: in another pid namespace, as in another container."""

import subprocess
import sys
from pathlib import Path

import pytest

from collectors.target import BackupSettings, Limits, Target
from tests.support.scenes import runner_child
from tests.support.scenes.run_actions import by_hand, target_of
from tests.support.scenes.second_names import application_at, as_root, at_rest

OWN_PIDS = ("unshare", "--mount-proc", "--pid", "--fork")


@pytest.fixture
def target(tmp_path: Path) -> Target:
    at_rest(tmp_path / "app" / "queue.db", "wal")
    place = BackupSettings(tmp_path / "backups", own_folder=False)
    return target_of(tmp_path / "app" / "queue.db", backup=place, limits=Limits(disk_reserve=0))


@as_root
def test_a_malformed_database_is_not_swapped_under_a_process_of_another_container(target: Target) -> None:
    if subprocess.run([*OWN_PIDS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no pid namespaces on this machine")
    assert by_hand(target, "backup").outcome == "done"
    with application_at(target.path):
        with target.path.open("r+b") as file:
            file.write(bytes(100))
        before = target.path.stat().st_ino
        job = runner_child.claimed(target, "restore", in_place=True)
        command = (*OWN_PIDS, sys.executable, "-I", "-m", "actions.runner.child")
        _, _, errors = runner_child.finish(runner_child.start(job, command=command))
        run = runner_child.record(job)
        assert (run.outcome, run.reason) == ("blocked", "application_connected"), f"{run.message} {errors}"
        assert "not visible to us" in run.message
        assert target.path.stat().st_ino == before
