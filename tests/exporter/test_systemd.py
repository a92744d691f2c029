"""systemd's part played by the test: sockets passed on, and what the agent tells its service manager."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from exporter import systemd
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import prismq

CONFIG = "databases: [{name: jobs, path: FOLDER/jobs.db}]\nstate: FOLDER/state\n"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """What NOTIFY_SOCKET names."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.settimeout(LONGEST_WAIT)
        yield made


def receive(manager: socket.socket, word: str) -> str:
    """The next message that has this word; the watchdog's come between others."""
    while True:
        message = manager.recv(4096).decode()
        if word in message:
            return message


def test_the_agent_answers_on_sockets_of_systemd_and_notifies_it(tmp_path: Path, manager: socket.socket) -> None:
    config = tmp_path / "queuekeeper.yaml"
    config.write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    with ExitStack() as stack:
        stack.callback(prismq.create(tmp_path / "jobs.db").owner.close)
        first, second = (stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2))
        serve = f"exec {sys.executable} -m exporter.commands serve --config.file {config} --web.systemd-socket"
        shell = f"LISTEN_PID=$$ LISTEN_FDS=2 {serve} 3<&{first.fileno()} 4<&{second.fileno()}"
        process = subprocess.Popen(
            ["bash", "-c", shell],
            pass_fds=(first.fileno(), second.fileno()),
            env={**os.environ, "NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "200000"},
            stderr=subprocess.DEVNULL,
        )
        stack.callback(process.wait, 30)
        stack.callback(process.kill)
        assert "READY=1" in receive(manager, "READY=1")
        for listener in (first, second):
            answer = httpx.get(f"http://127.0.0.1:{listener.getsockname()[1]}/-/healthy")
            assert answer.status_code == 200
        assert receive(manager, "WATCHDOG") == "WATCHDOG=1"
        process.send_signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in receive(manager, "RELOADING=1")
        assert receive(manager, "READY=1") == "READY=1"
        process.send_signal(signal.SIGTERM)
        assert receive(manager, "STOPPING") == "STOPPING=1"
        assert process.wait(LONGEST_WAIT) == 0


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"},
    ],
)
def test_without_sockets_that_are_meant_for_us_it_says_so(environment: dict[str, str]) -> None:
    with pytest.raises(systemd.NoInheritedSockets, match=r"\.socket unit"):
        systemd.inherit_sockets(environment)
    assert environment == {}, "our children must not take them for theirs"


def test_the_watchdog_is_fed_twice_as_often_as_it_wants() -> None:
    assert systemd.watchdog_interval({"WATCHDOG_USEC": "30000000"}) == 15
    assert systemd.watchdog_interval({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) is None
    assert systemd.watchdog_interval({}) is None


def test_a_missing_listener_is_no_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert systemd.send_notification("READY=1") is False
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "no-listener"))
    assert systemd.send_notification("READY=1") is False


def test_an_abstract_socket_is_notified_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind("")  # the kernel chooses an abstract name
        name = made.getsockname()
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name[1:].decode())
        assert systemd.send_notification("READY=1", "STATUS=well")
        assert made.recv(100) == b"READY=1\nSTATUS=well"
