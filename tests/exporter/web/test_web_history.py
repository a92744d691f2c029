"""The history over HTTP: who asked by name, and a record that was changed by hand is marked on the page and in the API."""

from pathlib import Path

import apsw
import httpx
import pytest

from actions.model.outcome import Outcome
from actions.model.request import Request
from actions.store import runs
from actions.store.database import history_file, state_store
from actions.store.runs import RunEnding
from exporter.config.tokens import token_digest, token_file_label
from exporter.web.authorization import actor_name
from exporter.web.context import ActingRights
from exporter.web.identity import Identity
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import web_server

TOKEN = "correct-horse-battery-staple"
DIGEST = token_digest(TOKEN.encode())
RIGHTS = ActingRights(True, (DIGEST,), frozenset({"ann"}), frozenset({"ops.example"}), {DIGEST: "deploy"})


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        (Identity(token=DIGEST), "token deploy"),
        (Identity(token=token_digest(b"wrong")), ""),
        (Identity(user="ann"), "user ann"),
        (Identity(user="ben"), ""),
        (Identity(names=("x", "ops.example")), "certificate ops.example"),
        (Identity(token=DIGEST, user="ann"), "token deploy"),
    ],
)
def test_whoever_may_act_has_a_name(identity: Identity, name: str) -> None:
    assert actor_name(identity, RIGHTS) == name


def test_a_token_is_called_by_its_file() -> None:
    deploy, second, other = Path("/etc/q/deploy"), Path("/srv/q/deploy"), Path("/etc/q/a\nb\u202e")
    assert token_file_label(deploy, (deploy, other)) == "deploy"
    assert token_file_label(deploy, (deploy, second)) == "/etc/q/deploy"
    assert token_file_label(other, (deploy, other)) == "a\\nb\\u202e"


def perform_runs(folder: Path, number: int) -> None:
    with state_store(folder) as store:
        for step in range(number):
            claim = runs.enqueue_and_claim(
                store, Request("backup", "jobs", asked_by="user ann"), "/jobs.db", 10.0 + step
            )
            runs.end_run(store, claim, RunEnding(Outcome.DONE, f"backup {step}"), 20.0 + step)


def test_a_changed_record_is_marked_on_the_page_and_in_the_api(tmp_path: Path) -> None:
    perform_runs(tmp_path, 2)
    connection = apsw.Connection(str(history_file(tmp_path)))
    connection.execute("UPDATE run SET message = '<b>all is well</b>' WHERE id = 1")
    connection.close()
    with web_server.serving(web_server.idle_context(tmp_path)) as url, httpx.Client(base_url=url) as client:
        client.timeout = LONGEST_WAIT
        page = client.get("/history").text
        assert page.count("This record was changed after it was written.") == 1
        assert "&lt;b&gt;all is well" in page
        assert "history --verify" in client.get("/runs/1").text
        assert "changed after" not in client.get("/runs/2").text
        listed = client.get("/api/v1/runs").json()["runs"]
        assert [(run["record"], run["requested_by"]) for run in listed] == [
            ("whole", "user ann"),
            ("changed", "user ann"),
        ]
        assert client.get("/api/v1/runs/1").json()["record"] == "changed"


def test_who_paused_and_resumed_is_on_the_page_and_in_the_api(tmp_path: Path) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    context = web_server.idle_context(tmp_path, acting_rights=lambda: RIGHTS)
    with web_server.serving(context) as url, httpx.Client(base_url=url, timeout=LONGEST_WAIT) as client:
        assert "Pauses of all actions" not in client.get("/history").text
        assert client.post("/api/v1/pause", headers=bearer).status_code == 200
        assert client.post("/api/v1/resume", headers=bearer).status_code == 200
        resumed, paused = client.get("/api/v1/pauses").json()["pauses"]
        assert (paused["event"], paused["requested_by"]) == ("paused", "token deploy from 127.0.0.1")
        assert (resumed["event"], resumed["requested_by"]) == ("resumed", "token deploy from 127.0.0.1")
        assert len(client.get("/api/v1/pauses?limit=1").json()["pauses"]) == 1
        assert "actions were resumed by token deploy" in client.get("/history").text
