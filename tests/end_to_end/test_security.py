"""Attacks that belong to no single module, on a real agent and in a real browser. docs/security.md lists the defences."""

import json
import os
import pty
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import bcrypt
import httpx
import pytest
from playwright.sync_api import Page

from actions.model.options import ActionOption, option_problems
from actions.store.database import StoreUnavailable, history_file, state_store
from exporter.config.tokens import token_digest
from exporter.config.yaml_positions import InvalidYaml, parse_yaml
from exporter.log import _quote_value
from exporter.status.events import StatusEvent
from exporter.web import passwords as passwords_module
from exporter.web import sse as stream_module
from exporter.web.context import ActingRights
from exporter.web.server import HttpServer
from exporter.web.sse import _format_sse_event
from exporter.web_config.reload import ReloadingWebConfig
from tests.support.patience import LONGEST_WAIT
from tests.support.real import browser, real_parts
from tests.support.scenes import agent_process, certificates, prismq, web_server
from tests.support.scenes.agent_process import AgentProcess
from tests.support.scenes.idle_operations import pause_reasons

TESTS = Path(__file__).parents[1]
TOKEN = "correct-horse-battery-staple"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
RIGHT = ActingRights(True, (token_digest(TOKEN.encode()),), frozenset({"admin"}))
HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
CONFIG = """
databases: [{path: FOLDER/found/*.db}]
poll: {interval: 1s, rescan: 1s}
actions: {enabled: true, allow: {token_files: [FOLDER/token]}}
state: FOLDER/state
"""
# Names that a file can have: a byte that is no text, a line that looks like a line of the log, escapes of a terminal.
STRANGE = [
    b"bad\xff.db",
    b"new\nts=1 level=error.db",
    b"\x1b]0;x\x07\x1b[31m\xc2\x9b.db",
    "\u202eümläut ?#%41.db".encode(),
]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """Yield an agent with databases of hostile names."""
    folder = tmp_path_factory.mktemp("strange")
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    (folder / "found").mkdir()
    prismq.create(folder / "found" / "jobs.db").owner.close()
    for name in STRANGE:
        Path(os.fsdecode(os.fsencode(folder / "found") + b"/" + name)).write_text("nothing\n" * 100)
    with agent_process.agent(folder, CONFIG) as made:
        made.wait(lambda: len(made.get("/api/v1/databases").json()["databases"]) == 5, "all five databases")
        yield made


@contextmanager
def site(folder: Path, text: str = "", **changes: Any) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """A server with this web configuration, and a function that returns why it was paused."""
    (folder / "web.yml").write_text(text)
    parts: dict[str, Any] = {"acting_rights": lambda: RIGHT, **changes}
    with web_server.serving(
        web_server.idle_context(folder, web=ReloadingWebConfig(folder / "web.yml").current_config, **parts)
    ) as url:
        yield url, lambda: pause_reasons(folder)


def test_a_name_that_is_not_valid_text_does_not_affect_other_databases(agent: AgentProcess) -> None:
    names = {database["name"] for database in agent.get("/api/v1/databases").json()["databases"]}
    assert {"jobs", "bad\udcff"} <= names
    assert agent.get("/").status_code == agent.get("/metrics").status_code == 200
    assert all(isinstance(json.loads(line), dict) for line in agent.log.read_text().splitlines()), "each line one event"
    page = agent.get("/databases/%E2%80%AE%C3%BCml%C3%A4ut%20%3F%23%2541").text
    assert "is no SQLite database" in page


LONG = "9" * 5000
NUMBERS = [
    f"/runs/{LONG}", f"/api/v1/runs/{LONG}", f"/api/v1/runs/{'9' * 30}", f"/history?before={LONG}", "/history?before=²",
    f"/api/v1/runs?before={LONG}", f"/api/v1/runs?limit=00000000000000000001{LONG}", "/api/v1/runs?limit=٣", "/runs/-1",
]  # fmt: skip


@pytest.mark.parametrize("path", NUMBERS)
def test_a_run_number_beyond_all_numbers_is_not_found(agent: AgentProcess, path: str) -> None:
    assert agent.get(path).status_code in (400, 404)
    assert httpx.post(f"{agent.url}/api/v1/runs/{LONG}/cancel", headers=BEARER).status_code == 404


@pytest.mark.parametrize(
    "body",
    [r'{"\ud800": 1}', r'{"limit": "\ud800"}', '{"older_than": 1e999}', '{"older_than": 1e300}', '{"limit": 1e999}',
     f'{{"limit": {2**64}}}', '{"limit": true}', '{"limit": [1]}', '{"to": "/etc/x"}', '{"limit": 1, "limit": 2}'],
)  # fmt: skip
def test_an_invalid_option_records_nothing(agent: AgentProcess, body: str) -> None:
    answer = httpx.post(f"{agent.url}/api/v1/databases/jobs/actions/purge", content=body, headers=BEARER)
    assert (answer.status_code, agent.runs()) == (400, [])


def test_options_are_bounded_where_they_would_change_on_their_way() -> None:
    """An infinite age must not be lost on the way to the child, or the profile's own age would be used."""
    known = {"older_than": ActionOption("seconds", "an age"), "limit": ActionOption("count", "so many")}
    for value in (float("inf"), float("nan"), 1e300, 2**70):
        assert option_problems(known, {"older_than": value}, automatic=False), value
    assert option_problems(known, {"limit": 2**63}, automatic=False)
    assert not option_problems(known, {"limit": 10**12, "older_than": 10**9}, automatic=False)


def test_a_forwarded_address_is_trusted_only_behind_a_proxy(agent: AgentProcess) -> None:
    """Otherwise failures would count for forged addresses, and the history would name them."""
    claimed = {"X-Forwarded-For": "8.8.8.8", "X-Forwarded-Proto": "https", "Forwarded": "for=8.8.8.8"}
    answer = httpx.post(f"{agent.url}/api/v1/pause", headers={**BEARER, **claimed})
    assert "from 127.0.0.1 at" in answer.json()["why"]
    httpx.post(f"{agent.url}/api/v1/resume", headers=BEARER)

    async def app(*_: object) -> None: ...

    assert [HttpServer(app, behind_proxy=is_proxy).config.proxy_headers for is_proxy in (False, True)] == [False, True]


def test_input_that_is_not_http_is_not_logged(agent: AgentProcess) -> None:
    host, _, port = agent.url.removeprefix("http://").rpartition(":")
    before = agent.log.stat().st_size
    for sent in (b"\x00\xff\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=LONGEST_WAIT) as connection:
            connection.sendall(sent)
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
    for header in ({"Upgrade": "websocket", "Connection": "Upgrade"}, {"Upgrade": "h2c", "Connection": "Upgrade"}):
        httpx.get(agent.url, headers=header)
    assert agent.log.read_bytes()[before:] == b""


def test_no_answer_is_part_of_another_sites_page(tmp_path: Path) -> None:
    with site(tmp_path) as (url, _), httpx.Client(base_url=url) as client:
        for path in ("/", "/metrics", "/-/healthy", "/api/v1/runs", "/api/v1/runs/1", "/nothing", "/assets/page.js"):
            answer = client.get(path)
            headers = [answer.headers.get(n) for n in ("x-content-type-options", "cross-origin-resource-policy")]
            assert headers == ["nosniff", "same-origin"], path
            for site_ in ("cross-site", "same-site"):
                asked = {"Sec-Fetch-Site": site_, "Sec-Fetch-Mode": "no-cors"}
                assert client.get(path, headers=asked).status_code == 403, "an image, a script, a stream of theirs"
            assert client.get(path, headers={"Origin": "http://evil.example"}).status_code == 403
            led = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
            assert client.get(path, headers=led).status_code != 403, "a link may lead here"
        for path in ("/history/", "//evil.example/", "/history/?next=//evil.example"):
            answer = httpx.get(url + path)
            assert (answer.status_code, answer.headers.get("location")) == (404, None)


def test_a_browser_gets_nothing_under_a_foreign_host_name_not_even_metrics(tmp_path: Path) -> None:
    """DNS rebinding, in a real browser: evil.test resolves to us, and its page tries to look like a program."""
    hiding = "{headers: {'Accept-Language': '', 'User-Agent': 'Prometheus'}, referrerPolicy: 'no-referrer'}"
    with (
        site(tmp_path) as (url, _),
        browser.chromium("--host-resolver-rules=MAP evil.test 127.0.0.1") as chromium,
        browser.tab(chromium) as tab,
    ):
        rebound = f"http://evil.test:{url.rpartition(':')[2]}"
        for path in ("/", "/metrics", "/-/ready", "/api/v1/runs"):
            answer = tab.page.goto(rebound + path)
            assert answer is not None
            assert answer.status == 421, path
            assert tab.page.evaluate(f"fetch('{path}', {hiding}).then(answer => answer.status)") == 421, path
        assert httpx.get(f"{url}/metrics", headers={"Host": "evil.test"}).status_code == 200, "a scraper's is answered"


ATTACK = """
<title>evil</title><iframe id="frame" src="URL/"></iframe><img src="URL/api/v1/events"><script src="URL/api/v1/runs"></script>
<form id="form" method="post" action="URL/pause" target="frame"><input name="key" value="guess"></form>
<script>
const simple = { method: "POST", mode: "no-cors", credentials: "include", body: "{}" };
const tries = ["/api/v1/pause", "/-/reload", "/logout", "/pause", "/login"].map((path) => fetch("URL" + path, simple));
const looks = ["/", "/api/v1/runs", "/metrics"].map((path) => fetch("URL" + path, { credentials: "include" })
  .then((answer) => answer.text(), () => "kept away"));
document.getElementById("form").submit();
Promise.allSettled([...tries, ...looks]).then((all) => { window.seen = all.slice(5).map((one) => one.value); });
</script>"""


@contextmanager
def evil(attacked: str) -> Iterator[int]:
    """Yield the port of another site on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that it must have
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(ATTACK.replace("URL", attacked).encode())

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(LONGEST_WAIT)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_another_site_in_the_same_browser_cannot_act_for_the_user_who_logged_in(tmp_path: Path, host: str) -> None:
    """`127.0.0.1` on another port is the same site, whose requests carry the session; `localhost` is another one."""
    with (
        site(tmp_path) as (url, paused),
        evil(url) as port,
        browser.chromium() as chromium,
        browser.tab(chromium) as tab,
    ):
        _log_in(tab.page, url)
        tab.page.goto(f"http://{host}:{port}/")
        real_parts.until(lambda: tab.page.evaluate("window.seen"), "the attack to be over")
        assert tab.page.evaluate("window.seen") == ["kept away"] * 3
        assert tab.page.evaluate("document.getElementById('frame').contentDocument") is None
        tab.page.goto(url)
        assert tab.page.get_by_text("Log out").count() == 1, "the viewer is still logged in"
        assert paused() == []
        tab.page.get_by_role("button", name="Pause all actions").click()
        tab.page.wait_for_url(url + "/")
        assert len(paused()) == 1, "the viewer can"


def _log_in(page: Page, url: str) -> None:
    page.goto(f"{url}/login")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in with the token").click()
    page.get_by_text("Log out").wait_for()


def test_a_stream_ends_when_who_may_read_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "HEARTBEAT", 0.2)
    users = f"basic_auth_users: {{reader: '{HASH}'}}"
    with (
        site(tmp_path, users) as (url, _),
        httpx.Client(base_url=url, auth=("reader", "secret"), timeout=LONGEST_WAIT) as client,
    ):
        with client.stream("GET", "/api/v1/events") as stream:
            lines = stream.iter_lines()
            assert next(lines) == "retry: 3000"
            (tmp_path / "web.yml").write_text(users.replace("reader", "another"))
            assert list(lines)[-1] in ("", ": still here"), "it ended"
        assert client.get("/api/v1/events").status_code == 401


def test_a_certificate_that_is_no_longer_allowed_is_rejected_on_its_open_connection(tmp_path: Path) -> None:
    ca = certificates.authority(tmp_path, "ca")
    ca.signed("server")
    mine = ca.signed("mine", "DNS:ops.example")
    context = ssl.create_default_context(cafile=ca.own.cert)
    context.load_cert_chain(mine.cert, mine.key)
    text = (
        "tls_server_config: {cert_file: server.pem, key_file: server.key, client_ca_file: ca.pem, "
        "client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [ops.example]}"
    )
    with site(tmp_path, text) as (url, _), httpx.Client(base_url=url, verify=context) as client:
        assert client.get("/metrics").status_code == 200
        (tmp_path / "web.yml").write_text(text.replace("ops.example]", "other.example]"))
        assert client.get("/metrics").status_code == 403


def test_the_time_of_a_log_in_does_not_reveal_who_may_act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    monkeypatch.setattr(passwords_module, "_matches_hash", lambda _, hashed: bool(compared.append(hashed)))
    web = f"basic_auth_users: {{admin: '{HASH}', reader: '{HASH}'}}"
    with site(tmp_path, web) as (url, _):
        for user in ("admin", "reader", "unknown"):
            fields = {"user": user, "password": "wrong"}
            assert httpx.post(f"{url}/login", data=fields, headers=BEARER).status_code == 403
    assert len(compared) == 3


@pytest.mark.parametrize("name", ["a%3Fb=1%23c", "100%2525", "%C3%BCml%C3%A4ut", "a/b%20c"])
def test_a_log_in_leads_back_to_the_same_database(tmp_path: Path, name: str) -> None:
    path = f"/databases/{name}/act/backup"
    with site(tmp_path) as (url, _), httpx.Client(base_url=url) as client:
        shown = client.get(client.get(path).headers["location"]).text
        match = re.search(r'name="next" value="([^"]+)"', shown)
        assert match is not None
        answer = client.post("/login", data={"token": TOKEN, "next": match[1]})
        assert unquote(answer.headers["location"]) == unquote(path)
        assert "backup on" in client.get(answer.headers["location"]).text


@pytest.mark.parametrize("planted", ["a link", "one that all may write", "a folder", "another's"])
def test_a_history_that_others_can_write_is_not_used(
    tmp_path: Path, planted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent would execute a pending run in it."""
    state = tmp_path / "state"
    with state_store(state):
        pass
    file = history_file(state)
    match planted:
        case "a link":
            file.rename(tmp_path / "other.db")
            file.symlink_to(tmp_path / "other.db")
        case "one that all may write":
            file.chmod(0o666)
        case "a folder":
            file.unlink()
            file.mkdir()
        case _:
            monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    with pytest.raises(StoreUnavailable, match=r"history\.db"), state_store(state):
        pass


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 5000 + "x", "? " * 20_000, "{a: " * 9000])
def test_a_deeply_nested_configuration_is_reported_in_one_line(text: str) -> None:
    with pytest.raises(InvalidYaml, match="nested"):
        parse_yaml(text)


def test_no_terminal_escape_in_a_name_reaches_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "[b]:x:\x1b]0;x\x07\x1b[31m\x9b\u202e.db"
    prismq.create(file).owner.close()
    for command in (["stats", str(file)], ["readers", str(file)], ["stats", f"{file}x"]):
        shown = _on_a_terminal(command, {**os.environ, "XDG_STATE_HOME": str(tmp_path), "COLUMNS": "500"})
        assert r"[b]:x:\x1b]0;x\x07\x1b[31m\x9b\u202e" in shown, "shown as escapes, without markup"
        assert not re.search("\x1b\\]|\x07|\x9b|\u202e|\x1b\\[31m", shown)


def _on_a_terminal(command: list[str], environment: dict[str, str]) -> str:
    """Return what a command writes to a terminal."""
    ours, theirs = pty.openpty()
    whole = [*agent_process.COMMAND, *command]
    with subprocess.Popen(whole, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL, env=environment) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the end of a terminal is an error
            while part := os.read(ours, 65536):
                shown += part
        assert process.wait(LONGEST_WAIT) in (0, 2)
    os.close(ours)
    return shown.decode()


def test_a_log_line_quotes_control_characters() -> None:
    for text in ("a\x9b31m", "a\u202eb", "a\nts=1", "a\x1b[0m", "a\u2028b", "a\x85b"):
        assert _quote_value(text).isascii(), text
    assert _quote_value("plain/ü.db") == "plain/ü.db"


def test_an_event_stays_one_event_with_any_text_in_it() -> None:
    text = _format_sse_event(StatusEvent("run", {"message": "a\n\ndata: b\r\nevent: x\u2028", "database": "</script>"}))
    assert (text.count("\n"), text.count("\r"), text.isascii()) == (3, 0, True)
    assert json.loads(text.splitlines()[1].removeprefix("data: "))["database"] == "</script>"


def test_each_defence_names_a_test_that_there_is() -> None:
    named = set(re.findall(r"`(?:[a-z_/.]+: )?(test_\w+)`", (TESTS.parent / "docs" / "security.md").read_text()))
    there = {
        name for file in TESTS.rglob("test_*.py") for name in re.findall(r"^ *def (test_\w+)", file.read_text(), re.M)
    }
    assert len(named) > 30
    assert named <= there
