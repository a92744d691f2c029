"""No request causes a 5xx, an action without rights, or a secret in the log: a real agent, real sockets."""

import random
import re
import socket
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.patience import LONGEST_WAIT
from tests.support.scenes.hostile_requests import (
    BROKEN,
    MEANT_FOR_OTHERS,
    NOT_UNDERSTOOD,
    PASSWORD,
    PATH,
    RIGHT,
    UNKNOWN_SENDERS,
    fuzzed,
)
from tests.support.scenes.webhook_site import TOKEN, Site, config, delivery, site

TABLE = {**UNKNOWN_SENDERS, **MEANT_FOR_OTHERS, **NOT_UNDERSTOOD, **BROKEN}
FUZZED = [
    500,
    pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(1200)]),
]


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One agent for all requests. At the end nothing was done, no secret was logged, and a valid delivery still acts."""
    with site(tmp_path_factory.mktemp("besieged"), config(top="identity: a:9977")) as made:
        made.stale(3)
        yield made
        assert made.agent.runs() == []
        assert made.requeues() == 0
        log = made.agent.log.read_text()
        for secret in (TOKEN, TOKEN.upper(), PASSWORD, "Bearer "):
            assert secret not in log
        assert "Traceback" not in log
        assert made.decisions(delivery()) == ["accepted"]
        made.agent.ended()
        assert made.requeues() == 3


def exchange(url: str, sent: bytes, patience: float) -> bytes:
    """Return the answer on a new connection; empty when it was only closed, or waits for more."""
    place = urlsplit(url)
    assert place.hostname is not None
    answer = b""
    with socket.create_connection((place.hostname, place.port or 80), timeout=patience) as connection:
        try:
            connection.sendall(sent)
            while part := connection.recv(65536):
                answer += part
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            pass  # it was cut off, or we leave it waiting
    return answer


def code(answer: bytes) -> int | None:
    match = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
    return int(match[1]) if match else None


def test_the_table_is_long_enough() -> None:
    assert len(TABLE) >= 60


@pytest.mark.parametrize("name", TABLE)
def test_it_is_answered_without_harm(besieged: Site, name: str) -> None:
    answer = exchange(besieged.agent.url, TABLE[name], 0.5 if name in BROKEN else 20)
    status = code(answer)
    assert status is None or 200 <= status < 500, answer[:500]
    assert TOKEN.encode() not in answer
    assert besieged.agent.runs() == []
    assert besieged.running() == 3
    if name in UNKNOWN_SENDERS:
        assert status in (400, 401, 403, 404, 405, 431), answer[:500]
    elif name in MEANT_FOR_OTHERS:
        assert status in (202, 421), answer[:500]
    elif name in NOT_UNDERSTOOD:
        assert status in (400, 413), answer[:500]


@pytest.mark.parametrize("number", FUZZED)
def test_harmed_deliveries_by_the_thousand(besieged: Site, number: int) -> None:
    rng = random.Random(20261125)
    codes: Counter[int] = Counter()
    with httpx.Client(base_url=besieged.agent.url, timeout=LONGEST_WAIT) as client:
        for _ in range(number):
            codes[client.post(PATH, content=fuzzed(rng), headers=RIGHT).status_code] += 1
    print(codes)
    assert set(codes) <= {202, 400, 413}
    assert min(codes[202], codes[400]) > number / 20, "the harm is too small or too large to tell anything"
    assert besieged.agent.runs() == []
    assert besieged.running() == 3
    assert besieged.agent.get("/-/healthy").status_code == 200
