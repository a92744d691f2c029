"""Which clients can make a real agent act through the webhook, and on what; all others cannot.

Whether it acted is counted in the queue itself (`attempts` grows with every requeue) and in our history.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.patience import LONGEST_WAIT
from tests.support.scenes.webhook_site import TOKEN, Site, acted_once, alert, config, delivery, site


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes a site of a configuration text."""
    with ExitStack() as stack:
        yield lambda text: stack.enter_context(site(tmp_path, text))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for all clients without rights: it has stale leases, and must still have them at the end."""
    with site(tmp_path_factory.mktemp("guarded"), config()) as made:
        made.stale(3)
        yield made
        assert made.agent.runs() == []
        assert made.requeues() == 0
        # The positive control: the same delivery with the right token acts, so what was refused was worth refusing.
        assert made.decisions(delivery()) == ["accepted"]
        made.agent.ended()
        assert made.requeues() == 3


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


DENIED: dict[str, Any] = {
    "no token": {},
    "a wrong token": {"Authorization": "Bearer wrong"},
    "half a token": {"Authorization": f"Bearer {TOKEN[: len(TOKEN) // 2]}"},
    "a token and more": {"Authorization": f"Bearer {TOKEN}x"},
    "a token in other case": {"Authorization": f"Bearer {TOKEN.upper()}"},
    "the digest of the token": {"Authorization": f"Bearer {hashlib.sha256(TOKEN.encode()).hexdigest()}"},
    "the comment of the token file": {"Authorization": "Bearer # of the test"},
    "a scheme without a token": {"Authorization": "Bearer"},
    "a bare token": {"Authorization": TOKEN},
    "another scheme": {"Authorization": f"Token {TOKEN}"},
    "basic auth with the token as password": {"Authorization": basic("alertmanager", TOKEN)},
    "basic auth with the token as user": {"Authorization": basic(TOKEN, "")},
    "two headers, one of them right": [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer wrong")],
    "the token in a cookie": {"Cookie": f"token={TOKEN}; access_token={TOKEN}"},
    "the token in another header": {"X-Api-Key": TOKEN, "Proxy-Authorization": f"Bearer {TOKEN}"},
}


@pytest.mark.parametrize("headers", DENIED.values(), ids=DENIED.keys())
def test_without_the_right_token_it_never_acts(guarded: Site, headers: Any) -> None:
    before = guarded.agent.scrape().value("queuekeeper_webhook_requests_total", code="401") or 0.0
    answer = guarded.post(delivery(), headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert TOKEN not in answer.text
    assert guarded.agent.runs() == []
    assert guarded.running() == 3
    assert guarded.agent.scrape().value("queuekeeper_webhook_requests_total", code="401") == before + 1


@pytest.mark.parametrize("path", [f"?token={TOKEN}", f"?access_token={TOKEN}&authorization=Bearer%20{TOKEN}"])
def test_a_token_in_the_address_is_none(guarded: Site, path: str) -> None:
    assert guarded.post(delivery(), {}, path).status_code == 401
    assert guarded.agent.runs() == []


def test_a_token_in_the_body_is_none(guarded: Site) -> None:
    assert guarded.post(delivery(token=TOKEN, access_token=TOKEN), {}).status_code == 401
    assert guarded.agent.runs() == []


def test_only_a_post_is_a_delivery(guarded: Site) -> None:
    right = {"Authorization": f"Bearer {TOKEN}"}
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = httpx.request(method, f"{guarded.agent.url}/api/v1/alerts", headers=right, timeout=LONGEST_WAIT)
        assert answer.status_code == 405
    assert guarded.agent.runs() == []


def test_the_token_is_nowhere_in_the_log(guarded: Site) -> None:
    guarded.post(delivery(), {"Authorization": f"Bearer {TOKEN}x"})
    assert TOKEN not in guarded.agent.log.read_text()


@pytest.mark.parametrize(
    ("text", "reason"),
    [(config(enabled=False), "actions.enabled"), (config(files="[]"), "actions.allow.token_files")],
    ids=["acting disabled", "no client allowed"],
)
def test_where_nobody_may_act_the_right_looking_token_is_refused_with_the_cure(
    make_site: Callable[..., Site], text: str, reason: str
) -> None:
    there = make_site(text)
    there.stale()
    answer = there.post(delivery())
    assert answer.status_code == 403
    assert reason in answer.json()["error"]
    assert there.agent.runs() == []
    assert there.running() == 3
    assert there.agent.scrape().value("queuekeeper_webhook_requests_total", code="403") == 1


@pytest.mark.parametrize(
    ("labels", "decision", "database"),
    [
        ({"database": "payroll"}, "rejected", ""),
        ({"database": "../../etc/passwd"}, "rejected", ""),
        ({"database": ""}, "rejected", ""),
        ({"alertname": "SomethingElse"}, "no_match", "jobs"),
        ({"database": "other"}, "no_match", "other"),
        ({"instance": "b:9977"}, "rejected", ""),
        ({"instance": ""}, "rejected", ""),
    ],
    ids=str,
)
def test_an_alert_that_selects_nothing_is_counted_and_never_acted_upon(
    identified: Site, labels: dict[str, str], decision: str, database: str
) -> None:
    before = identified.counted(decision, database) or 0.0
    assert identified.decisions(delivery(alert(labels=labels))) == [decision]
    assert identified.agent.runs() == []
    assert identified.running() == 3
    assert identified.counted(decision, database) == before + 1


@pytest.fixture(scope="module")
def identified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose agent has an identity; at the end an alert for this identity acts, so the others could have acted."""
    with site(tmp_path_factory.mktemp("identified"), config(top="identity: a:9977")) as made:
        made.stale(3)
        yield made
        assert made.decisions(delivery()) == ["accepted"]
        made.agent.ended()
        assert made.requeues() == 3


def test_options_and_actions_in_the_payload_are_only_text(make_site: Callable[..., Site]) -> None:
    there = make_site(config())
    there.stale(3)
    asked = alert(labels={"remediation": "vacuum", "action": "purge", "limit": "1", "path": "/etc/passwd"}, do="purge")
    assert there.decisions(delivery(asked, options={"limit": 1})) == ["accepted"]
    acted_once(there)
