"""What is refused is said, and never without end."""

from typing import Any

import pytest

from exporter.web.log_limit import MOST, WINDOW, Refusals


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    """The values of every line so far."""
    return lambda: [record.__dict__["values"] for record in caplog.records]


def test_each_is_said_up_to_so_many_in_a_minute(said: Any) -> None:
    refusals = Refusals()
    for number in range(MOST + 50):
        refusals.tell(401, "no bearer token given", f"10.0.0.{number}", 1000.0 + number / 10)
    assert len(said()) == MOST
    assert said()[0] == {"code": 401, "reason": "no bearer token given", "peer": "10.0.0.0"}


def test_the_first_of_the_next_minute_says_how_many_were_not_said(said: Any) -> None:
    refusals = Refusals()
    for _ in range(MOST + 50):
        refusals.tell(401, "x", "a", 1000.0)
    refusals.tell(400, "y", "b", 1000.0 + WINDOW - 0.1)
    assert len(said()) == MOST
    refusals.tell(400, "y", "b", 1000.0 + WINDOW)
    assert said()[-1] == {"code": 400, "reason": "y", "peer": "b", "refused_unsaid_before": 51}
    refusals.tell(400, "y", "b", 1000.0 + 2 * WINDOW)
    assert "refused_unsaid_before" not in said()[-1]
