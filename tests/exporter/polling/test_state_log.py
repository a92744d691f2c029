"""A changed state of a database is logged once, with its next step; an unchanged one is not."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from collectors.access.snapshot import Snapshot
from collectors.owner import OwnerReading
from collectors.target import Target
from exporter.polling.state_log import StateLog

GOOD = Snapshot(Target("jobs", Path("/jobs.db")), 0.0, up=True, state="readable")
BAD = replace(GOOD, up=False, state="permission", message="/jobs.db: our rights do not suffice")


def said(caplog: pytest.LogCaptureFixture, *snapshots: Snapshot) -> list[tuple[str, str, dict[str, object]]]:
    log = StateLog()
    with caplog.at_level(logging.INFO):
        for snapshot in snapshots:
            log.on_snapshot(snapshot)
    return [(record.levelname, record.getMessage(), record.values) for record in caplog.records]  # type: ignore[attr-defined]


def test_a_healthy_database_is_no_event(caplog: pytest.LogCaptureFixture) -> None:
    assert said(caplog, GOOD, GOOD) == []


def test_trouble_is_said_once_with_its_message_and_recovery_once(caplog: pytest.LogCaptureFixture) -> None:
    (gone, back) = said(caplog, GOOD, BAD, BAD, BAD, GOOD, GOOD)
    assert gone[:2] == ("WARNING", "database cannot be read")
    assert gone[2]["reason"] == BAD.message
    assert back[:2] == ("INFO", "database can be read again")


def test_another_trouble_is_another_event(caplog: pytest.LogCaptureFixture) -> None:
    assert [event[2]["state"] for event in said(caplog, BAD, replace(BAD, state="missing"))] == [
        "permission",
        "missing",
    ]


def test_an_application_that_is_down_is_told_without_alarm(caplog: pytest.LogCaptureFixture) -> None:
    down = replace(GOOD, state="owner_down", message="no application has it open; only its size is read")
    assert [event[:2] for event in said(caplog, GOOD, down, down)] == [("INFO", "database is read in part")]


def test_an_owner_that_contradicts_the_configuration_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    owner = OwnerReading(
        "/jobs.db", "wal", "none", "", "", "3.40.1", vulnerable=False, warning="owner_sqlite says 3.51.3, but"
    )
    wrong = replace(GOOD, readings={"owner": owner})
    right = replace(GOOD, readings={"owner": replace(owner, warning="")})
    events = said(caplog, wrong, wrong, right, wrong)
    assert [event[:2] for event in events] == [("WARNING", "owner_sqlite may be wrong")] * 2
