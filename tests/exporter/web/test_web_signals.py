"""The server as a process: how it ends, and what SIGHUP does."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from tests.support.patience import LONGEST_WAIT

PROGRAM = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from exporter.web.address import bind_listen_addresses, listening_urls
from exporter.web.server import HttpServer

async def show(request):
    return PlainTextResponse("here")

sockets = bind_listen_addresses(["127.0.0.1:0"])
server = HttpServer(
    Starlette(routes=[Route("/", show)]),
    on_hangup=lambda: print("hangup", flush=True),
    on_stop=lambda: print("stopping", flush=True),
)
print(listening_urls(sockets)[0], flush=True)
server.run(sockets)
print("ended", flush=True)
"""


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    with started:
        yield started
        started.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_exit_code_0_also_with_an_open_connection(
    process: subprocess.Popen[str], number: signal.Signals
) -> None:
    with httpx.Client(base_url=line(process)) as client:
        assert client.get("/").text == "here"
        os.kill(process.pid, number)
        assert [line(process), line(process)] == ["stopping", "ended"]
        assert process.wait(LONGEST_WAIT) == 0


def test_a_hangup_calls_the_hook_and_goes_on(process: subprocess.Popen[str]) -> None:
    with httpx.Client(base_url=line(process)) as client:
        assert client.get("/").text == "here"
        os.kill(process.pid, signal.SIGHUP)
        assert line(process) == "hangup"
        assert client.get("/").text == "here"
