"""Measuring a condition: a value, no value, or an unreadable one; and the effect of a run. Pure."""

from pathlib import Path

import pytest

from actions.model.condition import Condition, ConditionVerdict, Measurement
from actions.model.outcome import Effect
from actions.policy.effect import condition_measurement, is_wal_pinned, measured_effect
from actions.policy.rules import BlastRadius, ConditionWatch, Rule, advance_watch
from actions.policy.schedules import Schedule
from collectors import backups, wal
from collectors.access.snapshot import CollectorResult, Snapshot
from collectors.raw_reader.wal_readers import PinningReader
from collectors.registry import publishing_collector
from collectors.target import Target
from collectors.wal import WalReading
from collectors.wal_state import WalMemory

READ = CollectorResult(success=True, duration=0.0)
UNREAD = CollectorResult(success=False, duration=0.0)
NEVER = Condition("sqlite_backup_age_seconds", absent=100.0)
OLD = Condition("sqlite_backup_age_seconds", above=50.0)
JOBS = Target("jobs", Path("/jobs.db"))


def snapshot(*ages: float, result: CollectorResult | None = READ) -> Snapshot:
    collectors = {} if result is None else {backups.NAME: result}
    return Snapshot(JOBS, 5.0, True, "readable", samples=tuple(map(backups.AGE, ages)), collectors=collectors)


@pytest.mark.parametrize("condition", [NEVER, OLD])
def test_a_number_there_is_and_whether_its_collector_could_read(condition: Condition) -> None:
    assert condition_measurement(condition, snapshot(60.0), 5.0) == Measurement(60.0, read=True)
    assert condition_measurement(condition, snapshot(), 5.0) == Measurement(None, read=True)
    assert condition_measurement(condition, snapshot(result=UNREAD), 5.0) == Measurement(None, read=False)
    assert condition_measurement(condition, snapshot(result=None), 5.0) == Measurement(None, read=False)


def test_who_publishes_a_metric_is_known() -> None:
    assert publishing_collector("sqlite_backup_age_seconds") == backups.NAME
    assert publishing_collector("sqlite_wal_backlog_bytes") == wal.NAME
    assert publishing_collector("up") == ""


def test_no_value_is_wrong_where_one_must_be_and_unknown_where_none_could_be_read() -> None:
    assert NEVER.judge_measurement(Measurement(None, read=True)) is ConditionVerdict.WRONG
    assert NEVER.judge_measurement(Measurement(None, read=False)) is ConditionVerdict.UNKNOWN
    assert NEVER.judge_measurement(Measurement(0.0)) is ConditionVerdict.CLEAR
    assert OLD.judge_measurement(Measurement(None, read=True)) is ConditionVerdict.UNKNOWN


@pytest.mark.parametrize(
    ("condition", "level"),
    [
        (Condition("m", above=5.0), 5.0),
        (Condition("m", above=5.0, clear=2.0), 2.0),
        (Condition("m", above=0.0), 0.0),
        (Condition("m", below=5.0), 5.0),
        (Condition("m", below=5.0, clear=7.0), 7.0),
        (Condition("m", absent=5.0), None),
    ],
)
def test_where_it_counts_as_healed(condition: Condition, level: float | None) -> None:
    assert condition.clear_level == level


def test_an_absence_must_last_and_then_the_rules_own_time_as_well() -> None:
    rule = Rule("never", NEVER, "backup", hold=20.0)
    assert rule.required_hold == 120.0
    watch, due = advance_watch(rule, ConditionWatch(), Measurement(None), 1000.0)
    assert (watch, due) == (ConditionWatch(1000.0), False)
    assert advance_watch(rule, watch, Measurement(None), 1119.9) == (watch, False)
    assert advance_watch(rule, watch, Measurement(None), 1120.0) == (watch, True)
    assert advance_watch(rule, watch, Measurement(None, read=False), 1120.0) == (watch, False)
    assert advance_watch(rule, watch, Measurement(3.0), 1120.0) == (ConditionWatch(), False)


def test_the_wait_of_other_rules() -> None:
    assert Rule("r", OLD, "backup", hold=20.0).required_hold == 20.0
    assert Rule("r", OLD, "backup").required_hold == 0.0


def test_a_value_after_an_absence_is_the_effect_wanted() -> None:
    absent, there, unread = Measurement(None), Measurement(3.0), Measurement(None, read=False)
    assert measured_effect(NEVER, absent, there, blocked=False) is Effect.FIXED
    assert measured_effect(NEVER, absent, absent, blocked=False) is Effect.NO_EFFECT
    assert measured_effect(NEVER, there, absent, blocked=False) is Effect.NO_EFFECT
    assert measured_effect(NEVER, absent, unread, blocked=False) is Effect.UNKNOWN
    assert measured_effect(NEVER, unread, there, blocked=False) is Effect.UNKNOWN


def test_a_rule_covers_all_databases_or_those_it_names() -> None:
    assert Rule("r", OLD, "backup").covers_database("jobs")
    assert Rule("r", OLD, "backup", databases=("a", "jobs")).covers_database("jobs")
    assert not Rule("r", OLD, "backup", databases=("a",)).covers_database("jobs")


def test_the_usual_radius() -> None:
    usual = BlastRadius()
    assert (usual.databases, usual.share, usual.within) == (10, 0.1, 600.0)
    assert Rule("r", OLD, "backup").radius == usual
    assert Rule("r", OLD, "backup").cooldown == 600.0


def test_a_rule_is_as_urgent_as_a_schedule_unless_it_says_otherwise() -> None:
    assert Rule("r", OLD, "backup").priority == Schedule("s", "0 3 * * *", "backup").priority == 0


PINNER = PinningReader(7, "report", "report.py", 124, 1, 99)


def with_wal(state: str, *pinners: PinningReader, result: CollectorResult | None = READ) -> Snapshot:
    reading = WalReading(state, 100, 0, 4096, pinners, {}, WalMemory())
    collectors = {} if result is None else {wal.NAME: result}
    return Snapshot(JOBS, 5.0, True, "readable", readings={wal.NAME: reading}, collectors=collectors)


def test_whether_a_reader_pins_the_wal_and_when_that_is_not_known() -> None:
    assert is_wal_pinned(with_wal("pinned", PINNER)) is True
    assert is_wal_pinned(with_wal("backlog", PINNER)) is True
    assert is_wal_pinned(with_wal("backlog")) is False
    assert is_wal_pinned(with_wal("absent")) is False
    assert is_wal_pinned(with_wal("unknown")) is None
    assert is_wal_pinned(with_wal("idle", result=UNREAD)) is None
    assert is_wal_pinned(with_wal("idle", result=None)) is None
    assert is_wal_pinned(snapshot()) is None
