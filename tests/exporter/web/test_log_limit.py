"""Rejections are logged, at a limited rate."""

from typing import Any

import pytest

from exporter.web.log_limit import LOG_WINDOW, MAX_LOG_LINES, RejectionLog


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    """Return the values of all log lines so far."""
    return lambda: [record.__dict__["values"] for record in caplog.records]


def test_each_is_said_up_to_so_many_in_a_minute(said: Any) -> None:
    refusals = RejectionLog()
    for number in range(MAX_LOG_LINES + 50):
        refusals.log_rejection(401, "no bearer token given", f"10.0.0.{number}", 1000.0 + number / 10)
    assert len(said()) == MAX_LOG_LINES
    assert said()[0] == {"code": 401, "reason": "no bearer token given", "peer": "10.0.0.0"}


def test_the_first_of_the_next_minute_says_how_many_were_not_said(said: Any) -> None:
    refusals = RejectionLog()
    for _ in range(MAX_LOG_LINES + 50):
        refusals.log_rejection(401, "x", "a", 1000.0)
    refusals.log_rejection(400, "y", "b", 1000.0 + LOG_WINDOW - 0.1)
    assert len(said()) == MAX_LOG_LINES
    refusals.log_rejection(400, "y", "b", 1000.0 + LOG_WINDOW)
    assert said()[-1] == {"code": 400, "reason": "y", "peer": "b", "rejections_not_logged": 51}
    refusals.log_rejection(400, "y", "b", 1000.0 + 2 * LOG_WINDOW)
    assert "rejections_not_logged" not in said()[-1]
