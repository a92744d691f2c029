"""`queuekeeper history`: who asked, what was changed since, and the verification of the whole chain with its exit code."""

import json
import os
import time
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner, Result

from actions.store.database import history_file, state_store
from actions.store.totals import read_totals
from exporter.commands.main import main
from tests.support.scenes import prismq

ME = f"uid {os.getuid()}"


def run(state: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--state", str(state)])


def change(state: Path, statement: str) -> None:
    connection = apsw.Connection(str(history_file(state)))
    connection.execute(statement)
    connection.close()


@pytest.fixture
def state(tmp_path: Path, queue: prismq.Queue) -> Path:
    """A history with two runs."""
    for _ in range(2):
        assert run(tmp_path / "state", "analyze", queue.path).exit_code == 0
    return tmp_path / "state"


def test_a_run_of_the_command_line_names_the_user(state: Path, queue: prismq.Queue) -> None:
    assert "; requested by user " in run(state, "history").output
    newest = json.loads(run(state, "history", "--json").output)[0]
    assert ME in newest["requested_by"]
    assert newest["record"] == "whole"
    printed = json.loads(run(state, "analyze", queue.path, "--json").output)
    assert ME in printed["requested_by"]


def test_a_whole_history(state: Path) -> None:
    result = run(state, "history", "--verify")
    fields = json.loads(run(state, "history", "--verify", "--json").output)
    assert (result.exit_code, result.output.startswith("2 runs verified, head ")) == (0, True)
    assert fields["head"] in result.output
    assert (fields["verified"], fields["runs"], fields["faults"]) == (True, 2, [])
    newest = json.loads(run(state, "history", "--json").output)[0]
    assert newest["record_hash"] == fields["head"]
    assert run(state, "history", "queue", "--verify", "--head", fields["head"]).exit_code == 0
    assert "2 of this database" in run(state, "history", "queue", "--verify").output
    assert "0 of this database" in run(state, "history", "other", "--verify").output


def test_a_message_that_was_changed_is_marked_and_named_with_its_time(state: Path) -> None:
    change(state, "UPDATE run SET message = 'all is well' WHERE id = 1")
    first, second = run(state, "history").output.splitlines()
    assert "#1 queue analyze (changed after it was written): " in first
    assert "(changed" not in second
    result = run(state, "history", "--verify")
    assert (result.exit_code, "run 1 was changed after it was written (recorded 2" in result.output) == (1, True)
    fields = json.loads(run(state, "history", "--verify", "--json").stdout)
    assert (fields["verified"], fields["faults"][0]["kind"], fields["faults"][0]["run"]) == (False, "changed", 1)
    assert fields["faults"][0]["time"] > 0
    assert [entry["record"] for entry in json.loads(run(state, "history", "--json").output)] == ["whole", "changed"]


SENSELESS_VALUES = [
    "request = 'x'", "figures = '{'", "ended_at = 'x'", "ended_at = 9e99", "message = CAST(x'ff' AS TEXT)", "outcome = 7",
    "effect = 'x', before = 'y'", "requested_at = 'x', started_at = 'x', ended_at = NULL", "plan = '[]'",
    "message = char(27) || '[2J'",
]  # fmt: skip


@pytest.mark.parametrize("value", SENSELESS_VALUES)
def test_a_row_that_makes_no_sense_hides_no_other(state: Path, value: str) -> None:
    change(state, f"UPDATE run SET {value} WHERE id = 1")
    result = run(state, "history")
    assert result.exit_code == 0, result.output
    assert "(changed after it was written)" in result.output
    assert "#2 queue analyze: " in result.output
    assert len(json.loads(run(state, "history", "--json").output)) == 2
    assert run(state, "history", "--verify").exit_code == 1


@pytest.mark.parametrize("value", SENSELESS_VALUES)
def test_a_row_that_makes_no_sense_stops_no_action_and_no_metric(
    state: Path, queue: prismq.Queue, tmp_path: Path, value: str
) -> None:
    (tmp_path / "backups").mkdir()
    change(state, "UPDATE run SET action = 'backup' WHERE id = 1")
    change(state, f"UPDATE run SET {value}")
    for arguments in (("backup", queue.path, "--to", tmp_path / "backups"), ("analyze", queue.path)):
        result = run(state, *arguments)
        assert result.exit_code == 0, result.output
    change(state, f"UPDATE run SET {value}, action = 'drill'")
    with state_store(state) as history:
        read_totals(history, time.time())


def test_a_deleted_and_an_inserted_run(state: Path) -> None:
    change(state, "DELETE FROM run WHERE id = 1")
    assert "run 1 is missing: it was deleted (recorded 2" in run(state, "history", "--verify").output
    change(state, "UPDATE run SET id = 9 WHERE id = 2")
    assert "inserted: queuekeeper did not record it" in run(state, "history").output


def test_the_head_of_a_later_history(state: Path, queue: prismq.Queue) -> None:
    assert run(state, "history", "--verify", "--head", "0" * 64).exit_code == 1
    assert run(state, "history", "--head", "0" * 64).exit_code == 2
    assert run(state, "history", "--verify", "--head", "many").exit_code == 2


def test_no_history_yet(tmp_path: Path) -> None:
    result = run(tmp_path / "none", "history", "--verify")
    assert (result.exit_code, result.output) == (0, "0 runs verified, no head: the history is empty\n")
    assert run(tmp_path / "none", "history", "--verify", "--head", "0" * 64).exit_code == 1
    assert not (tmp_path / "none").exists()


def test_a_chain_that_was_dropped_is_an_error_of_one_line(state: Path) -> None:
    change(state, "DROP TABLE chain")
    for arguments in (("history",), ("history", "--verify")):
        result = run(state, *arguments)
        assert (result.exit_code, result.output.count("\n")) == (1, 1)
        assert "cannot use the history in" in result.output


def test_who_paused_and_resumed(state: Path) -> None:
    assert "never paused" in run(state, "history", "--pauses").output
    run(state, "pause", "--reason", "release\n42")
    run(state, "resume")
    paused, resumed = run(state, "history", "--pauses").output.splitlines()
    assert "actions were paused (by user " in paused
    assert "release 42" in paused
    assert "actions were resumed by user " in resumed
    fields = json.loads(run(state, "history", "--pauses", "--json").output)
    assert [entry["event"] for entry in fields] == ["resumed", "paused"]
    assert all(ME in entry["requested_by"] for entry in fields)
    assert run(state, "history", "--verify").exit_code == 0
