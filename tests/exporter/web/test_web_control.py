"""Reload, pause and resume over HTTP need the right to act and answer with reasons; on a real agent."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import httpx
import pytest

from actions.model.request import Request
from actions.store.database import state_store
from actions.store.runs import enqueue_run as ask_run
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import agent_process, prismq

TOKEN = "correct-horse-battery-staple"
CONFIG = """
databases:
  - {name: jobs, path: FOLDER/jobs.db}
poll: {interval: 1s, rescan: 1s}
actions:
  enabled: true
  allow: {token_files: [FOLDER/token]}
rules:
  - {name: stale, when: {sqlite_queue_stale_leases: {above: 0}}, on: {threshold: {for: 1h}}, do: requeue}
state: FOLDER/state
"""
ENDPOINTS = ("/-/reload", "/api/v1/pause", "/api/v1/resume")
Agent = agent_process.AgentProcess


@pytest.fixture
def agent(tmp_path: Path, make_queue: Callable[..., prismq.Queue]) -> Iterator[Agent]:
    make_queue("jobs.db")
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    with agent_process.agent(tmp_path, CONFIG) as made:
        yield made


def ask(agent: Agent, path: str, method: str = "POST", token: str | None = TOKEN) -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.request(method, agent.url + path, headers=headers, timeout=LONGEST_WAIT)


def rewrite(agent: Agent, before: str, after: str) -> None:
    text = agent.config.read_text()
    assert before in text
    agent.config.write_text(text.replace(before, after))


def test_only_users_who_may_act_may_pause_resume_and_reload(agent: Agent) -> None:
    for path in ENDPOINTS:
        assert ask(agent, path, token=None).status_code == 401
        assert ask(agent, path, token="wrong").status_code == 401
        assert ask(agent, path, "GET").status_code == 405
    assert ask(agent, "/-/reload", "PUT").status_code == 200
    assert agent.scrape().value("queuekeeper_paused") == 0


def test_a_new_database_rule_interval_and_token_come_without_a_restart(
    agent: Agent, make_queue: Callable[..., prismq.Queue]
) -> None:
    make_queue("mail.db")
    rewrite(agent, "databases:", f"databases:\n  - {{name: mail, path: {agent.folder}/mail.db}}")
    rewrite(agent, "interval: 1s", "interval: 2s")
    rewrite(agent, "above: 0", "above: 5")
    (agent.folder / "token").write_text("another-token-of-some-length")
    before = agent.scrape().value("queuekeeper_config_last_reload_success_timestamp_seconds")
    assert ask(agent, "/-/reload").status_code == 200
    agent.wait(lambda: agent.scrape().value("sqlite_up", database="mail") == 1, "the new database on the page")
    assert ask(agent, "/-/reload").status_code == 401, "the old token is worth nothing any more"
    assert ask(agent, "/-/reload", token="another-token-of-some-length").status_code == 200
    page = agent.scrape()
    assert page.value("queuekeeper_config_last_reload_successful") == 1
    assert page.value("queuekeeper_config_last_reload_success_timestamp_seconds") > (before or 0)
    assert [line["by"] for line in agent.events("reload requested")] == ["token token from 127.0.0.1"] * 2


def test_a_database_that_is_configured_no_more_vanishes_from_the_page(agent: Agent) -> None:
    rewrite(
        agent,
        "{name: jobs, path: FOLDER/jobs.db}".replace("FOLDER", str(agent.folder)),
        "{name: other, path: /none.db}",
    )
    assert ask(agent, "/-/reload").status_code == 200
    agent.wait(lambda: agent.scrape().value("sqlite_up", database="other") == 0, "the missing database")
    assert 'database="jobs"' not in agent.get().text.replace("queuekeeper_action", "")


def test_acting_is_switched_off_and_with_it_the_right_to_control(agent: Agent) -> None:
    rewrite(agent, "enabled: true", "enabled: false")
    assert ask(agent, "/-/reload").status_code == 200
    assert agent.scrape().value("queuekeeper_actions_enabled") == 0
    assert ask(agent, "/-/reload").status_code == 403
    rewrite(agent, "enabled: false", "enabled: true")
    assert agent.process is not None
    os.kill(agent.process.pid, signal.SIGHUP)
    agent.wait(lambda: agent.scrape().value("queuekeeper_actions_enabled") == 1, "acting again")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("interval: 1s", "interval: 1", "duration"),
        ("rules:", "ruels:", "did you mean"),
        ("/token]", "/token, /none]", "/none cannot be read"),
        ("/state", "/elsewhere", "needs a restart"),
    ],
)
def test_a_bad_file_changes_nothing_and_says_why(agent: Agent, before: str, after: str, said: str) -> None:
    good = agent.config.read_text()
    reloaded = agent.scrape().value("queuekeeper_config_last_reload_success_timestamp_seconds")
    rewrite(agent, before, after)
    answer = ask(agent, "/-/reload")
    assert answer.status_code == 500
    assert said in answer.text
    page = agent.scrape()
    assert page.value("queuekeeper_config_last_reload_successful") == 0
    assert page.value("queuekeeper_config_last_reload_success_timestamp_seconds") == reloaded
    assert page.value("queuekeeper_actions_enabled") == 1
    assert not (agent.folder / "elsewhere").exists()
    assert [
        said in str(event["reason"]) for event in agent.events("configuration rejected, the former one stays in effect")
    ]
    agent.config.write_text(good)
    assert ask(agent, "/-/reload").status_code == 200
    assert agent.scrape().value("queuekeeper_config_last_reload_successful") == 1


def test_a_pause_is_kept_over_a_restart_and_the_command_line_knows_it(agent: Agent) -> None:
    answer = ask(agent, "/api/v1/pause")
    assert answer.json()["paused"] is True
    assert "127.0.0.1" in answer.json()["why"]
    agent.wait(lambda: agent.scrape().value("queuekeeper_paused") == 1, "the pause on the page")
    agent.stop()
    agent.start()
    assert agent.scrape().value("queuekeeper_paused") == 1
    refused = agent_process.command(agent, "checkpoint", "jobs")
    assert refused.returncode == 3
    assert "paused" in refused.stderr
    assert "resume" in refused.stderr
    again = agent_process.command(agent, "resume")
    assert (again.returncode, again.stdout.startswith("actions may start again")) == (0, True)
    agent.wait(lambda: agent.scrape().value("queuekeeper_paused") == 0, "the end of the pause")
    assert agent_process.command(agent, "resume").stdout == "actions were not paused\n"


def test_a_person_pauses_with_a_reason_and_http_resumes(agent: Agent) -> None:
    paused = agent_process.command(agent, "pause", "--reason", "migration")
    assert (paused.returncode, "migration" in paused.stdout) == (0, True)
    twice = agent_process.command(agent, "pause", "--json")
    assert '"paused": true' in twice.stdout
    assert "migration" in twice.stdout, "the first reason stays"
    assert ask(agent, "/api/v1/resume").json() == {"paused": False}
    agent.wait(lambda: agent.scrape().value("queuekeeper_paused") == 0, "the end of the pause")


def test_cancel_ends_one_run_and_a_pause_says_what_it_stopped(agent: Agent) -> None:
    for token in (None, "wrong"):
        assert ask(agent, "/api/v1/runs/1/cancel", token=token).status_code == 401
    assert ask(agent, "/api/v1/runs/1/cancel", "GET").status_code == 405
    for unknown in (1, 10**30):
        assert ask(agent, f"/api/v1/runs/{unknown}/cancel").status_code == 404
    with state_store(agent.state) as store:  # the agent is paused, so these wait
        assert ask(agent, "/api/v1/pause").json()["finishing"] == []
        wish = Request("requeue", "jobs", "alert", options={"guarded": True, "limit": 5})
        run_id, _ = ask_run(store, wish, str(agent.folder / "jobs.db"), time.time())
    answer = ask(agent, f"/api/v1/runs/{run_id}/cancel")
    assert (answer.status_code, answer.json()) == (202, {"run": run_id, "state": "ended", "outcome": "cancelled"})
    again = ask(agent, f"/api/v1/runs/{run_id}/cancel")
    assert again.status_code == 409
    assert "has ended already" in again.json()["error"]
    assert "127.0.0.1" in agent.runs()[0].message
    assert ask(agent, "/api/v1/resume").status_code == 200


def test_the_command_line_stops_what_the_agent_runs(agent: Agent) -> None:
    path = agent.folder / "jobs.db"
    owner = apsw.Connection(str(path))
    prismq.Queue(path, owner).leased(1.0, 50_000)
    rewrite(agent, "state:", "limits: {write_lock: 0.001ms}\nstate:")  # one task a transaction: it takes long
    assert ask(agent, "/-/reload").status_code == 200
    with state_store(agent.state) as store:
        wish = Request("requeue", "jobs", "alert", options={"guarded": True, "limit": 50_000})
        run_id, _ = ask_run(store, wish, str(path), time.time())
    requeued = "SELECT count(*) FROM task_queue WHERE status = 'queued'"
    agent.wait(lambda: owner.execute(requeued).get > 0, "the agent to act")
    paused = agent_process.command(agent, "pause", "--wait", "30s")
    assert paused.returncode == 0
    assert f"#{run_id} jobs requeue: cancelled" in paused.stdout
    (ended,) = agent.ended()
    assert (ended.outcome, ended.reason) == ("cancelled", "paused")
    assert 0 < owner.execute(requeued).get < 50_000
    owner.close()


def test_a_database_that_becomes_unreadable_is_said_once_and_once_that_it_is_back(agent: Agent) -> None:
    path = agent.folder / "jobs.db"
    path.rename(agent.folder / "away.db")
    agent.wait(lambda: agent.scrape().value("sqlite_up", database="jobs") == 0, "it to be missed")
    seen = agent.scrape().value("queuekeeper_poll_last_success_timestamp_seconds", database="jobs")
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:  # three polls more say nothing new
        time.sleep(0.05)
    (agent.folder / "away.db").rename(path)
    agent.wait(lambda: agent.scrape().value("sqlite_up", database="jobs") == 1, "it to be back")
    assert agent.scrape().value("queuekeeper_poll_last_success_timestamp_seconds", database="jobs") > (seen or 0)
    (gone,) = agent.events("database cannot be read")
    assert (gone["database"], gone["state"]) == ("jobs", "missing")
    assert "is not there" in gone["reason"]
    assert len(agent.events("database can be read again")) == 1
