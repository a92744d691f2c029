"""The guards, by their inputs alone: what binds every run, what binds only automatic runs, and that each names its cure."""

from dataclasses import replace

import pytest

from actions.policy.windows import Window
from actions.runner.guards import STATE_RESERVE, AutomaticInputs, GuardInputs, first_refusal

MIB = 1024 * 1024
NOON = 12 * 3600.0
DAY = 86400.0
FINE = GuardInputs("purge", "purge", "jobs", 1000, 1000, STATE_RESERVE, None, False, "3.54.1", 256 * MIB, 256 * MIB)
AUTOMATIC = AutomaticInputs(NOON, needs_window=True, window=Window(0, 24 * 60), fresh_backup=3600.0, backup_age=3600.0)


def test_nothing_forbids_a_run_that_is_fine() -> None:
    assert first_refusal(FINE) is None
    assert first_refusal(replace(FINE, automatic=AUTOMATIC)) is None


def test_what_is_not_configured_forbids_nothing() -> None:
    assert first_refusal(replace(FINE, automatic=AutomaticInputs(NOON))) is None
    bare = GuardInputs("checkpoint", "checkpoint", "jobs", 1000, 1000, 16 * MIB, None, False, "3.54.1", database_free=0)
    assert first_refusal(bare) is None


def test_the_history_needs_16_mib() -> None:
    assert first_refusal(replace(FINE, state_free=16 * MIB)) is None
    assert first_refusal(replace(FINE, state_free=16 * MIB - 1)) is not None


@pytest.mark.parametrize(
    ("changed", "reason", "says", "cure"),
    [
        ({"linked_sqlite_vulnerable": True}, "vulnerable_sqlite", "3.54.1", "apsw"),
        ({"paused": "by ann"}, "paused", "by ann", "queuekeeper resume"),
        ({"user": 1001}, "foreign_owner", "user 1000", "run as user 1000 or as root"),
        ({"user": 0}, "foreign_owner", "the right to give files away", "CAP_CHOWN"),
        ({"state_free": STATE_RESERVE - 1}, "state_full", str(STATE_RESERVE), "free space"),
        ({"database_free": 255 * MIB}, "disk_full", f"{MIB} bytes are missing", "limits.disk_reserve"),
    ],
)
def test_what_binds_every_run(changed: dict[str, object], reason: str, says: str, cure: str) -> None:
    for facts in (FINE, replace(FINE, automatic=AUTOMATIC)):
        refused = first_refusal(replace(facts, **changed))  # type: ignore[arg-type] # by names of GuardInputs
        assert refused is not None
        assert refused.reason == reason
        assert says in str(refused)
        assert cure in refused.next_step


@pytest.mark.parametrize(
    "changed",
    [{"user": 0, "gives_files_away": True}, {"user": None, "owner": None}, {"user": None}, {"database_free": None}],
)
def test_root_and_systems_without_owners_and_actions_that_check_their_space(changed: dict[str, object]) -> None:
    assert first_refusal(replace(FINE, **changed)) is None  # type: ignore[arg-type] # by names of GuardInputs


@pytest.mark.parametrize(
    ("changed", "reason", "says", "cure"),
    [
        ({"window": None}, "no_window", "none is configured", 'windows: {purge: "02:00-04:00"}'),
        ({"window": Window(120, 240)}, "window_closed", "02:00-04:00 UTC", "by hand: queuekeeper purge jobs"),
        ({"backup_age": None}, "no_fresh_backup", "there is none", "queuekeeper backup jobs"),
        ({"backup_age": 7201.0}, "no_fresh_backup", "the newest is 2.0 h old", "actions.fresh_backup"),
        ({"backup_age": 30 * DAY}, "no_fresh_backup", "the newest is 720.0 h old", "actions.fresh_backup"),
        ({"fresh_backup": 1800.0}, "no_fresh_backup", "the newest is 1.0 h old", "actions.fresh_backup"),
        ({"fresh_backup": 30.0}, "no_fresh_backup", "no older than 30 s", "actions.fresh_backup"),
    ],
)
def test_what_binds_only_automatic_runs(changed: dict[str, object], reason: str, says: str, cure: str) -> None:
    refused = first_refusal(replace(FINE, automatic=replace(AUTOMATIC, **changed)))  # type: ignore[arg-type] # by its names
    assert refused is not None
    assert refused.reason == reason
    assert says in str(refused)
    assert cure in refused.next_step


@pytest.mark.parametrize(
    "changed", [{"needs_window": False, "window": None}, {"fresh_backup": None, "backup_age": None}]
)
def test_an_action_that_needs_no_window_or_destroys_nothing(changed: dict[str, object]) -> None:
    assert first_refusal(replace(FINE, automatic=replace(AUTOMATIC, **changed))) is None  # type: ignore[arg-type] # by its names
