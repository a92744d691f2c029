"""When an action that does not help is suspended, and what lifts the suspension. Pure."""

from dataclasses import replace

import pytest

from actions.model.condition import Condition, Measurement
from actions.model.outcome import Effect, Outcome
from actions.policy.effect import PROGRESS_SHARE, made_progress
from actions.policy.suspension import CONDITION_GONE, RunResult, SuspensionState, state_after_reading, state_after_run

HIGH = Condition("sqlite_wal_backlog_bytes", above=100.0, clear=10.0)
NO_HELP = RunResult(Outcome.DONE, Effect.NO_EFFECT, "wal", HIGH, 200.0, 200.0, "", "copied nothing", "look at it")
BLOCKED = RunResult(
    Outcome.BLOCKED, Effect.BLOCKED, "wal", HIGH, 200.0, 200.0, "reader", "held back by pid 7", "let it end"
)
ONCE = state_after_run(SuspensionState(), NO_HELP, 50.0)
TWICE = state_after_run(ONCE, NO_HELP, 60.0)
STUCK = state_after_run(state_after_run(SuspensionState(), BLOCKED, 50.0), BLOCKED, 60.0)


def test_two_runs_in_a_row_that_did_not_help_suspend() -> None:
    assert SuspensionState(1, None, 50.0, False, "wal", HIGH, "copied nothing", "look at it") == ONCE
    assert not ONCE.is_suspended
    assert SuspensionState(2, 60.0, 60.0, False, "wal", HIGH, "copied nothing", "look at it") == TWICE
    assert TWICE.is_suspended


@pytest.mark.parametrize("effect", [Effect.NO_EFFECT, Effect.WORSE, Effect.BLOCKED])
def test_worse_and_blocked_are_no_help_either(effect: Effect) -> None:
    assert state_after_run(ONCE, replace(NO_HELP, effect=effect), 60.0).is_suspended


def test_the_state_tells_what_happened_and_what_a_person_should_do() -> None:
    assert TWICE.suspension_reason == "2 runs in a row did not help, the last: copied nothing"
    assert TWICE.suspension_cure == "look at it; then: queuekeeper resume"
    assert replace(TWICE, next_step="").suspension_cure == "then: queuekeeper resume"


def test_a_further_run_does_not_move_the_time_of_the_suspension() -> None:
    again = state_after_run(TWICE, replace(NO_HELP, message="again"), 70.0)
    assert (again.strikes, again.since, again.at, again.message) == (3, 60.0, 70.0, "again")


def test_a_run_that_fixed_it_begins_anew() -> None:
    assert state_after_run(ONCE, replace(NO_HELP, effect=Effect.FIXED), 60.0) == SuspensionState()
    assert state_after_run(TWICE, replace(NO_HELP, effect=Effect.FIXED), 70.0) == SuspensionState()


def test_a_run_that_found_it_healed_read_that_it_is() -> None:
    gone = RunResult(Outcome.NOTHING_TO_DO, None, "wal", HIGH, 5.0, reason=CONDITION_GONE)
    assert state_after_run(TWICE, gone, 70.0) == SuspensionState()
    assert state_after_run(TWICE, replace(gone, reason="empty"), 70.0) == TWICE
    assert state_after_run(TWICE, replace(gone, outcome=Outcome.REFUSED), 70.0) == TWICE


@pytest.mark.parametrize("effect", [None, Effect.UNKNOWN])
def test_a_run_whose_effect_is_not_known_changes_nothing(effect: Effect | None) -> None:
    assert state_after_run(ONCE, replace(NO_HELP, effect=effect), 60.0) == ONCE


def test_a_run_without_a_condition_changes_nothing() -> None:
    assert state_after_run(ONCE, replace(NO_HELP, condition=None), 60.0) == ONCE


def test_a_run_that_made_progress_is_not_counted() -> None:
    closer = replace(NO_HELP, after=200.0 - PROGRESS_SHARE * 190.0)
    assert state_after_run(ONCE, closer, 60.0) == ONCE
    assert state_after_run(ONCE, replace(closer, after=200.0 - PROGRESS_SHARE * 190.0 + 0.1), 60.0).is_suspended
    assert state_after_run(ONCE, replace(closer, effect=Effect.BLOCKED), 60.0).is_suspended


@pytest.mark.parametrize(
    ("condition", "before", "after", "closer"),
    [
        (HIGH, 200.0, 181.0, True),
        (HIGH, 200.0, 181.1, False),
        (HIGH, 200.0, 219.0, False),
        (HIGH, None, 5.0, False),
        (HIGH, 200.0, None, False),
        (HIGH, 10.0, 10.0, False),
        (Condition("m", above=100.0), 200.0, 190.0, True),
        (Condition("m", above=100.0), 200.0, 190.1, False),
        (Condition("m", below=100.0, clear=200.0), 50.0, 65.0, True),
        (Condition("m", below=100.0, clear=200.0), 50.0, 64.9, False),
        (Condition("m", below=100.0), 50.0, 55.0, True),
        (Condition("m", below=100.0), 50.0, 45.0, False),
        (Condition("m", absent=60.0), 50.0, 1.0, False),
        (Condition("m", above=0.0), 5.0, 4.0, True),
    ],
)
def test_progress_is_a_tenth_of_the_way_to_the_clear_level(
    condition: Condition, before: float | None, after: float | None, closer: bool
) -> None:
    assert made_progress(condition, before, after) is closer


def test_only_a_reading_at_the_clear_level_lifts_it() -> None:
    assert state_after_reading(TWICE, Measurement(10.0), 61.0, held_back=None) == SuspensionState()
    assert state_after_reading(ONCE, Measurement(10.0), 61.0, held_back=None) == SuspensionState()
    for held_back in (None, False, True):
        assert state_after_reading(TWICE, Measurement(10.1), 61.0, held_back=held_back) == TWICE
        assert state_after_reading(TWICE, Measurement(None), 61.0, held_back=held_back) == TWICE
        assert state_after_reading(TWICE, Measurement(None, read=False), 61.0, held_back=held_back) == TWICE


def test_a_reading_from_before_the_run_changes_nothing() -> None:
    assert state_after_reading(TWICE, Measurement(0.0), 59.9, held_back=False) == TWICE
    assert state_after_reading(TWICE, Measurement(0.0), 60.0, held_back=False) == SuspensionState()


def test_a_run_that_another_clock_dated_keeps_no_reading_away() -> None:
    """The clock was far ahead at that run: it would be suspended until that time had come."""
    ahead = replace(TWICE, at=60.0 + 200 * 86400)
    assert state_after_reading(ahead, Measurement(0.0), 60.0, held_back=False) == SuspensionState()


def test_where_nothing_is_remembered_a_reading_changes_nothing() -> None:
    assert state_after_reading(SuspensionState(), Measurement(0.0), 60.0, held_back=False) == SuspensionState()


def test_when_the_reader_is_gone_it_is_lifted_for_one_try() -> None:
    freed = state_after_reading(STUCK, Measurement(200.0), 61.0, held_back=False)
    assert freed == replace(STUCK, since=None, strikes=1)
    assert state_after_run(freed, BLOCKED, 70.0).is_suspended
    assert state_after_run(freed, replace(BLOCKED, effect=Effect.FIXED), 70.0) == SuspensionState()


@pytest.mark.parametrize("held_back", [True, None])
def test_while_the_reader_is_there_or_cannot_be_seen_it_stays(held_back: bool | None) -> None:
    assert state_after_reading(STUCK, Measurement(200.0), 61.0, held_back=held_back) == STUCK


def test_an_action_that_is_not_suspended_is_not_lifted() -> None:
    once = state_after_run(SuspensionState(), BLOCKED, 50.0)
    assert state_after_reading(once, Measurement(200.0), 61.0, held_back=False) == once


def test_the_last_run_tells_whether_a_reader_was_the_reason() -> None:
    assert state_after_run(state_after_run(SuspensionState(), BLOCKED, 50.0), NO_HELP, 60.0).blocked is False
    assert state_after_run(ONCE, BLOCKED, 60.0).blocked is True
