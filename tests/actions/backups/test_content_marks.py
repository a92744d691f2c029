"""A backup of a database that lost its content is marked, prune is refused, and a person can accept the content as it is."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner

from actions.model.outcome import Outcome
from actions.store.content_seen import load_content_memory, record_content
from actions.store.database import state_store
from collectors.access.snapshot import Snapshot
from collectors.backup_catalog.catalog import Backup
from collectors.backup_catalog.order import newest_verified
from collectors.backup_catalog.store import find_backups
from collectors.poll import poll_database, remembered_snapshot
from collectors.raw_reader.client import RawReader
from collectors.storage import StorageReading
from collectors.target import BackupSettings, RetentionCounts, Target
from exporter.commands.backups import backups
from exporter.commands.status import status
from exporter.polling.content_memory import ContentKeeper, remembered_contents
from exporter.status.findings import find_database_problems
from tests.support.scenes import prismq
from tests.support.scenes.run_actions import by_hand, by_rule, target_of

Make = Callable[..., prismq.Queue]
FILL_MAIL = (
    "INSERT INTO mail WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT i FROM n"
)


def _scene(make_queue: Make, tmp_path: Path) -> Target:
    """A queue in rollback-journal mode with 300 tasks, no application on it, and one backup; retention keeps one."""
    queue = make_queue(journal_mode="delete")
    queue.put(number=300)
    queue.owner.close()
    keep = RetentionCounts(last=1, hourly=0, daily=0, weekly=0, monthly=0)
    target = target_of(queue.path, backup=BackupSettings(tmp_path / "backups", keep=keep))
    assert by_hand(target, "backup").outcome == Outcome.DONE
    return target


def _newest(target: Target) -> Backup | None:
    return newest_verified(find_backups(target), time.time())


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _make_again(path: Path) -> None:
    path.unlink()
    fresh = apsw.Connection(str(path))
    fresh.execute(prismq.SCHEMA)
    fresh.close()


def _sql(text: str) -> Callable[[Path], None]:
    def execute(path: Path) -> None:
        owner = apsw.Connection(str(path))
        owner.execute(text)
        owner.close()

    return execute


@pytest.mark.parametrize(
    "lose",
    [_empty, _make_again, _sql("DROP TABLE task_logs; DROP TABLE task_queue")],
    ids=["empty", "fresh", "dropped"],
)
def test_the_copy_of_what_is_left_never_costs_the_good_one_its_place(
    make_queue: Make, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    target = _scene(make_queue, tmp_path)
    good = _newest(target)
    assert good is not None
    lose(target.path)
    run = by_hand(target, "backup")
    assert run.outcome == Outcome.DONE
    assert "lost most of its content" in run.message
    marked = max(find_backups(target), key=lambda backup: backup.snapshot_time)
    assert marked.is_lossy
    assert marked.name != good.name
    assert _newest(target) == good
    pruned = by_hand(target, "prune")
    assert (pruned.outcome, pruned.reason) == (Outcome.REFUSED, "content_lost")
    assert "--accept-loss" in pruned.next_step
    assert "restore" in pruned.next_step
    back = by_hand(target, "restore", to=str(tmp_path / "back.db"))
    assert back.outcome == Outcome.DONE
    assert apsw.Connection(str(tmp_path / "back.db")).execute("SELECT count(*) FROM task_queue").get == 300


def test_automatic_actions_are_refused_and_copies_and_checks_are_not(make_queue: Make, tmp_path: Path) -> None:
    target = _scene(make_queue, tmp_path)
    _make_again(target.path)
    for action in ("checkpoint", "requeue", "analyze", "optimize", "prune"):
        run = by_rule(target, action, **({"guarded": True, "limit": 1} if action == "requeue" else {}))
        assert (run.outcome, run.reason) == (Outcome.REFUSED, "content_lost"), action
    for action in ("backup", "integrity"):
        assert by_rule(target, action).outcome == Outcome.DONE, action
    assert by_hand(target, "analyze").reason != "content_lost", "a person may"


def test_a_person_accepts_what_is_there(make_queue: Make, tmp_path: Path, raw: RawReader) -> None:
    target = _scene(make_queue, tmp_path)
    assert target.state is not None
    before = poll_database(target, None, time.time(), raw)
    _empty(target.path)
    lost = poll_database(target, before, time.time(), raw)
    assert [finding for finding in find_database_problems(lost, (), time.time()) if "lost most" in finding.what]
    accepted = by_hand(target, "backup", accept_loss=True)
    assert accepted.outcome == Outcome.DONE
    newest = _newest(target)
    assert newest is not None
    assert newest.manifest is not None
    assert newest.manifest.accepted_loss
    after = poll_database(target, lost, time.time() + 1, raw)
    assert not [finding for finding in find_database_problems(after, (), time.time()) if "lost most" in finding.what]
    with state_store(target.state) as store:
        assert load_content_memory(store, target.name).accepted_at == newest.manifest.snapshot_time
    assert by_hand(target, "prune").reason != "content_lost"


def test_the_agent_learns_of_an_acceptance_elsewhere(make_queue: Make, tmp_path: Path, raw: RawReader) -> None:
    queue = make_queue(journal_mode="delete")
    queue.put(number=300)
    queue.owner.close()
    target = target_of(queue.path)
    assert target.state is not None
    keeper = ContentKeeper(target.state)
    first = poll_database(target, keeper.previous_snapshot(target, None), time.time(), raw)
    keeper.on_snapshot(first)
    _empty(target.path)
    again = ContentKeeper(target.state)
    lost = poll_database(target, again.previous_snapshot(target, None), time.time(), raw)
    assert _great_loss(lost), "a restart forgets nothing"
    elsewhere = target_of(queue.path, backup=BackupSettings(tmp_path / "elsewhere"))
    assert by_hand(elsewhere, "backup", accept_loss=True).outcome == Outcome.DONE
    after = poll_database(target, again.previous_snapshot(target, lost), time.time() + 1, raw)
    assert not _great_loss(after)


def _great_loss(snapshot: Snapshot) -> bool:
    reading = snapshot.readings["storage"]
    assert isinstance(reading, StorageReading)
    return reading.content.great_loss is not None


def test_a_later_acceptance_is_not_overwritten(tmp_path: Path, make_queue: Make, raw: RawReader) -> None:
    queue = make_queue(journal_mode="delete")
    queue.put(number=30)
    target = target_of(queue.path)
    assert target.state is not None
    storage = poll_database(target, None, time.time(), raw).readings["storage"]
    assert isinstance(storage, StorageReading)
    reading = storage.content
    with state_store(target.state) as store:
        record_content(store, {"queue": reading.memory})
        store.execute("UPDATE content_seen SET accepted_at = 9e9")
        record_content(store, {"queue": reading.memory})
        assert load_content_memory(store, "queue").accepted_at == 9e9
    assert remembered_contents(target.state)["queue"].baselines() == ()
    assert remembered_contents(tmp_path / "none") == {}
    assert remembered_snapshot(target, reading.memory).signature is None


def test_status_tells_it_and_check_fails(make_queue: Make, tmp_path: Path) -> None:
    target = _scene(make_queue, tmp_path)
    file = tmp_path / "config.yaml"
    file.write_text(
        f"databases: [{{name: queue, path: {target.path}, backup: {{directory: {tmp_path / 'backups'}}}}}]\n"
        f"state: {target.state}\nlimits: {{disk_reserve: 1MiB}}\n"
    )
    arguments = ["--config.file", str(file), "--check"]
    assert CliRunner().invoke(status, arguments).exit_code == 0
    _empty(target.path)
    result = CliRunner().invoke(status, [*arguments, "--json"])
    assert result.exit_code == 1
    (fields,) = json.loads(result.output)
    assert "all 3 tables are gone" in fields["findings"][0]["what"]
    assert "--accept-loss" in fields["findings"][0]["cure"]


def test_a_nightly_drain_and_a_purge_leave_no_mark(make_queue: Make, tmp_path: Path) -> None:
    target = _scene(make_queue, tmp_path)
    _sql("DELETE FROM task_queue; VACUUM")(target.path)
    run = by_hand(target, "backup")
    assert "lost" not in run.message
    newest = _newest(target)
    assert newest is not None
    assert newest.manifest is not None
    assert newest.manifest.row_counts["task_queue"] == 0
    assert newest.manifest.last_numbers == {"task_queue": 300}


def test_what_was_accepted_once_as_empty_may_be_empty_every_night(
    make_queue: Make, tmp_path: Path, raw: RawReader
) -> None:
    path = tmp_path / "plain.db"
    _sql("CREATE TABLE mail (body); CREATE TABLE users (name)")(path)
    fill, drain = _sql(FILL_MAIL), _sql("DELETE FROM mail")
    target = target_of(path, backup=BackupSettings(tmp_path / "backups"))
    fill(path)
    first = poll_database(target, None, time.time(), raw)
    assert by_hand(target, "backup").outcome == Outcome.DONE
    drain(path)
    assert _great_loss(poll_database(target, first, time.time(), raw)), "no profile says that it drains"
    assert by_hand(target, "backup", accept_loss=True).outcome == Outcome.DONE
    agent = poll_database(target, first, time.time(), raw)
    for _night in range(2):
        fill(path)
        agent = poll_database(target, agent, time.time(), raw)
        assert by_hand(target, "backup").outcome == Outcome.DONE
        drain(path)
        agent = poll_database(target, agent, time.time(), raw)
        assert not _great_loss(agent)
        assert "lost" not in by_hand(target, "backup").message
    _empty(path)
    assert _great_loss(poll_database(target, agent, time.time(), raw)), "a file without its tables is no drained queue"


def test_a_word_for_another_database_in_the_folder_accepts_nothing(
    make_queue: Make, tmp_path: Path, raw: RawReader
) -> None:
    target = _scene(make_queue, tmp_path)
    target = replace(target, backup=BackupSettings(tmp_path / "backups", own_folder=False))
    before = poll_database(target, None, time.time(), raw)
    _empty(target.path)
    other = tmp_path / "other.db"
    _sql("CREATE TABLE mail (body)")(other)
    assert by_hand(target_of(other, backup=target.backup), "backup", accept_loss=True).outcome == Outcome.DONE
    assert any(backup.manifest and backup.manifest.accepted_loss for backup in find_backups(target))
    assert _great_loss(poll_database(target, before, time.time(), raw))


def test_the_list_says_which_copy_lacks_content(make_queue: Make, tmp_path: Path) -> None:
    target = _scene(make_queue, tmp_path)
    _empty(target.path)
    assert by_hand(target, "backup").outcome == Outcome.DONE
    assert target.backup is not None
    words = ["list", str(target.path), "--state", str(target.state), "--from", str(target.backup.directory / "queue")]
    newest, good = CliRunner().invoke(backups, words).output.splitlines()
    assert "verified" in newest
    assert "the database had lost most of its content: all 3 tables are gone" in newest
    assert "lost" not in good
    fields = json.loads(CliRunner().invoke(backups, [*words, "--json"]).output)
    assert [bool(each["content_lost"]) for each in fields] == [True, False]
