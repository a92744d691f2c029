"""Real Alertmanagers alone on loopback: told of alerts by their API, calling an agent's webhook, clustered or not."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tests.support.patience import LONGEST_WAIT
from tests.support.real.real_parts import require, until
from tests.support.scenes.webhook_site import TOKEN

CONFIG = """\
route:
  receiver: queuekeeper
  group_by: [alertname, database]
  group_wait: 0s
  group_interval: {interval}
  repeat_interval: {interval}
receivers:
  - name: queuekeeper
    webhook_configs:
      - url: {url}/api/v1/alerts
        http_config: {{authorization: {{type: Bearer, credentials: {token}}}}}
"""


@dataclass(frozen=True, slots=True)
class Alertmanager:
    """One that runs."""

    url: str

    def tell(self, *, since: float = 0.0, firing: bool = True, **labels: str) -> None:
        """An alert fires since `since` seconds before now, or has just ended."""
        now = time.time()
        found: dict[str, Any] = {
            "labels": {"alertname": "QueueStaleLeases", "database": "jobs", "queue": "mail", **labels},
            "startsAt": _stamp(now - since),
        }
        if not firing:
            found["endsAt"] = _stamp(now)
        httpx.post(f"{self.url}/api/v2/alerts", json=[found], timeout=LONGEST_WAIT, verify=False).raise_for_status()

    def sent(self) -> float:
        """How many notifications it has sent, those that failed too."""
        page = httpx.get(f"{self.url}/metrics", timeout=LONGEST_WAIT, verify=False).text
        name = 'alertmanager_notifications_total{integration="webhook"} '
        return sum(float(line.removeprefix(name)) for line in page.splitlines() if line.startswith(name))


@contextmanager
def alertmanagers(
    folder: Path, webhook: str, *, number: int = 2, clustered: bool, interval: str = "300ms", peer_timeout: str = "15s"
) -> Iterator[list[Alertmanager]]:
    """So many, of one configuration; without a cluster they are as a pair that a partition has cut apart."""
    folder.mkdir()
    ports = [_free_port() for _ in range(2 * number)]
    with ExitStack() as stack:
        made = []
        for which in range(number):
            cluster = _cluster(ports, which, peer_timeout) if clustered else ["--cluster.listen-address="]
            made.append(
                stack.enter_context(_running(folder / str(which), webhook, ports[2 * which], interval, cluster))
            )
        if clustered:
            for one in made:
                until(lambda one=one: _peers(one) == number, "the cluster to settle", 30)  # type: ignore[misc]
        yield made


@contextmanager
def _running(folder: Path, webhook: str, port: int, interval: str, cluster: Sequence[str]) -> Iterator[Alertmanager]:
    folder.mkdir()
    (folder / "alertmanager.yml").write_text(CONFIG.format(url=webhook, token=TOKEN, interval=interval))
    flags = [f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/data", *cluster]
    with (folder / "log").open("wb") as log:
        address = f"127.0.0.1:{port}"
        command = [str(require("prometheus-alertmanager")), *flags, f"--web.listen-address={address}"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        made = Alertmanager(f"http://{address}")
        until(
            lambda: httpx.get(f"{made.url}/-/ready", timeout=10, verify=False).is_success,
            "an Alertmanager to be ready",
            30,
        )
        yield made
    finally:
        process.terminate()
        try:
            process.wait(LONGEST_WAIT)
        finally:
            process.kill()
            process.wait()


def _cluster(ports: Sequence[int], which: int, peer_timeout: str) -> list[str]:
    address = f"127.0.0.1:{ports[2 * which + 1]}"
    others = [f"--cluster.peer=127.0.0.1:{port}" for port in ports[1 : 2 * which : 2]]
    times = [f"--cluster.peer-timeout={peer_timeout}", "--cluster.gossip-interval=50ms", "--cluster.settle-timeout=1s"]
    return [f"--cluster.listen-address={address}", f"--cluster.advertise-address={address}", *others, *times]


def _peers(one: Alertmanager) -> int:
    cluster = httpx.get(f"{one.url}/api/v2/status", timeout=LONGEST_WAIT, verify=False).json()["cluster"]
    return len(cluster["peers"]) if cluster["status"] == "ready" else 0


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


@dataclass
class SlowWay:
    """A way to the agent on which answers take `delay` seconds, or are lost. `passed`: requests that went through."""

    url: str
    delay: float = 0.0
    lost: bool = False
    passed: int = 0
    sockets: list[socket.socket] = field(default_factory=list)


@contextmanager
def slow_way(agent: str) -> Iterator[SlowWay]:
    """Listens on a port of its own and passes every connection on to the agent, one request at a time."""
    listener = socket.create_server(("127.0.0.1", 0))
    way = SlowWay(f"http://127.0.0.1:{listener.getsockname()[1]}")
    host, _, port = agent.removeprefix("http://").partition(":")

    def serve() -> None:
        with suppress(OSError):
            while True:
                one, _ = listener.accept()
                way.sockets.append(one)
                threading.Thread(target=_pass_on, args=(way, one, (host, int(port))), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield way
    finally:
        listener.close()
        for one in way.sockets:
            one.close()


def _pass_on(way: SlowWay, client: socket.socket, agent: tuple[str, int]) -> None:
    with suppress(OSError), client, socket.create_connection(agent, timeout=LONGEST_WAIT) as server:
        while request := _message(client):
            server.sendall(request)
            answer = _message(server)
            way.passed += 1
            if way.lost:
                return
            time.sleep(way.delay)
            client.sendall(answer)


def _message(one: socket.socket) -> bytes:
    """One request or answer with a Content-Length."""
    found = b""
    while b"\r\n\r\n" not in found:
        part = one.recv(65536)
        if not part:
            return b""
        found += part
    head, _, body = found.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while len(body) < int(lengths[0]):
        part = one.recv(65536)
        if not part:
            return b""
        body += part
    return head + b"\r\n\r\n" + body
