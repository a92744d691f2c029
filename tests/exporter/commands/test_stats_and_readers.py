"""stats and readers tell what is there, of a path or a configured name, and change nothing."""

import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from collectors.raw_reader.formats import LockRow
from collectors.raw_reader.wal_readers import HeldLock
from exporter.commands.config import config
from exporter.commands.database_argument import default_state_directory, resolve_history_scope, resolve_target
from exporter.commands.leases import leases
from exporter.commands.readers import group_by_process, readers
from exporter.commands.stats import stats, value_in_words
from tests.support.scenes import prismq
from tests.support.scenes.second_names import application_at

Hold = Callable[[Path], AbstractContextManager[int]]


def run(command: click.Command, *arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], env=environment)


def configured(folder: Path, text: str) -> Path:
    file = folder / "queuekeeper.yaml"
    file.write_text(text)
    return file


def test_stats_shows_every_reading_and_changes_nothing(queue: prismq.Queue) -> None:
    queue.put("queued", 3)
    before = sorted(path.name for path in queue.path.parent.iterdir())
    result = run(stats, queue.path, "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.output)
    values = {(sample["name"], tuple(sample["labels"].values())): sample["value"] for sample in data["samples"]}
    assert (data["database"], data["up"], data["state"]) == ("queue", True, "readable")
    assert values["sqlite_database_size_bytes", ()] == queue.path.stat().st_size
    assert values["sqlite_queue_tasks", ("mail", "waiting")] == 3
    assert values["sqlite_wal_state", ("unknown",)] == 0, "two readings are enough to know the state"
    assert all(result["success"] for result in data["collectors"].values())
    assert sorted(path.name for path in queue.path.parent.iterdir()) == before


def test_stats_speaks_to_people_in_their_units(queue: prismq.Queue) -> None:
    queue.put("queued", 3)
    text = run(stats, queue.path).output
    assert text.startswith("queue: readable\n")
    assert "KiB" in text
    assert "tasks mail waiting" in " ".join(text.split())
    assert "page layout as of" in text


def test_stats_says_that_the_owner_is_down_and_leaves_no_file(queue: prismq.Queue) -> None:
    queue.put()
    queue.owner.close()
    before = sorted(queue.path.parent.iterdir())
    result = run(stats, queue.path, "--json")
    data = json.loads(result.output)
    assert data["state"] == "owner_down"
    assert data["message"]
    assert sorted(queue.path.parent.iterdir()) == before


def test_stats_names_what_could_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database at all, but long enough for a header" * 10)
    result = run(stats, tmp_path / "x.db")
    assert result.exit_code == 1
    assert "not read" in result.output


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("a_bytes", 67_108_864.0, "64.0 MiB"),
        ("a_seconds", 93_784.0, "1d 2h 3m"),
        ("a_timestamp_seconds", 0.0, "1970-01-01 00:00:00Z"),
        ("a_ratio", 0.123, "12.3%"),
        ("tasks", 3.0, "3"),
    ],
)
def test_values_are_said_by_the_unit_of_their_name(name: str, value: float, words: str) -> None:
    assert value_in_words(name, value) == words


def test_readers_names_the_process_that_pins_the_log(queue: prismq.Queue, held_reader: Hold) -> None:
    queue.put()
    with held_reader(queue.path) as pid:
        queue.put(number=5)
        data = json.loads(run(readers, queue.path, "--json").output)
    (pinning,) = [reader for reader in data["readers"] if reader["pid"] == pid]
    assert "held_reader.py" in pinning["command_line"]
    assert pinning["locks"] == ["reads"]
    assert pinning["mark"] < data["frames"]
    assert pinning["holds_back"] > 0
    assert data["readers"][0] == pinning, "the process that blocks comes first"


def test_readers_is_one_line_for_each_process(queue: prismq.Queue, held_reader: Hold) -> None:
    queue.put()
    with held_reader(queue.path) as pid:
        queue.put()
        text = run(readers, queue.path).output
    assert f"pid {pid}  reads at frame" in text
    assert "held_reader.py" in text
    assert f"pid {os.getpid()}  connected" in text


def test_readers_of_an_unused_database_lists_no_process(queue: prismq.Queue) -> None:
    queue.owner.close()
    assert "no process holds a lock" in run(readers, queue.path).output


def test_the_action_lock_and_the_write_lock_are_named() -> None:
    def row(kind: str, start: int, end: int) -> LockRow:
        return LockRow(kind, "WRITE", 7, 8, 1, 99, start, end)

    holders = (
        HeldLock("db", row("FLOCK", 0, 2**63 - 1), "python", "x"),
        HeldLock("shm", row("POSIX", 120, 120), "python", "x"),
    )
    (process,) = group_by_process(None, holders)
    assert process.locks == ("action", "writes")


def test_a_configured_name_brings_its_settings(queue: prismq.Queue) -> None:
    folder = queue.path.parent
    file = configured(
        folder, f"databases:\n  - {{name: jobs, path: {queue.path}, owner_sqlite: 3.51.3}}\nstate: here\n"
    )
    for word in ("jobs", str(queue.path)):
        target = resolve_target(word, str(file), None)
        assert (target.name, target.owner_sqlite, target.state) == ("jobs", "3.51.3", folder / "here")
    assert resolve_target("jobs", str(file), Path("/elsewhere")).state == Path("/elsewhere")
    assert json.loads(run(stats, "jobs", "--json", QUEUEKEEPER_CONFIG=str(file)).output)["database"] == "jobs"


def test_a_bare_path_keeps_its_history_in_the_persons_state_directory(
    queue: prismq.Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/home/x/state")
    assert resolve_target(str(queue.path), None, None).state == Path("/home/x/state/queuekeeper")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/y")
    assert default_state_directory() == Path("/home/y/.local/state/queuekeeper")


def test_what_cannot_be_meant_is_one_line_and_exit_2(queue: prismq.Queue) -> None:
    folder = queue.path.parent
    file = configured(folder, f"databases:\n  - {{name: jobs, path: {queue.path}}}\n")
    cases: list[tuple[tuple[object, ...], str]] = [
        (("nowhere.db",), "Error: nowhere.db not found; give the path of an existing file, or a configured name with"),
        ((folder,), "is a directory"),
        (
            ("job", "--config.file", file),
            'Error: job not found; give a path, or a configured name; did you mean "jobs"?',
        ),
        (("jobs", "--config.file", folder / "none.yaml"), "cannot be read: No such file or directory"),
    ]
    for arguments, says in cases:
        result = run(stats, *arguments)
        assert result.exit_code == 2
        assert says in result.output
        assert "Usage" not in result.output


def test_the_history_of_a_deleted_database_is_printed(queue: prismq.Queue) -> None:
    state = queue.path.parent / "state"
    assert resolve_history_scope(None, None, state) == (None, state)
    assert resolve_history_scope("gone", None, state) == ("gone", state)
    assert resolve_history_scope(str(queue.path), None, state) == ("queue", state)


def test_config_check_says_ok_or_every_error(queue: prismq.Queue) -> None:
    folder = queue.path.parent
    file = configured(
        folder,
        f"databases:\n  - path: {queue.path}\n  - path: /gone/x.db\nstate: s\n"
        "schedules: [{name: s, cron: 0 3 * * *, do: backup}]\n"
        "actions: {windows: {restore: '02:00-04:00'}}\n",
    )
    result = run(config, "check", file)
    assert result.exit_code == 0
    assert "ok; databases: 2 (1 missing now), rules: 0; acting is disabled: observe only" in result.output
    assert f"warning: {file}:5: schedules[0].do: queue has no backup directory: " in result.output
    assert f"warning: {file}:6: actions.windows.restore: restore never runs automatically" in result.output
    bad = run(config, "check", configured(folder, "databases:\n  - pat: x\nrule: 1\n"))
    assert bad.exit_code == 2
    assert len(bad.output.splitlines()) == 3


def test_the_printed_example_passes_its_own_check(tmp_path: Path) -> None:
    file = configured(tmp_path, run(config, "example").output)
    result = run(config, "check", file)
    assert (result.exit_code, result.stderr) == (0, "")


def test_leases_names_the_tasks_and_their_holders_and_changes_nothing(queue: prismq.Queue) -> None:
    queue.leased(time.time() - 100_000, 2)
    result = run(leases, queue.path)
    assert result.exit_code == 0, result.output
    assert "give 2 tasks back to the queue" in result.output
    assert "held by worker-1" in result.output
    assert queue.value("SELECT count(*) FROM task_queue WHERE status = 'leased'") == 2


def test_readers_tells_that_a_process_works_by_another_name(queue: prismq.Queue, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere.db"
    os.link(queue.path, other)
    with application_at(queue.path) as application:
        answer = run(readers, other, "--seconds", 0)
        assert f"process {application.pid} (" in answer.output
        assert f"by another name ({queue.path})" in answer.output
        assert "by another name" in json.loads(run(readers, other, "--seconds", 0, "--json").output)["problem"]
        assert json.loads(run(readers, queue.path, "--seconds", 0, "--json").output)["problem"] == ""
