"""One line for any run: why it ran, what it did, whether it helped, and which alert asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from actions.model.condition import Condition
from actions.model.outcome import Effect, Outcome
from actions.model.request import Request
from actions.store import runs
from actions.store.database import state_store
from actions.store.runs import RunEnding
from exporter.text.run import run_fields, run_line

NIGHT = 1_772_420_400.0
BACKLOG = Condition("sqlite_wal_backlog_bytes", above=67108864, clear=8388608)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[apsw.Connection]:
    with state_store(tmp_path) as made:
        yield made


def line_of(store: apsw.Connection, request: Request, **ending: Any) -> str:
    """The line of a run that took 1.5 s and ended like this."""
    claim = runs.enqueue_and_claim(store, request, "/jobs.db", NIGHT)
    runs.start_run(store, claim, NIGHT)
    runs.end_run(
        store, claim, RunEnding(**{"outcome": Outcome.DONE, "message": "copied 300 frames", **ending}), NIGHT + 1.5
    )
    return run_line(runs.load_run(store, claim.run_id))


def test_an_alert_with_its_fingerprint_and_what_it_did_about_it(store: apsw.Connection) -> None:
    request = Request("checkpoint", "jobs", "alert", rule="wal", condition=BACKLOG, episode="c0ffee0123456789/2")
    assert line_of(store, request, before=70000000, after=0, effect=Effect.FIXED) == (
        "2026-03-02 03:00:01Z #1 jobs checkpoint: done in 1.5 s, effect fixed (70000000 -> 0); "
        "alert of rule wal, sqlite_wal_backlog_bytes above 67108864, alert c0ffee0123456789/2: copied 300 frames"
    )


def test_what_stood_in_the_way_by_name(store: apsw.Connection) -> None:
    blocked = {"outcome": Outcome.BLOCKED, "message": "held back by pid 7 (report.py)", "effect": Effect.BLOCKED}
    request = Request("checkpoint", "jobs", "threshold", rule="wal", condition=BACKLOG)
    assert line_of(store, request, before=7e7, after=7e7, **blocked) == (
        "2026-03-02 03:00:01Z #1 jobs checkpoint: blocked in 1.5 s, effect blocked (70000000 -> 70000000); "
        "threshold of rule wal, sqlite_wal_backlog_bytes above 67108864: held back by pid 7 (report.py)"
    )


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        (Condition("sqlite_disk_free_bytes", below=5), "threshold of rule r, sqlite_disk_free_bytes below 5: x"),
        (Condition("sqlite_backup_age_seconds", absent=93600.0), "sqlite_backup_age_seconds absent for 1d 2h: x"),
    ],
)
def test_other_conditions(store: apsw.Connection, condition: Condition, why: str) -> None:
    request = Request("backup", "jobs", "threshold", rule="r", condition=condition)
    assert line_of(store, request, message="x", after=3, effect=Effect.FIXED).endswith(why)


def test_a_value_that_was_not_there(store: apsw.Connection) -> None:
    request = Request("backup", "jobs", "threshold", rule="r", condition=Condition("m", absent=60.0))
    assert "effect fixed (none -> 3)" in line_of(store, request, after=3, effect=Effect.FIXED)
    assert "effect unknown (3 -> none)" in line_of(store, request, before=3, effect=Effect.UNKNOWN)


def test_a_schedule_and_a_person(store: apsw.Connection) -> None:
    assert "jobs backup: done in 1.5 s; schedule nightly: " in line_of(
        store, Request("backup", "jobs", "schedule", rule="nightly")
    )
    assert "; requested by a person: " in line_of(store, Request("backup", "jobs"))
    assert "; requested by token deploy: " in line_of(store, Request("backup", "jobs", asked_by="token\ndeploy"))


@pytest.mark.parametrize(
    ("request_of", "who"),
    [
        (Request("backup", "jobs", asked_by="user ann (uid 1000)"), "user ann (uid 1000)"),
        (Request("backup", "jobs"), "a person"),
        (Request("backup", "jobs", "schedule", rule="nightly"), "schedule nightly"),
        (Request("checkpoint", "jobs", "threshold", rule="wal", condition=BACKLOG), "rule wal"),
        (Request("checkpoint", "jobs", "alert", rule="wal", episode="c0ffee/2"), "rule wal, alert c0ffee/2"),
    ],
)
def test_the_requester_is_a_field(store: apsw.Connection, request_of: Request, who: str) -> None:
    number, _ = runs.enqueue_run(store, request_of, "/jobs.db", NIGHT)
    assert run_fields(runs.load_run(store, number))["requested_by"] == who


def test_it_is_one_line_whatever_the_message_holds(store: apsw.Connection) -> None:
    assert line_of(store, Request("backup", "jobs"), message="one\ntwo\r\n  three").endswith(": one two three")


def test_what_waits_says_so(store: apsw.Connection) -> None:
    number, _ = runs.enqueue_run(store, Request("backup", "jobs", "schedule", rule="nightly"), "/jobs.db", NIGHT)
    assert run_line(runs.load_run(store, number)) == (
        "2026-03-02 03:00:00Z #1 jobs backup: pending; schedule nightly: not ended yet"
    )
