"""Alert episodes and cooldowns: which delivery enqueues a run, and which is a duplicate. Pure."""

from dataclasses import replace

import pytest

from actions.model.outcome import Effect, Outcome
from actions.policy.cooldown import ActionHistory, admit_request, cooldown_left, elapsed_seconds
from actions.policy.episodes import (
    Episode,
    EpisodeRun,
    decide_delivery,
    on_enqueued,
    on_firing,
    on_resolved,
)
from actions.policy.suspension import SuspensionState

NEW = Episode("firing", 1, 1000.0, 1000.0)
TRIED = Episode("firing", 1, 1000.0, 1000.0, run_id=7, tries=1)
COOLDOWN = 600.0
HOUR, DAY, WEEK = 3600.0, 86400.0, 604_800.0
SAME_NEWS = 60.0  # a minute, as docs/safety.md says


def test_a_new_alert_begins_an_episode() -> None:
    assert on_firing(None, 1000.0) == Episode("firing", 1, 1000.0, 1000.0, deliveries=1, run_id=None, tries=0)


def test_a_repeated_delivery_while_it_fires_is_the_same_episode() -> None:
    assert on_firing(TRIED, 1300.0) == Episode("firing", 1, 1000.0, 1300.0, deliveries=2, run_id=7, tries=1)


def test_after_it_was_over_it_is_the_next_episode_and_owes_nothing_to_the_last() -> None:
    over = on_resolved(TRIED, 1500.0)
    assert over == Episode("resolved", 1, 1000.0, 1500.0, run_id=7, tries=1)
    assert on_firing(over, 1600.0) == Episode("firing", 2, 1600.0, 1600.0)


def test_an_alert_that_is_not_repeated_for_a_week_was_over() -> None:
    assert on_firing(NEW, 1000.0 + WEEK).number == 1
    assert on_firing(NEW, 1000.1 + WEEK).number == 2


def test_the_first_delivery_enqueues_a_run() -> None:
    assert decide_delivery(NEW, None, COOLDOWN, 1000.0) == "enqueue"


def test_while_its_run_is_pending_or_active_every_delivery_is_a_duplicate() -> None:
    assert decide_delivery(TRIED, EpisodeRun(None), COOLDOWN, 99_999.0) == "duplicate"


ENDED = 2000.0


def ended(outcome: Outcome = Outcome.DONE, effect: Effect | None = Effect.NO_EFFECT) -> EpisodeRun:
    return EpisodeRun(ENDED, outcome, effect)


@pytest.mark.parametrize("cooldown", [0.0, COOLDOWN])
def test_soon_after_its_run_a_delivery_is_the_pairs_other_half_or_a_lost_answer(cooldown: float) -> None:
    assert decide_delivery(TRIED, ended(), cooldown, ENDED + SAME_NEWS - 0.1) == "duplicate"
    assert decide_delivery(TRIED, ended(effect=Effect.FIXED), cooldown, ENDED) == "duplicate"
    assert decide_delivery(TRIED, ended(Outcome.NOTHING_TO_DO, None), cooldown, ENDED + 1) == "duplicate"


def test_a_repeat_of_a_firing_alert_enqueues_again_after_the_cooldown() -> None:
    assert decide_delivery(TRIED, ended(), COOLDOWN, ENDED + SAME_NEWS) == "cooldown"
    assert decide_delivery(TRIED, ended(), COOLDOWN, ENDED + COOLDOWN - 0.1) == "cooldown"
    assert decide_delivery(TRIED, ended(), COOLDOWN, ENDED + COOLDOWN) == "enqueue"
    assert decide_delivery(TRIED, ended(), 0.0, ENDED + SAME_NEWS) == "enqueue"


@pytest.mark.parametrize(("tries", "times"), [(0, 1), (1, 1), (2, 2), (3, 4), (5, 16)])
def test_the_cooldown_doubles_as_long_as_no_run_helps(tries: int, times: int) -> None:
    episode = Episode("firing", 1, 0.0, 0.0, run_id=7, tries=tries)
    assert decide_delivery(episode, ended(), COOLDOWN, ENDED + times * COOLDOWN - 0.1) == "cooldown"
    assert decide_delivery(episode, ended(), COOLDOWN, ENDED + times * COOLDOWN) == "enqueue"


def test_the_cooldown_is_never_longer_than_a_day() -> None:
    episode = Episode("firing", 1, 0.0, 0.0, run_id=7, tries=5)
    assert decide_delivery(episode, ended(), 80_000.0, ENDED + DAY - 0.1) == "cooldown"
    assert decide_delivery(episode, ended(), 80_000.0, ENDED + DAY) == "enqueue"


def test_after_six_tries_an_episode_enqueues_no_more() -> None:
    worn = Episode("firing", 1, 0.0, 0.0, run_id=7, tries=6)
    assert decide_delivery(replace(worn, tries=5), ended(), COOLDOWN, ENDED + 10 * DAY) == "enqueue"
    assert decide_delivery(worn, ended(), COOLDOWN, ENDED + 10 * DAY) == "disabled"
    assert decide_delivery(worn, ended(effect=Effect.FIXED), COOLDOWN, ENDED + SAME_NEWS) == "enqueue"


@pytest.mark.parametrize("outcome", [Outcome.LOCKED, Outcome.INTERRUPTED, Outcome.REFUSED, Outcome.BLOCKED])
def test_a_run_that_did_not_get_to_its_work_does_not_count(outcome: Outcome) -> None:
    assert decide_delivery(TRIED, ended(outcome, None), COOLDOWN, ENDED) == "enqueue"


@pytest.mark.parametrize("outcome", [Outcome.DONE, Outcome.FAILED, Outcome.CANCELLED, Outcome.UNVERIFIED])
def test_a_run_that_did_its_work_or_was_stopped_is_one(outcome: Outcome) -> None:
    assert decide_delivery(TRIED, ended(outcome, None), 0.0, ENDED) == "duplicate"


def test_after_a_run_that_helped_the_next_one_does_not_wait_for_earlier_failures() -> None:
    episode = Episode("firing", 1, 0.0, 0.0, run_id=7, tries=5)
    assert decide_delivery(episode, ended(effect=Effect.FIXED), COOLDOWN, ENDED + SAME_NEWS) == "enqueue"
    assert decide_delivery(episode, ended(Outcome.NOTHING_TO_DO, None), COOLDOWN, ENDED + SAME_NEWS) == "enqueue"


def test_a_run_with_nothing_to_do_while_the_condition_holds_did_not_help() -> None:
    assert (
        decide_delivery(TRIED, ended(Outcome.NOTHING_TO_DO, Effect.NO_EFFECT), COOLDOWN, ENDED + SAME_NEWS)
        == "cooldown"
    )
    assert on_enqueued(TRIED, ended(Outcome.NOTHING_TO_DO, Effect.NO_EFFECT), 8).tries == 2


def test_tries_are_counted_since_one_helped() -> None:
    assert on_enqueued(NEW, None, 7) == TRIED
    assert on_enqueued(TRIED, ended(), 8).tries == 2
    assert on_enqueued(TRIED, ended(), 8).run_id == 8
    assert on_enqueued(Episode("firing", 1, 0.0, 0.0, run_id=7, tries=4), ended(effect=Effect.FIXED), 8).tries == 1
    assert (
        on_enqueued(Episode("firing", 1, 0.0, 0.0, run_id=7, tries=4), ended(Outcome.NOTHING_TO_DO, None), 8).tries == 1
    )


def test_a_clock_set_back_a_little_repeats_nothing_and_set_back_far_waits_for_nothing() -> None:
    assert decide_delivery(TRIED, ended(), 0.0, ENDED - 1) == "duplicate"
    assert decide_delivery(TRIED, ended(), COOLDOWN, ENDED - HOUR - 1) == "enqueue"


@pytest.mark.parametrize(
    ("then", "now", "seconds"),
    [(10.0, 15.0, 5.0), (15.0, 10.0, 0.0), (HOUR + 10, 10.0, 0.0), (HOUR + 10.5, 10.0, float("inf"))],
)
def test_elapsed_time_by_a_clock_that_can_be_set_back(then: float, now: float, seconds: float) -> None:
    assert elapsed_seconds(then, now) == seconds


def test_a_request_is_accepted_without_a_run_a_cooldown_or_a_suspension() -> None:
    assert admit_request(ActionHistory(), COOLDOWN, 0.0) == "accepted"
    assert admit_request(ActionHistory(last_ended=100.0), COOLDOWN, 700.0) == "accepted"
    assert admit_request(ActionHistory(last_ended=100.0), COOLDOWN, 699.9) == "cooldown"
    assert admit_request(ActionHistory(last_ended=100.0), 0.0, 100.0) == "accepted"
    assert admit_request(ActionHistory(suspension=SuspensionState(2, since=5.0)), 0.0, 700.0) == "disabled"
    assert admit_request(ActionHistory(suspension=SuspensionState(1)), 0.0, 700.0) == "accepted"
    assert (
        admit_request(ActionHistory(unfinished_run=0, suspension=SuspensionState(2, since=5.0)), 0.0, 700.0)
        == "duplicate"
    )


def test_cooldown_left_in_seconds() -> None:
    assert cooldown_left(ActionHistory(), COOLDOWN, 5.0) == 0.0
    assert cooldown_left(ActionHistory(last_ended=100.0), COOLDOWN, 400.0) == 300.0
    assert cooldown_left(ActionHistory(last_ended=100.0), COOLDOWN, 900.0) == 0.0
