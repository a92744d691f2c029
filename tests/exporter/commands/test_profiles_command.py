"""`queuekeeper profiles`: clear words, and the documentation's own profile works as it says."""

import json
import re
import time
from pathlib import Path

import apsw
import click
import pytest
from click.testing import CliRunner, Result

from collectors.poll import poll_database
from collectors.queue_profiles import detection
from collectors.raw_reader.client import RawReader
from exporter.commands.main import main
from tests.support.scenes import queue_files
from tests.support.scenes.run_actions import by_hand, target_of

DOCUMENT = Path(__file__).parents[3] / "docs" / "profiles.md"


def run(*arguments: object) -> Result:
    assert isinstance(main, click.Command)
    return CliRunner().invoke(main, ["profiles", *map(str, arguments)])


def block(language: str, containing: str) -> str:
    """The code block of the document that contains this."""
    blocks = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (matching,) = (each for each in blocks if containing in each)
    return str(matching)


def test_the_list_names_every_profile_and_what_it_may_do() -> None:
    lines = run("list").output.splitlines()
    assert [line.split()[0] for line in lines] == [profile.name for profile in detection.shipped_profiles()]
    assert any(line.startswith("liteque") and "requeue safe" in line for line in lines)
    assert any(line.startswith("generic") and "needs settings: table" in line for line in lines)


@pytest.mark.parametrize("profile", detection.shipped_profiles(), ids=lambda profile: profile.name)
def test_each_can_be_shown_and_is_in_the_documentation(profile: detection.QueueProfile) -> None:
    result = run("show", profile.name)
    assert result.exit_code == 0
    for setting in profile.settings:
        assert f"setting {setting}: " in result.output
    assert f"| `{profile.name}` |" in DOCUMENT.read_text()


def test_an_unknown_name_is_one_line_that_names_the_known() -> None:
    result = run("show", "celery")
    assert (result.exit_code, len(result.output.splitlines())) == (2, 1)
    assert "known: generic, huey" in result.output


def test_detect_says_what_a_file_is(tmp_path: Path) -> None:
    with queue_files.owned(tmp_path / "l.db", queue_files.LITEQUE, queue_files.HUEY):
        result = run("detect", tmp_path / "l.db")
        assert (result.exit_code, result.output) == (0, f"{tmp_path / 'l.db'}: huey, liteque\n")
        assert json.loads(run("detect", tmp_path / "l.db", "--json").output)["profiles"] == ["huey", "liteque"]


def test_detect_says_who_came_nearest_and_what_is_missing(tmp_path: Path) -> None:
    with queue_files.owned(tmp_path / "x.db", queue_files.LITEQUE.replace("expireAt", "expires")):
        result = run("detect", tmp_path / "x.db")
        assert result.exit_code == 1
        assert "nearest: liteque, but table tasks has no column expireAt" in result.output
        assert "profile: generic" in result.output
    with queue_files.owned(tmp_path / "y.db", "CREATE TABLE notes (a);"):
        result = run("detect", tmp_path / "y.db")
        assert "nearest" not in result.output
        assert "its tables: notes" in result.output


def test_detect_leaves_no_file_beside_a_database_without_a_running_owner(tmp_path: Path) -> None:
    with queue_files.owned(tmp_path / "l.db", queue_files.LITEQUE):
        pass
    before = sorted(tmp_path.iterdir())
    result = run("detect", tmp_path / "l.db")
    assert (result.exit_code, len(result.output.splitlines())) == (2, 1)
    assert "no application has it open" in result.output
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    file = tmp_path / "outbox.yaml"
    file.write_text(block("yaml", "name: outbox"))
    return file


def test_the_walk_throughs_profile_works_on_its_table(outbox: Path, tmp_path: Path, raw: RawReader) -> None:
    now = time.time()
    with queue_files.owned(tmp_path / "work.db", block("sql", "CREATE TABLE outbox")) as owner:
        for state, claimed, tries in (
            (0, None, 0),
            (1, now - 1000, 0),
            (1, now - 1000, 5),
            (1, now - 5, 0),
            (2, now, 0),
        ):
            taken_at = None if claimed is None else int(claimed * 1000)
            queue_files.add(owner, "outbox", address="a", lane="fast", state=state, send_after=int((now - 30) * 1000),
                            taken_at=taken_at, tries=tries, sent_at=int((now - 8e5) * 1000))  # fmt: skip
        assert run("check", outbox).output.startswith(f"{outbox}: ok; profile outbox")
        checked = run("check", outbox, tmp_path / "work.db")
        assert checked.exit_code == 0, checked.output
        assert "waiting (outbox): fast 1" in checked.output
        assert "requeue (guarded): 2 statements are accepted" in checked.output
        assert owner.execute("SELECT count(*) FROM outbox").get == 5

        target = target_of(tmp_path / "work.db", profile=str(outbox))
        snapshot = poll_database(target, None, now, raw)
        stale = {s.labels: s.value_at(now) for s in snapshot.samples_of("sqlite_queue_stale_leases")}
        assert stale == {("fast",): 2}
        ages = [s.value_at(now) for s in snapshot.samples_of("sqlite_queue_oldest_waiting_age_seconds")]
        assert ages == [pytest.approx(30, abs=0.01)]
        assert by_hand(target, "requeue").message.startswith("requeued 1 task, 1 had no attempts left and are dead")
        assert owner.execute("SELECT group_concat(state, '' ORDER BY id) FROM outbox").get == "00312"


def test_the_settings_of_the_documentations_home_made_table_are_known() -> None:
    named = set(re.findall(r"(\w+): ", block("yaml", "profile: generic").split("settings:")[1]))
    assert named
    assert named <= set(detection.find_profile("generic").settings)


def test_check_names_every_mistake_and_where_it_stops(outbox: Path, tmp_path: Path) -> None:
    text = outbox.read_text()
    for wrong, says in (
        (("state: waiting", "state: wating"), "rows[0].state: Input should be 'waiting'"),
        (("since: send_after", "since: sent_after"), "column 'sent_after' of outbox is not named in `detect`"),
        (("@ago(stale_after)", "@ago(stale)"), "no setting is called 'stale'"),
        (("time: unix_ms", "time: stardate"), "'stardate' is no time format"),
    ):
        outbox.write_text(text.replace(*wrong))
        result = run("check", outbox)
        assert (result.exit_code, len(result.output.splitlines())) == (2, 1), result.output
        assert says in result.output
    outbox.write_text(text.replace('"state = 2"', '"(SELECT count(*) FROM users) > 0"'))
    with queue_files.owned(tmp_path / "w.db", block("sql", "CREATE TABLE outbox"), "CREATE TABLE users (password);"):
        result = run("check", outbox, tmp_path / "w.db")
        assert result.exit_code == 2
        assert "Error: the queue profile may not read users: it does not declare that" in result.output
    with queue_files.owned(tmp_path / "v.db", "CREATE TABLE other (a);"):
        outbox.write_text(text)
        result = run("check", outbox, tmp_path / "v.db")
        assert "it has no table outbox" in result.output


def test_check_takes_settings(tmp_path: Path) -> None:
    generic = detection.SHIPPED_DIRECTORY / "generic.yaml"
    with queue_files.owned(tmp_path / "w.db", "CREATE TABLE work (id, state);") as owner:
        owner.execute("INSERT INTO work VALUES (1, 'new')")
        result = run("check", generic, tmp_path / "w.db", "--set", "table=work", "--set", "status=state")
        assert result.exit_code == 0, result.output
        assert "waiting (work): (no name) 1" in result.output
        assert "write NAME=VALUE" in run("check", generic, tmp_path / "w.db", "--set", "table").output
        assert "grace is a number" in run("check", generic, tmp_path / "w.db", "--set", "grace=x").output


def test_a_queue_that_is_held_is_said_in_one_line(tmp_path: Path) -> None:
    with queue_files.owned(tmp_path / "l.db", queue_files.LITEQUE, journal_mode="delete") as owner:
        owner.execute("BEGIN EXCLUSIVE")
        result = run("detect", tmp_path / "l.db")
        owner.execute("ROLLBACK")
    assert isinstance(owner, apsw.Connection)
    assert (result.exit_code, len(result.output.splitlines())) == (2, 1), result.output
