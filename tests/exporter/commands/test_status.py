"""status and config explain tell in words what is wrong, what would act, and why not; they change nothing."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from actions.model.outcome import Outcome
from actions.model.request import Request
from actions.policy.suspension import SuspensionState
from actions.store import runs
from actions.store.database import state_store
from actions.store.pause import set_pause
from actions.store.suspensions import save_suspension
from exporter.commands.config import config
from exporter.commands.pause import pause as pause_command
from exporter.commands.pause import resume
from exporter.commands.status import status
from exporter.config.load import example_text
from tests.support.scenes import prismq

RULES = """
state: FOLDER/state
actions: {enabled: true}
rules:
  - name: stale-leases
    when: {sqlite_queue_stale_leases: {above: 0}}
    on: {threshold: {for: 2m}}
    do: requeue
    options: {guarded: true, limit: 500}
  - name: unguarded
    when: {sqlite_queue_stale_leases: {above: 0}}
    on: {threshold: {for: 2m}}
    do: requeue
  - name: wal
    when: {sqlite_wal_backlog_bytes: {above: 64MiB, clear: 8MiB}}
    on: {alert: ['alertname="QueueWalBacklog"']}
    do: checkpoint
"""
Make = Callable[..., prismq.Queue]


def run(command: click.Command, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def configured(folder: Path, databases: str, rest: str = "state: FOLDER/state\n") -> Path:
    file = folder / "queuekeeper.yaml"
    file.write_text(f"databases: [{databases}]\n{rest}".replace("FOLDER", str(folder)))
    return file


def rules_of(file: Path) -> dict[str, dict[str, object]]:
    result = run(config, "explain", file, "--json")
    assert result.exit_code == 0, result.output
    (report,) = json.loads(result.output)
    return {rule["rule"]: rule for rule in report["rules"]}


def test_healthy_databases_are_ok_and_the_check_passes(make_queue: Make, tmp_path: Path) -> None:
    make_queue("a.db").put()
    make_queue("b.db").put()
    before = sorted(tmp_path.iterdir())
    file = configured(tmp_path, "{path: 'FOLDER/*.db'}")
    result = run(status, "--check", "--config.file", file)
    assert result.exit_code == 0
    assert result.output == "a: ok\nb: ok\n2 databases, all are well; acting is disabled: observe only\n"
    assert sorted(path for path in tmp_path.iterdir() if path != file) == before


def test_what_is_wrong_is_said_with_what_to_do_and_fails_the_check(make_queue: Make, tmp_path: Path) -> None:
    make_queue("fine.db").put()
    make_queue("stale.db").leased(time.time() - 100_000, 3)
    (tmp_path / "broken.db").write_bytes(b"this is no database" * 100)
    file = configured(tmp_path, "{path: 'FOLDER/*.db'}, {name: gone, path: FOLDER/none.sqlite}")
    result = run(status, "--check", "--config.file", file)
    assert result.exit_code == 1
    lines = {line.partition(":")[0]: line for line in result.output.splitlines()}
    assert lines["fine"] == "fine: ok"
    assert lines["stale"] == "stale: 3 tasks have a stale lease; do: queuekeeper leases stale"
    assert "no SQLite database, or it is encrypted" in lines["broken"]
    assert "is not there" in lines["gone"]
    assert "something is wrong with 3" in result.output
    assert run(status, "--config.file", file).exit_code == 0, "only --check makes an exit code of it"


def test_a_missing_backup_is_wrong_only_where_backups_are_configured(make_queue: Make, tmp_path: Path) -> None:
    make_queue("jobs.db").put()
    file = configured(tmp_path, "{name: jobs, path: FOLDER/jobs.db, backup: {directory: FOLDER/backups}}")
    (report,) = json.loads(run(status, "--json", "--config.file", file).output)
    assert report["ok"] is False
    assert [finding["what"] for finding in report["findings"]] == ["it has no verified backup"]


def test_an_application_that_is_down_is_no_fault_and_is_left_alone(queue: prismq.Queue, tmp_path: Path) -> None:
    queue.owner.close()
    before = sorted(tmp_path.iterdir())
    file = configured(tmp_path, "{name: jobs, path: FOLDER/queue.db}")
    result = run(status, "--check", "--config.file", file)
    assert result.exit_code == 0
    assert "no application has it open" in result.output
    assert sorted(path for path in tmp_path.iterdir() if path != file) == before


def test_a_rule_of_the_configuration_that_is_broken_is_a_finding(make_queue: Make, tmp_path: Path) -> None:
    make_queue("jobs.db").put("queued", 5)
    rule = "{name: many, when: {sqlite_queue_tasks: {above: 3}}, on: {threshold: {for: 1s}}, do: checkpoint}"
    file = configured(tmp_path, "{name: jobs, path: FOLDER/jobs.db}", f"state: FOLDER/state\nrules: [{rule}]\n")
    assert "rule many: sqlite_queue_tasks is 5" in run(status, "--config.file", file).output


def test_a_glob_that_matches_nothing_is_said(tmp_path: Path) -> None:
    result = run(status, "--config.file", configured(tmp_path, "{path: 'FOLDER/*.db'}"))
    assert result.exit_code == 2
    assert "no database exists now" in result.output


def test_explain_tells_what_would_act_and_what_prevents_it(queue: prismq.Queue, tmp_path: Path) -> None:
    queue.leased(time.time() - 100_000, 2)
    file = configured(tmp_path, "{name: jobs, path: FOLDER/queue.db, settings: {grace: 90s}}", RULES)
    rules = rules_of(file)
    assert (rules["stale-leases"]["acts"], rules["stale-leases"]["value"]) == (True, 2)
    assert rules["stale-leases"]["reason"] == "requeue once it held for 2m"
    assert not rules["unguarded"]["acts"]
    assert "guarded" in str(rules["unguarded"]["reason"])
    assert (rules["wal"]["acts"], rules["wal"]["reason"]) == (False, "nothing is wrong")
    assert rules["wal"]["bound"] == "above 67108864, healed at 8388608"
    assert not (tmp_path / "state").exists(), "no history is made by asking"
    text = run(config, "explain", file).output
    assert "profile: prismq" in text
    assert "grace = 90 (configured)" in text
    assert "stale-leases: sqlite_queue_stale_leases is 2, wrong above 0: would act" in text


def test_explain_knows_the_pause_the_cooldown_and_the_switch(queue: prismq.Queue, tmp_path: Path) -> None:
    queue.leased(time.time() - 100_000, 2)
    database = "{name: jobs, path: FOLDER/queue.db}"
    with state_store(tmp_path / "state") as store:
        store.execute(
            "INSERT INTO run (database, path, action, request, trigger, rule, episode, priority, state, requested_at,"
            " ended_at, outcome) VALUES ('jobs', '', 'requeue', '{}', 'threshold', '', '', 0, 'ended', 0, ?, 'done')",
            (time.time() - 60,),
        )
    file = configured(tmp_path, database, RULES)
    assert str(rules_of(file)["stale-leases"]["reason"]).startswith("cooldown: 8m")
    with state_store(tmp_path / "state") as store:
        set_pause(store, "by a test")
    assert "paused (by a test)" in str(rules_of(file)["stale-leases"]["reason"])
    file = configured(tmp_path, database, RULES.replace("enabled: true", "enabled: false"))
    assert rules_of(file)["stale-leases"]["reason"] == "acting is disabled (actions.enabled)"


def test_explain_knows_what_is_suspended_and_what_a_person_should_do(queue: prismq.Queue, tmp_path: Path) -> None:
    queue.leased(time.time() - 100_000, 2)
    file = configured(tmp_path, "{name: jobs, path: FOLDER/queue.db}", RULES)
    with state_store(tmp_path / "state") as store:
        stands = SuspensionState(
            2, 1_772_420_400.0, 0.0, False, "stale-leases", None, "moved nothing", "look at the workers"
        )
        save_suspension(store, "jobs", "requeue", stands)
    reason = str(rules_of(file)["stale-leases"]["reason"])
    assert reason == (
        "suspended since 2026-03-02 03:00:00Z: 2 runs in a row did not help, the last: moved nothing "
        "(look at the workers; then: queuekeeper resume)"
    )
    assert "1 suspensions are lifted" in run(resume, "--state", tmp_path / "state").output
    assert rules_of(file)["stale-leases"]["acts"]


def test_explain_knows_what_waits_and_which_bounds_are_used_up(queue: prismq.Queue, tmp_path: Path) -> None:
    queue.leased(time.time() - 100_000, 2)
    tight = RULES.replace(
        "{enabled: true}", "{enabled: true, quota_per_hour: 1, blast_radius: {databases: 1, share: 0}}"
    )
    file = configured(tmp_path, "{name: jobs, path: FOLDER/queue.db}", tight)
    with state_store(tmp_path / "state") as store:
        other = Request("requeue", "other", "threshold", rule="stale-leases")
        claim = runs.enqueue_and_claim(store, other, "/other.db", time.time())
        runs.end_run(store, claim, runs.RunEnding(Outcome.DONE, "done"), time.time())
    assert "1 databases within 600 s, 1 are allowed" in str(rules_of(file)["stale-leases"]["reason"])
    with state_store(tmp_path / "state") as store:
        claim = runs.enqueue_and_claim(store, Request("backup", "jobs", "schedule"), "/jobs.db", time.time())
        runs.end_run(store, claim, runs.RunEnding(Outcome.DONE, "done"), time.time())
    assert "quota_per_hour" in str(rules_of(file)["stale-leases"]["reason"])
    with state_store(tmp_path / "state") as store:
        runs.enqueue_run(store, Request("requeue", "jobs", "threshold"), "/jobs.db", time.time())
    assert rules_of(file)["stale-leases"]["reason"] == "requeue waits or runs already (run 3)"


def test_explain_tells_when_each_schedule_comes_next_and_what_would_hold_it(
    queue: prismq.Queue, tmp_path: Path
) -> None:
    schedules = 'schedules: [{name: newyear, cron: "0 0 1 1 *", do: checkpoint}]\n'
    file = configured(tmp_path, "{name: jobs, path: FOLDER/queue.db}", RULES + schedules)
    year = time.gmtime().tm_year + 1
    assert f"schedule newyear: next checkpoint at {year}-01-01 00:00:00Z\n" in run(config, "explain", file).output
    with state_store(tmp_path / "state") as store:
        set_pause(store, "by a test")
    assert "actions are paused (by a test): it waits" in run(config, "explain", file).output
    file.write_text(file.read_text().replace("enabled: true", "enabled: false"))
    assert "; acting is disabled (actions.enabled)" in run(config, "explain", file).output


def test_explain_tells_of_an_absence(queue: prismq.Queue, tmp_path: Path) -> None:
    rule = """rules:
  - name: never
    when: {sqlite_backup_age_seconds: {absent: 26h}}
    on: {threshold: {for: 0s}}
    do: backup
actions: {enabled: true}
state: FOLDER/state
"""
    file = configured(tmp_path, "{name: jobs, path: FOLDER/queue.db, backup: {directory: FOLDER/backups}}", rule)
    rule_state = rules_of(file)["never"]
    assert (rule_state["value"], rule_state["bound"], rule_state["acts"]) == (None, "absent for 1d 2h", True)
    assert rule_state["reason"] == "backup once it held for 1d 2h"
    assert (
        "sqlite_backup_age_seconds is absent, wrong absent for 1d 2h: would act" in run(config, "explain", file).output
    )


def test_explain_without_a_reading_says_that_nothing_is_known(tmp_path: Path) -> None:
    file = configured(tmp_path, "{name: jobs, path: FOLDER/none.db}", RULES)
    assert "could not be read" in str(rules_of(file)["stale-leases"]["reason"])
    assert "profile: not known while it cannot be read" in run(config, "explain", file).output


def test_the_schema_names_every_key_of_the_example() -> None:
    result = run(config, "schema")
    schema = json.loads(result.output)
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"databases"}
    keys = {line.partition(":")[0] for line in example_text().splitlines() if line[:1].isalpha()}
    assert keys <= set(schema["properties"])
    threshold = schema["$defs"]["ThresholdPart"]["properties"]["for"]
    assert threshold["type"] == ["string", "integer"]
    assert "15s" in threshold["examples"]


@pytest.mark.parametrize("command", [pause_command, resume])
def test_a_history_that_cannot_be_used_is_one_line(command: click.Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(command, "--state", tmp_path / "file" / "state")
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert "cannot use the history" in result.output
