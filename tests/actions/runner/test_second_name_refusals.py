"""No action touches a database by a second name: each is refused with the process, the other name and the cure."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from actions.registry import ACTIONS
from actions.store.runs import Run
from collectors.target import BackupSettings, Limits, Target
from queuekeeper import QueueMaintenance, QueueMaintenanceError
from tests.support.scenes.run_actions import by_hand, by_rule, planned, target_of
from tests.support.scenes.second_names import (
    application_at,
    application_in_container,
    as_root,
    at_rest,
    count_tasks,
    end_application,
    hard_link,
    single_mount,
)

TOUCHING = sorted({name for name in ACTIONS if ACTIONS[name].SPEC.needs_database} | {"restore"})
OTHER_NAME = Callable[[Path, Path], AbstractContextManager[None]]
NAMES = [pytest.param(hard_link, id="link"), pytest.param(single_mount, id="mount", marks=as_root)]


@pytest.fixture
def names(tmp_path: Path) -> tuple[Path, Path]:
    """The name of the application, and another."""
    (tmp_path / "box").mkdir()
    return tmp_path / "app" / "queue.db", tmp_path / "box" / "queue.db"


def target_at(path: Path) -> Target:
    place = BackupSettings(path.parent / "backups", own_folder=False)
    return target_of(path, backup=place, limits=Limits(disk_reserve=0), owner_sqlite="3.51.3")


def act_by_hand(target: Target, action: str) -> Run:
    options = {"restore": {"in_place": True}, "purge": {"older_than": 1.0}}
    return by_hand(target, action, **options.get(action, {}))


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("second_name", NAMES)
def test_no_action_touches_a_live_database_by_another_name(
    names: tuple[Path, Path], mode: str, second_name: OTHER_NAME
) -> None:
    first, second = names
    at_rest(first, mode)
    assert by_hand(target_at(first), "backup").outcome == "done"
    with application_at(first) as application, second_name(first, second):
        for action in TOUCHING:
            run = act_by_hand(target_at(second), action)
            assert (run.outcome, run.reason) == ("refused", "second_name"), f"{action}: {run.message}"
            assert f"process {application.pid} (" in run.message
            assert str(first) in run.message
            assert ("mount the folder" if second_name is single_mount else "remove the other names") in run.next_step
        assert by_rule(target_at(second), "checkpoint").reason == "second_name"
        assert planned(target_at(second), "requeue").figures["outcome"] == "refused"
        assert {path.name for path in second.parent.iterdir()} <= {"queue.db", "state"}, "not a file of ours beside it"
        commits = end_application(application)
    assert count_tasks(first) == 50 + commits


@pytest.mark.parametrize("mode", ["wal", "delete"])
@as_root
def test_no_action_touches_a_file_that_a_container_has_alone(names: tuple[Path, Path], mode: str) -> None:
    first, inside = names
    at_rest(first, mode)
    with application_in_container(first, inside) as application:
        for action in ("backup", "checkpoint", "requeue", "vacuum"):
            run = act_by_hand(target_at(first), action)
            assert (run.outcome, run.reason) == ("refused", "second_name"), f"{action}: {run.message}"
            assert str(inside) in run.message
        commits = end_application(application)
    assert commits > 0


def test_what_works_on_backups_alone_goes_on(names: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = names
    at_rest(first, "wal")
    assert by_hand(target_at(first), "backup").outcome == "done"
    with hard_link(first, second):
        for action, options in (("verify", {}), ("prune", {}), ("restore", {"to": str(tmp_path / "restored.db")})):
            run = by_hand(target_at(first), action, **options)
            assert run.outcome in ("done", "nothing_to_do"), f"{action}: {run.message}"
    assert count_tasks(tmp_path / "restored.db") == 50


def test_the_live_name_of_a_database_with_copies_by_hard_link_is_served(names: tuple[Path, Path]) -> None:
    first, second = names
    at_rest(first, "wal")
    with application_at(first) as application, hard_link(first, second):
        for action in ("backup", "checkpoint", "analyze"):
            run = act_by_hand(target_at(first), action)
            assert run.outcome in ("done", "nothing_to_do"), f"{action}: {run.message}"
        end_application(application)


def test_at_rest_no_name_is_acted_upon_but_a_copy_helps(names: tuple[Path, Path]) -> None:
    """The application may start by the other one at any time, and would not see our WAL."""
    first, second = names
    at_rest(first, "wal")
    with hard_link(first, second):
        for path in names:
            run = act_by_hand(target_at(path), "checkpoint")
            assert (run.outcome, run.reason) == ("refused", "second_name")
            assert "make copies instead of hard links" in run.next_step
        second.unlink()
    assert act_by_hand(target_at(first), "backup").outcome == "done"


def test_the_python_api_refuses_too(names: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = names
    at_rest(first, "wal")
    with application_at(first), hard_link(first, second):
        maintenance = QueueMaintenance(second, state=tmp_path / "state")
        for call in (maintenance.get_database_stats, maintenance.checkpoint, maintenance.analyze, maintenance.vacuum):
            with pytest.raises(QueueMaintenanceError, match="by another name"):
                call()
