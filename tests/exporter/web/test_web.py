"""A real server on a free port: who may read, who may act, and what a delivery may look like."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from actions.policy.alerts import DeliveredAlert, Delivery
from actions.store.database import StoreUnavailable
from actions.store.runs import Run
from collectors.target import Target
from exporter.config.tokens import token_digest
from exporter.exposition.page import MetricsPage
from exporter.status.operations import Operations
from exporter.triggers.alerts import AlertDecision, DeliveryReceipt
from exporter.web import protocol as protocol_module
from exporter.web import request_body as body_module
from exporter.web.address import CannotListen, bind_listen_addresses, listening_urls
from exporter.web.app import build_web_app
from exporter.web.context import ActingRights, WebContext
from exporter.web.server import HttpServer
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes.idle_operations import idle_operations

TOKEN = "correct-horse-battery-staple"


@dataclass
class Agent:
    """The agent behind the web context: what it received, and what it answers."""

    received: list[DeliveredAlert] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    right: ActingRights = field(default_factory=lambda: ActingRights(True, (token_digest(TOKEN.encode()),)))
    not_ready: str = ""
    store_full: bool = False
    operations: Operations | None = None
    state: Path = Path("/nonexistent")
    runs: dict[int, Run] = field(default_factory=dict)

    def receive(self, delivery: Delivery) -> DeliveryReceipt:
        if self.store_full:
            raise StoreUnavailable("history cannot be written: disk is full (free space there)")
        self.received += delivery.alerts
        return DeliveryReceipt(tuple(AlertDecision("accepted", "jobs", 7 + i) for i, _ in enumerate(delivery.alerts)))

    def web_context(self) -> WebContext:
        return WebContext(
            version="1.2.3",
            render=lambda accept, encoding, names: MetricsPage(
                f"{accept}|{encoding}|{','.join(names)}".encode(), "text/plain; version=0.0.4; charset=utf-8"
            ),
            not_ready=lambda: self.not_ready,
            acting_rights=lambda: self.right,
            receive_delivery=self.receive,
            count_answer=self.codes.append,
            reload=lambda: (),
            operations=self.operations or idle_operations(self.state),
        )


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    operations = idle_operations(tmp_path, Target("<script>alert(1)</script>", Path("/var/lib/a&b.db")))
    return Agent(state=tmp_path, operations=operations)


@pytest.fixture
def client(agent: Agent) -> Iterator[httpx.Client]:
    sockets = bind_listen_addresses(["127.0.0.1:0"])
    (url,) = listening_urls(sockets)
    server = HttpServer(build_web_app(agent.web_context()))
    thread = threading.Thread(target=server.run, args=(sockets,))
    thread.start()
    with httpx.Client(base_url=url, timeout=LONGEST_WAIT) as made:
        yield made
    server.stop()
    thread.join(LONGEST_WAIT)
    assert not thread.is_alive()


def delivery(**changes: object) -> dict[str, object]:
    alert = {
        "status": "firing",
        "labels": {"alertname": "QueueStaleLeases", "database": "jobs"},
        "annotations": {"summary": "x"},
        "startsAt": "2026-01-01T00:00:00.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/",
        "fingerprint": "0123456789abcdef",
    }
    return {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "queuekeeper",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager/",
        "notification_reason": "first notification",
        "alerts": [alert, {**alert, "status": "resolved", "fingerprint": "fedcba9876543210"}],
        **changes,
    }


def post(client: httpx.Client, body: object, token: str | None = TOKEN, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    bearer = {} if token is None else {"Authorization": f"Bearer {token}"}
    return client.post("/api/v1/alerts", content=content, headers={**bearer, **headers})


def test_a_delivery_is_stored_and_answered_with_its_runs(client: httpx.Client, agent: Agent) -> None:
    answer = post(client, delivery())
    assert answer.status_code == 202
    assert answer.json()["runs"] == [7, 8]
    first, second = agent.received
    assert first == DeliveredAlert(
        "firing",
        {"alertname": "QueueStaleLeases", "database": "jobs"},
        "0123456789abcdef",
        "2026-01-01T00:00:00.123456789Z",
        "queuekeeper",
    )
    assert second.status == "resolved"
    assert agent.codes == [202]


def test_a_delivery_without_what_we_do_not_need_is_accepted(client: httpx.Client) -> None:
    body = {"version": "4", "alerts": [{"status": "firing", "labels": {}, "fingerprint": "1"}]}
    assert post(client, body).status_code == 202


@pytest.mark.parametrize("header", [None, "wrong", TOKEN[:10], TOKEN + "x", TOKEN.upper(), "ü"])
def test_without_the_right_token_nothing_is_read(client: httpx.Client, agent: Agent, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": f"Bearer {header}".encode()}
    answer = client.post("/api/v1/alerts", content=b"not even JSON", headers=headers)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="queuekeeper"')
    assert not agent.received
    assert TOKEN not in answer.text


@pytest.mark.parametrize("scheme", ["Basic", "Token", "Bearerx"])
def test_another_scheme_is_no_bearer_token(client: httpx.Client, scheme: str) -> None:
    answer = client.post("/api/v1/alerts", headers={"Authorization": f"{scheme} {TOKEN}"}, json=delivery())
    assert answer.status_code == 401


def test_two_authorization_headers_are_refused(client: httpx.Client) -> None:
    headers = [("Authorization", "Bearer wrong"), ("Authorization", f"Bearer {TOKEN}")]
    assert client.post("/api/v1/alerts", headers=headers, json=delivery()).status_code == 401


def test_tokens_rotate_while_it_runs(client: httpx.Client, agent: Agent) -> None:
    agent.right = ActingRights(True, (token_digest(b"new"), token_digest(TOKEN.encode())))
    assert [post(client, delivery(), token).status_code for token in ("new", TOKEN)] == [202, 202]
    agent.right = ActingRights(True, (token_digest(b"new"),))
    assert [post(client, delivery(), token).status_code for token in ("new", TOKEN)] == [202, 401]


@pytest.mark.parametrize(
    ("right", "reason"),
    [
        (ActingRights(False, (token_digest(TOKEN.encode()),)), "acting is disabled"),
        (ActingRights(True), "no token, user or certificate may act"),
    ],
)
def test_where_nobody_may_act_the_answer_says_why(
    client: httpx.Client, agent: Agent, right: ActingRights, reason: str
) -> None:
    agent.right = right
    answer = post(client, delivery())
    assert answer.status_code == 403
    assert reason in answer.json()["error"]
    assert not agent.received


BAD = {
    "not JSON": (b"{", "not JSON"),
    "empty": (b"", "not JSON"),
    "a list": (b"[]", "not a JSON object"),
    "not UTF-8": (b'{"version": "4", "receiver": "\xff"}', "not UTF-8"),
    "UTF-16": ('{"version": "4"}'.encode("utf-16"), "not UTF-8"),
    "a key twice": (b'{"version": "4", "alerts": [], "alerts": []}', "a key is given twice"),
    "an alert's label twice": (
        b'{"version":"4","alerts":[{"status":"firing","fingerprint":"1","labels":{"database":"a","database":"b"}}]}',
        "a key is given twice",
    ),
    "a level too deep": (
        b'{"version": "4", "alerts": [], "x": ' + b"[" * 16 + b"]" * 16 + b"}",
        "nested deeper than 16",
    ),
    "deep": (b"[" * 100_000 + b"]" * 100_000, "nested deeper than 16"),
    "deep in an unknown field": (
        b'{"version": "4", "alerts": [], "x": ' + b'{"a":' * 20 + b"1" + b"}" * 21,
        "nested deeper",
    ),
    "NaN": (b'{"version": "4", "alerts": [], "x": NaN}', "NaN is not JSON"),
    "a huge number": (b'{"version": "4", "alerts": [], "x": ' + b"9" * 10_000 + b"}", "not JSON"),
    "version 3": (delivery(version="3"), "version '3' is not known"),
    "version as a number": (delivery(version=4), "version '4' is not known"),
    "no version": ({"alerts": []}, "version 'None' is not known"),
    "no alerts": ({"version": "4"}, "alerts"),
    "alerts that are no list": (delivery(alerts={}), "alerts"),
    "an alert without labels": (delivery(alerts=[{"status": "firing", "fingerprint": "1"}]), "alerts.0.labels"),
    "an unknown status": (
        delivery(alerts=[{"status": "pending", "labels": {}, "fingerprint": "1"}]),
        "alerts.0.status",
    ),
    "a label that is no text": (
        delivery(alerts=[{"status": "firing", "labels": {"a": 1}, "fingerprint": "1"}]),
        "alerts.0.labels.a",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_delivery_that_cannot_be_understood_is_refused_with_the_reason(
    client: httpx.Client, agent: Agent, case: str
) -> None:
    body, reason = BAD[case]
    answer = post(client, body)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]
    assert not agent.received
    assert agent.codes == [400]


def test_brackets_inside_texts_are_not_nesting(client: httpx.Client) -> None:
    body = {"version": "4", "alerts": [{"status": "firing", "labels": {"a": '[{"\\' * 50}, "fingerprint": "1"}]}
    assert post(client, body).status_code == 202


def test_a_body_of_a_mebibyte_is_read_and_a_larger_one_is_not(client: httpx.Client, agent: Agent) -> None:
    text = json.dumps(delivery(groupKey="")).encode()
    fits = text.replace(b'"groupKey": ""', b'"groupKey": "' + b"x" * (1024 * 1024 - len(text)) + b'"')
    assert len(fits) == 1024 * 1024
    assert post(client, fits).status_code == 202
    assert post(client, fits + b" ").status_code == 413


def test_a_body_that_hides_its_length_is_cut_off_at_the_limit(client: httpx.Client, agent: Agent) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 200 * 1024 * 1024:
            sent += 65536
            yield b" " * 65536

    try:
        code = client.post(
            "/api/v1/alerts", content=endless(), headers={"Authorization": f"Bearer {TOKEN}"}
        ).status_code
    except (httpx.WriteError, httpx.ReadError):
        code = 413  # the server may close before the client stops writing
    assert code == 413
    assert agent.codes == [413]
    assert sent < 64 * 1024 * 1024
    assert client.get("/-/healthy").status_code == 200


def test_a_store_that_cannot_be_written_asks_alertmanager_to_come_again(client: httpx.Client, agent: Agent) -> None:
    agent.store_full = True
    answer = post(client, delivery())
    assert (answer.status_code, agent.codes) == (503, [503])
    assert "disk is full" in answer.json()["error"]


def test_what_was_truncated_is_said_in_the_log(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    assert post(client, delivery(truncatedAlerts=2)).status_code == 202
    assert "the sender left alerts out" in caplog.text


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready"])
def test_pages_answer_get_and_head_only(client: httpx.Client, path: str) -> None:
    plain = {"Accept-Encoding": "identity"}
    shown, head = client.get(path, headers=plain), client.head(path, headers=plain)
    assert (shown.status_code, head.status_code, head.content) == (200, 200, b"")
    assert head.headers["content-length"] == str(len(shown.content))
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        refused = client.request(method, path)
        assert refused.status_code == 405
        assert set(refused.headers["allow"].replace(" ", "").split(",")) == {"GET", "HEAD"}


def test_the_webhook_takes_posts_only(client: httpx.Client) -> None:
    assert [client.request(method, "/api/v1/alerts").status_code for method in ("GET", "PUT", "DELETE")] == [405] * 3


def test_an_unknown_path_is_not_found(client: httpx.Client) -> None:
    assert client.get("/etc/passwd").status_code == 404
    assert client.get("/%2e%2e/etc/passwd").status_code == 404


def test_the_scrape_passes_on_what_was_asked_for(client: httpx.Client) -> None:
    answer = client.get("/metrics?name[]=a&name[]=b", headers={"Accept": "text/plain", "Accept-Encoding": "gzip"})
    assert answer.text == "text/plain|gzip|a,b"
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["vary"] == "Accept, Accept-Encoding"


def test_readiness_follows_the_agent(client: httpx.Client, agent: Agent) -> None:
    agent.not_ready = "2 of 3 databases were not polled yet"
    answer = client.get("/-/ready")
    assert (answer.status_code, answer.text) == (503, "not ready: 2 of 3 databases were not polled yet\n")
    agent.not_ready = ""
    assert client.get("/-/ready").status_code == 200
    assert client.get("/-/healthy").status_code == 200


def test_the_page_shows_databases_and_escapes_their_names(client: httpx.Client, agent: Agent) -> None:
    text = client.get("/").text
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "Not read yet" in text
    assert "queuekeeper 1.2.3" in text
    assert 'href="/metrics"' in text
    page = client.get("/databases/<script>alert(1)</script>").text
    assert "<script>alert" not in page
    assert "/var/lib/a&amp;b.db" in page


def raw(client: httpx.Client) -> socket.socket:
    url = client.base_url
    return socket.create_connection((url.host, url.port or 0), timeout=LONGEST_WAIT)


def test_too_many_idle_connections_cost_the_oldest_of_them(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol_module, "MAX_CONNECTIONS", 20)
    idle = [raw(client) for _ in range(60)]
    assert client.get("/-/healthy").status_code == 200
    assert closed(idle[0])
    idle[-1].sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in idle[-1].recv(65536)
    for connection in idle:
        connection.close()


def test_a_body_that_does_not_arrive_is_not_waited_for(
    client: httpx.Client, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_module, "BODY_DEADLINE", 0.1)
    with raw(client) as connection:
        connection.sendall(
            f"POST /api/v1/alerts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 9\r\n\r\n".encode()
        )
        connection.sendall(b"{")
        assert b"408 Request Timeout" in connection.recv(65536)
        assert closed(connection)
    assert agent.codes == [408]


def test_half_open_connections_do_not_keep_a_scrape_waiting(client: httpx.Client) -> None:
    idle = [raw(client) for _ in range(300)]
    for connection in idle:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Half")
    assert client.get("/-/healthy").status_code == 200
    for connection in idle:
        connection.close()


def test_who_does_not_finish_a_request_head_is_cut_off(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_module, "HEAD_DEADLINE", 0.2)
    with raw(client) as silent, raw(client) as half, raw(client) as dripping:
        half.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        dripping.sendall(b"GET / HTTP/1.1\r\n")
        assert cut_off(dripping, b"X: y\r\n", 0.02, 500)
        assert closed(silent)
        assert closed(half)


def answer(one: socket.socket) -> bytes:
    """Return one whole answer of /-/healthy: its head and body may arrive apart."""
    received = b""
    while not received.endswith(b"healthy.\n"):
        part = one.recv(65536)
        assert part, received
        received += part
    return received


def test_a_second_request_of_a_connection_has_its_own_deadline(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol_module, "HEAD_DEADLINE", 2.0)  # a busy machine sends a whole head in that time
    with raw(client) as connection:
        connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in answer(connection)
        time.sleep(2.5)  # idle between two requests is keep-alive, no half request
        connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in answer(connection)
        connection.sendall(b"GET /-/hea")
        assert closed(connection)


def test_a_request_head_without_end_is_cut_off(client: httpx.Client) -> None:
    with raw(client) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        assert cut_off(connection, b"y" * 65536, 0, 2000)
        assert client.get("/-/healthy").status_code == 200


def closed(one: socket.socket) -> bool:
    """Return whether the server ends the connection, after the rest of its answer."""
    try:
        while one.recv(65536):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


def cut_off(one: socket.socket, data: bytes, pause: float, times: int) -> bool:
    """Return whether the server closes the connection of a client that continues to send this."""
    try:
        for _ in range(times):
            one.sendall(data)
            time.sleep(pause)
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


def test_a_port_in_use_is_one_line() -> None:
    (listening,) = bind_listen_addresses(["127.0.0.1:0"])
    port = listening.getsockname()[1]
    with pytest.raises(CannotListen) as caught:
        bind_listen_addresses(["127.0.0.1:0", f"127.0.0.1:{port}"])
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{port}: Address already in use; "
        "stop the other program or choose another port with --web.listen-address"
    )
    listening.close()


@pytest.mark.parametrize(
    "address", ["9977", "localhost", "::1:9977", "127.0.0.1:99999", "127.0.0.1:x", "127.0.0.1:", ""]
)
def test_what_is_no_address_is_one_line(address: str) -> None:
    with pytest.raises(CannotListen, match=r"is not an address; write HOST:PORT"):
        bind_listen_addresses([address])


def test_several_addresses_are_served(agent: Agent) -> None:
    sockets = bind_listen_addresses(["127.0.0.1:0", "127.0.0.2:0"])
    server = HttpServer(build_web_app(agent.web_context()))
    thread = threading.Thread(target=server.run, args=(sockets,))
    thread.start()
    assert [httpx.get(f"{url}/-/healthy").status_code for url in listening_urls(sockets)] == [200, 200]
    server.stop()
    thread.join(LONGEST_WAIT)
