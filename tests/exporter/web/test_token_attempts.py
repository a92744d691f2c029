"""Wrong tokens and passwords are limited by address, over real HTTP, without harm to other clients."""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest

from exporter.config.tokens import token_digest
from exporter.web.context import ActingRights
from exporter.web.passwords import MAX_PASSWORD_FAILURES as MOST_PASSWORDS
from exporter.web.rate_limit import MAX_ADDRESSES, FailureLimiter
from exporter.web.token_attempts import MAX_TOKEN_FAILURES
from exporter.web_config.settings import WebConfig
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes.web_server import idle_context, serving

TOKEN = "correct-horse-battery-staple-0123456789"
RIGHT = ActingRights(enabled=True, token_digests=(token_digest(TOKEN.encode()),))
USERS = {"prometheus": bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()}
DELIVERY = {"version": "4", "status": "firing", "receiver": "r", "alerts": []}


class Served:
    """A server with one token, and its own count of its answers to Alertmanager."""

    def __init__(self, url: str, counted: list[int]) -> None:
        self.url, self.counted = url, counted

    def post(self, token: str, path: str = "/api/v1/alerts", address: str = "127.0.0.1") -> httpx.Response:
        """Send a request from one of this machine's loopback addresses."""
        transport = httpx.HTTPTransport(local_address=address)
        with httpx.Client(transport=transport, timeout=LONGEST_WAIT) as client:
            return client.post(self.url + path, json=DELIVERY, headers={"Authorization": f"Bearer {token}"})

    def scrape(self, authorization: str, address: str = "127.0.0.1") -> httpx.Response:
        transport = httpx.HTTPTransport(local_address=address)
        with httpx.Client(transport=transport, timeout=LONGEST_WAIT) as client:
            return client.get(self.url + "/metrics", headers={"Authorization": authorization})

    def wrong(self, number: int, path: str = "/api/v1/alerts") -> list[int]:
        """Return the answers to so many wrong tokens."""
        return [self.post(f"guess-{which}", path).status_code for which in range(number)]


@contextmanager
def served(folder: Path, right: ActingRights = RIGHT, web: WebConfig | None = None) -> Iterator[Served]:
    counted: list[int] = []
    parts: dict[str, Any] = {"acting_rights": lambda: right, "count_answer": counted.append}
    if web is not None:
        parts["web"] = lambda: web
    with serving(idle_context(folder, **parts)) as url:
        yield Served(url, counted)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("path", ["/api/v1/alerts", "/api/v1/pause", "/api/v1/databases/jobs/actions/backup"])
def test_wrong_tokens_are_answered_up_to_so_many_and_then_wait(tmp_path: Path, path: str) -> None:
    with served(tmp_path) as there:
        assert there.wrong(MAX_TOKEN_FAILURES + 3, path) == [401] * MAX_TOKEN_FAILURES + [429] * 3
        answer = there.post("another", path)
        assert 0 < int(answer.headers["Retry-After"]) <= 60


def test_a_right_token_never_waits_whoever_is_wrong_beside_it(tmp_path: Path) -> None:
    """For example an Alertmanager on the host of an attacker, or behind the same proxy."""
    with served(tmp_path) as there:
        there.wrong(MAX_TOKEN_FAILURES + 1)
        assert there.post(TOKEN).status_code == 202
        assert there.post("still wrong").status_code == 429, "and a valid token of another client forgives nothing"
        assert there.post(TOKEN, address="127.0.0.2").status_code == 202
        assert there.post("wrong", address="127.0.0.2").status_code == 401


def test_who_only_reads_does_not_wait(tmp_path: Path) -> None:
    with served(tmp_path) as there:
        there.wrong(MAX_TOKEN_FAILURES + 1)
        assert there.scrape("Bearer of-another-exporter").status_code == 200


def test_what_waits_is_counted_as_every_answer_to_alertmanager_is(tmp_path: Path) -> None:
    with served(tmp_path) as there:
        there.wrong(MAX_TOKEN_FAILURES + 2)
        assert there.counted == [401] * MAX_TOKEN_FAILURES + [429] * 2


def test_it_is_said_in_one_line_and_without_the_guesses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with served(tmp_path) as there:
        there.wrong(MAX_TOKEN_FAILURES + 10, "/api/v1/pause")
    logged = [record for record in caplog.records if record.getMessage() == "wrong tokens"]
    assert [record.__dict__["values"]["peer"] for record in logged] == ["127.0.0.1"]
    assert not re.search(r"guess-\d", json.dumps([str(record.__dict__) for record in caplog.records]))


@pytest.mark.parametrize("right", [ActingRights(enabled=False), ActingRights(enabled=False, token_digests=RIGHT.token_digests),
                                   ActingRights(enabled=True)])  # fmt: skip
def test_where_no_token_is_right_none_is_a_guess(tmp_path: Path, right: ActingRights) -> None:
    """The answer says why the client may not act: the configuration must be changed."""
    with served(tmp_path, right) as there:
        assert set(there.wrong(MAX_TOKEN_FAILURES + 2)) == {403}


def test_where_a_password_is_needed_a_token_is_a_guess_for_readers_too(tmp_path: Path) -> None:
    with served(tmp_path, web=WebConfig(users=USERS)) as there:
        codes = [there.scrape(f"Bearer guess-{which}").status_code for which in range(MAX_TOKEN_FAILURES + 1)]
        assert codes == [401] * MAX_TOKEN_FAILURES + [429]
        assert there.scrape(f"Bearer {TOKEN}").status_code == 200
        assert there.scrape(basic("prometheus", "secret")).status_code == 200, "passwords have a count of their own"


def test_wrong_passwords_wait_and_a_known_right_one_does_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with served(tmp_path, web=WebConfig(users=USERS)) as there:
        assert there.scrape(basic("prometheus", "secret")).status_code == 200
        answers = [there.scrape(basic("prometheus", f"guess-{which}")) for which in range(MOST_PASSWORDS + 2)]
        assert [answer.status_code for answer in answers] == [401] * MOST_PASSWORDS + [429] * 2
        assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
        assert there.scrape(basic("prometheus", "secret")).status_code == 200
        assert there.scrape(basic("prometheus", "guess-x"), address="127.0.0.2").status_code == 401
    assert [record.getMessage() for record in caplog.records].count("wrong passwords") == 1


def test_after_its_rest_an_address_begins_anew() -> None:
    failures = FailureLimiter(3, 60)
    assert [failures.record_failure("a", at) for at in (0.0, 10.0, 20.0)] == [False, False, True]
    assert (failures.wait_seconds("a", 20.0), failures.wait_seconds("a", 79.0), failures.wait_seconds("a", 80.0)) == (
        60.0,
        1.0,
        0.0,
    )
    assert [failures.record_failure("a", at) for at in (80.0, 81.0, 82.0)] == [False, False, True]


def test_failures_that_are_far_apart_are_no_series() -> None:
    failures = FailureLimiter(3, 60)
    assert not any(failures.record_failure("a", 40.0 * number) for number in range(20))
    assert failures.wait_seconds("a", 760.0) == 0.0


def test_of_very_many_addresses_the_oldest_is_forgotten() -> None:
    failures = FailureLimiter(1, 60)
    for number in range(MAX_ADDRESSES + 1):
        failures.record_failure(f"address-{number}", 0.0)
    assert failures.wait_seconds("address-0", 1.0) == 0.0
    assert failures.wait_seconds("address-1", 1.0) == 59.0
