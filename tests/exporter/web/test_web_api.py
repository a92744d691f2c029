"""The HTTP API of a real agent: what it shows, which requests it accepts, and their effect."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time
from typing import Any

import httpx
import pytest

from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import agent_process, prismq

TOKEN = "correct-horse-battery-staple"
CONFIG = """
databases:
  - {name: jobs, path: FOLDER/jobs.db, settings: {grace: 2s}, backup: {directory: FOLDER/backups}}
  - {name: gone, path: FOLDER/gone.db}
poll: {interval: 1s}
limits: {write_lock: 0.01ms}  # small batches: a run that is cancelled lasts long enough on any machine
actions: {enabled: true, allow: {token_files: [FOLDER/token]}}
rules:
  - {name: stale, when: {sqlite_queue_stale_leases: {above: 5}}, on: {threshold: {for: 1h}}, do: requeue}
state: FOLDER/state
"""
Agent = agent_process.AgentProcess


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def whole_queue(folder: Path) -> Iterator[prismq.Queue]:
    queue = prismq.create(folder / "jobs.db")
    yield queue
    queue.owner.close()


@pytest.fixture(scope="module")
def agent(folder: Path, whole_queue: prismq.Queue) -> Iterator[Agent]:
    """One agent for all tests of this file: a start takes longer than most of them."""
    assert whole_queue.path.exists()
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    with agent_process.agent(folder, CONFIG) as made:
        yield made


@pytest.fixture
def jobs(whole_queue: prismq.Queue) -> prismq.Queue:
    """Return the queue after it was emptied."""
    with whole_queue.owner:
        whole_queue.owner.execute("DELETE FROM task_queue")
    return whole_queue


def post(agent: Agent, path: str, body: Any = None, token: str | None = TOKEN) -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return httpx.post(agent.url + path, content=content, headers=headers, timeout=LONGEST_WAIT)


def act(agent: Agent, action: str, body: Any = None, database: str = "jobs", **more: Any) -> httpx.Response:
    return post(agent, f"/api/v1/databases/{database}/actions/{action}", body, **more)


def get(agent: Agent, path: str) -> Any:
    return agent.get(path).raise_for_status().json()


def newest(agent: Agent) -> int:
    """Return the number of the newest run."""
    runs = get(agent, "/api/v1/runs?limit=1")["runs"]
    return int(runs[0]["id"]) if runs else 0


def ended(agent: Agent, run_id: int) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        run: dict[str, Any] = get(agent, f"/api/v1/runs/{run_id}")
        return run if run["state"] == "ended" else None

    return dict(agent.wait(found, f"run {run_id} to end"))


def test_every_database_is_shown_with_what_is_wrong_and_what_the_rules_think(agent: Agent, jobs: prismq.Queue) -> None:
    jobs.put(number=3)
    jobs.leased(time() - 60, 2)

    def seen() -> dict[str, Any] | None:
        shown = {database["name"]: database for database in get(agent, "/api/v1/databases")["databases"]}
        return shown if shown["jobs"]["queues"] and shown["jobs"]["queues"][0]["stale_leases"] == 2 else None

    shown = agent.wait(seen, "the new tasks to be read")
    status = shown["jobs"]
    assert (status["health"], status["state"], status["profile"]) == ("attention", "readable", "prismq")
    assert {"what": "2 tasks have a stale lease", "cure": "queuekeeper leases jobs"} in status["findings"]
    assert status["queues"][0]["name"] == "mail"
    assert status["queues"][0]["tasks"]["waiting"] == 3
    assert status["log"]["state"] in ("idle", "unknown")
    assert status["backups"]["count"] == {"verified": 0, "unverified": 0, "failed": 0}
    (rule,) = status["rules"]
    assert (rule["rule"], rule["value"], rule["verdict"], rule["above"]) == ("stale", 2, "clear", 5)
    gone = shown["gone"]
    assert (gone["health"], gone["state"], gone["size_bytes"], gone["queues"]) == ("unreadable", "missing", None, [])


def test_a_run_asked_for_is_done_by_the_dispatcher_and_history_says_who_asked(agent: Agent, jobs: prismq.Queue) -> None:
    jobs.leased(time() - 60, 3)
    answer = act(agent, "requeue", {"guarded": True})
    assert answer.status_code == 202
    assert answer.json()["new"] is True
    run = ended(agent, answer.json()["run"])
    assert (run["outcome"], run["trigger"], run["options"]) == ("done", "person", {"guarded": True})
    assert run["asked_by"] == run["requested_by"] == "token token from 127.0.0.1"
    logged = agent.wait(
        lambda: [line for line in agent.events("run ended") if line["run"] == run["id"]], "the log line"
    )
    assert logged[0]["record_hash"] == run["record_hash"], "the log of another machine can hold the head of the chain"
    assert run["plan"]
    assert jobs.value("SELECT count(*) FROM task_queue WHERE status = 'queued'") == 3
    assert TOKEN not in agent.log.read_text()


def test_a_dry_run_says_what_would_be_done_and_records_nothing(agent: Agent, jobs: prismq.Queue) -> None:
    jobs.leased(time() - 60, 3)
    before = newest(agent)
    planned = act(agent, "requeue", {"guarded": True, "dry_run": True})
    assert planned.status_code == 200
    assert planned.json()["dry_run"] is True
    assert planned.json()["message"].startswith("planned only: ")
    assert jobs.value("SELECT count(*) FROM task_queue WHERE status = 'leased'") == 3
    assert newest(agent) == before


REFUSED = {
    "no such action": ("/api/v1/databases/jobs/actions/destroy", None, 404, "there is no action"),
    "no such database": ("/api/v1/databases/none/actions/backup", None, 404, "no watched database"),
    "a file instead of a name": ("/api/v1/databases//etc/passwd/actions/backup", None, 404, "no watched database"),
    "dots": ("/api/v1/databases/%2e%2e%2fjobs/actions/backup", None, 404, "no watched database"),
    "restore": ("/api/v1/databases/jobs/actions/restore", {"in_place": True}, 403, "at the machine"),
    "an unknown option": ("/api/v1/databases/jobs/actions/checkpoint", {"mod": "full"}, 400, 'did you mean "mode"'),
    "a bad value": ("/api/v1/databases/jobs/actions/checkpoint", {"mode": "; DROP"}, 400, "one of auto"),
    "a file": ("/api/v1/databases/jobs/actions/verify", {"backup": "/etc/passwd"}, 400, "not an option"),
    "no object": ("/api/v1/databases/jobs/actions/checkpoint", ["full"], 400, "JSON object"),
    "nested": ("/api/v1/databases/jobs/actions/checkpoint", {"mode": {"a": 1}}, 400, "an option must be a text"),
    "dry_run as a word": ("/api/v1/databases/jobs/actions/checkpoint", {"dry_run": "no"}, 400, "true or false"),
    "a key twice": ("/api/v1/databases/jobs/actions/backup", b'{"dry_run":true,"dry_run":false}', 400, "given twice"),
    "not JSON": ("/api/v1/databases/jobs/actions/backup", b"mode=full", 400, "not JSON"),
    "too long": ("/api/v1/databases/jobs/actions/backup", b" " * (1024 * 1024 + 1), 413, "1 MiB"),
    "no such run": ("/api/v1/runs/7777/cancel", None, 404, "there is no run 7777"),
}


def test_an_invalid_request_is_rejected_with_the_reason(agent: Agent) -> None:
    before = newest(agent)
    for case, (path, body, code, reason) in REFUSED.items():
        answer = post(agent, path, body)
        assert (answer.status_code, reason in answer.json()["error"]) == (code, True), (case, answer.text)
    assert newest(agent) == before


def test_only_users_who_may_act_may_request_actions(agent: Agent) -> None:
    before = newest(agent)
    for path in ("/api/v1/databases/jobs/actions/checkpoint", "/api/v1/runs/1/cancel"):
        for token in (None, "wrong"):
            assert post(agent, path, {"dry_run": True}, token=token).status_code == 401
        assert agent.get(path).status_code == 405
    assert newest(agent) == before


def test_while_actions_are_paused_nothing_is_recorded_for_later(agent: Agent) -> None:
    before = newest(agent)
    post(agent, "/api/v1/pause")
    answer = act(agent, "checkpoint")
    assert post(agent, "/api/v1/resume").status_code == 200
    assert (answer.status_code, answer.json()["reason"]) == (409, "paused")
    assert newest(agent) == before


def test_history_is_read_page_by_page(agent: Agent) -> None:
    ids = [ended(agent, act(agent, "checkpoint", {"mode": "truncate"}).json()["run"])["id"] for _ in range(3)]
    first = get(agent, "/api/v1/runs?limit=2&database=jobs&action=checkpoint")
    assert [run["id"] for run in first["runs"]] == ids[:0:-1]
    second = get(agent, f"/api/v1/runs?limit=1&before={first['next_before']}")
    assert [run["id"] for run in second["runs"]] == ids[:1]
    last = get(agent, "/api/v1/runs?limit=2&before=2")
    assert ([run["id"] for run in last["runs"]], last["next_before"]) == ([1], None)
    assert get(agent, "/api/v1/runs?outcome=unverified")["runs"] == []
    assert "token" not in first["runs"][0]
    for wrong in ("limit=x", "before=-1", "limit=0", "before=1e3", f"before={'9' * 30}"):
        assert agent.get(f"/api/v1/runs?{wrong}").status_code == 400, wrong
    assert agent.get("/api/v1/runs/7777").status_code == 404


def test_the_stream_tells_of_readings_and_of_runs_as_they_happen(agent: Agent, jobs: prismq.Queue) -> None:
    jobs.leased(time() - 60, 3)
    with listening(agent) as events:
        agent.wait(lambda: of_kind(events, "reading"), "a reading event")
        run_id = act(agent, "requeue", {"guarded": True}).json()["run"]
        agent.wait(lambda: "ended" in [about["kind"] for about in of_kind(events, "run")], "the event of the run's end")
    runs = of_kind(events, "run")
    assert {about["run"] for about in runs} == {run_id}
    assert "planned" in [about["kind"] for about in runs]
    assert runs[-1]["figures"]["outcome"] == "done"
    assert of_kind(events, "reading")[0].keys() == {"database", "state", "taken_at"}


def test_a_run_is_cancelled_while_it_runs_and_says_so_live(agent: Agent, jobs: prismq.Queue) -> None:
    many = 60_000
    jobs.leased(time() - 60, many)
    with listening(agent) as events:
        run_id = act(agent, "requeue", {"guarded": True}).json()["run"]
        agent.wait(lambda: "progress" in [about["kind"] for about in of_kind(events, "run")], "a progress event")
        assert post(agent, f"/api/v1/runs/{run_id}/cancel").status_code == 202
        run = ended(agent, run_id)
    assert (run["outcome"], run["reason"]) == ("cancelled", "asked")
    leased = int(jobs.value("SELECT count(*) FROM task_queue WHERE status = 'leased'"))
    assert 0 < leased < many, "it stopped between two batches"
    again = post(agent, f"/api/v1/runs/{run_id}/cancel")
    assert (again.status_code, "has ended already" in again.json()["error"]) == (409, True)


def test_the_stream_ends_when_the_agent_stops(agent: Agent) -> None:
    with listening(agent) as events:
        agent.wait(lambda: events, "the stream to begin")
        assert agent.stop() == 0
    agent.start()


@contextmanager
def listening(agent: Agent) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Yield the list of the stream's events, which grows while it is open."""
    events: list[tuple[str, dict[str, Any]]] = []
    done = threading.Event()

    def listen() -> None:
        with httpx.stream("GET", f"{agent.url}/api/v1/events", timeout=LONGEST_WAIT) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            kind = ""
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                kind = value if name == "event" else kind
                if name == "data":
                    events.append((kind, json.loads(value)))
                if done.is_set():
                    return

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield events
    finally:
        done.set()
        thread.join(LONGEST_WAIT)
        assert not thread.is_alive()


def of_kind(events: list[tuple[str, dict[str, Any]]], kind: str) -> list[dict[str, Any]]:
    return [about for event_kind, about in list(events) if event_kind == kind]
