"""Enqueueing on a real history: alerts, their repeats and their ends become runs, each at most once. The clock is given."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from actions.model.condition import Condition
from actions.model.outcome import Effect, Outcome
from actions.policy.alerts import DeliveredAlert
from actions.policy.episodes import DUPLICATE_WITHIN, Episode
from actions.policy.rules import Rule, rule_request
from actions.policy.suspension import SuspensionState
from actions.runner.enqueue import EnqueueResult, enqueue_automatic, handle_firing, handle_resolved
from actions.store import runs
from actions.store.alert_episodes import EPISODE_RETENTION, EpisodeKey, delete_old_episodes, load_episode
from actions.store.database import state_store, store_transaction
from actions.store.pause import clear_pause, set_pause
from actions.store.runs import Run, RunEnding
from actions.store.suspensions import load_suspension, load_suspensions, save_suspension

STALE = Condition("sqlite_queue_stale_leases", above=0)
RULE = Rule("stale", STALE, "requeue", cooldown=600.0)
FIXED = RunEnding(Outcome.DONE, "requeued 3", before=3, after=0, effect=Effect.FIXED)
NO_HELP = RunEnding(Outcome.DONE, "requeued 0", next_step="look", before=3, after=3, effect=Effect.NO_EFFECT)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[apsw.Connection]:
    with state_store(tmp_path / "state") as made:
        yield made


def firing(fingerprint: str = "c0ffee", receiver: str = "queuekeeper") -> DeliveredAlert:
    return DeliveredAlert("firing", {"alertname": "QueueStaleLeases"}, fingerprint, receiver=receiver)


def over(fingerprint: str = "c0ffee", receiver: str = "queuekeeper") -> DeliveredAlert:
    return DeliveredAlert("resolved", {"alertname": "QueueStaleLeases"}, fingerprint, receiver=receiver)


def heard(store: apsw.Connection, now: float, alert: DeliveredAlert | None = None, rule: Rule = RULE) -> EnqueueResult:
    with store_transaction(store):
        return handle_firing(store, rule, "jobs", "/jobs.db", alert or firing(), now)


def resolved(store: apsw.Connection, now: float, alert: DeliveredAlert | None = None) -> list[int]:
    with store_transaction(store):
        return list(handle_resolved(store, alert or over(), now))


def performed(store: apsw.Connection, ending: RunEnding, now: float) -> Run:
    """The run that waits is begun and ends like this."""
    (waiting,) = runs.pending_runs(store)
    claim = runs.claim_run(store, waiting.id, now)
    assert claim is not None
    assert runs.start_run(store, claim, now)
    assert runs.end_run(store, claim, ending, now)
    return runs.load_run(store, waiting.id)


def test_an_alert_becomes_one_run_that_names_the_alert(store: apsw.Connection) -> None:
    assert heard(store, 1000.0) == EnqueueResult("accepted", 1)
    (waiting,) = runs.pending_runs(store)
    assert (waiting.trigger, waiting.rule, waiting.episode) == ("alert", "stale", "c0ffee/1")
    assert waiting.request == rule_request(RULE, "jobs", "alert", "c0ffee/1")


def test_a_delivery_while_its_run_is_pending_active_or_just_ended_is_that_run(store: apsw.Connection) -> None:
    heard(store, 1000.0)
    assert heard(store, 1000.002) == EnqueueResult("duplicate", 1)
    ended = performed(store, FIXED, 1001.0)
    assert heard(store, 1015.0) == EnqueueResult("duplicate", ended.id)
    assert len(runs.newest_runs(store, None, 10)) == 1


def test_a_repeat_that_still_fires_acts_again_after_the_cooldown_until_suspended(store: apsw.Connection) -> None:
    heard(store, 1000.0)
    performed(store, NO_HELP, 1001.0)
    assert heard(store, 1500.0).decision == "cooldown"
    assert heard(store, 1602.0) == EnqueueResult("accepted", 2)
    performed(store, NO_HELP, 1603.0)
    stands = load_suspension(store, "jobs", "requeue")
    assert (stands.is_suspended, stands.strikes, stands.since) == (True, 2, 1603.0)
    assert stands.suspension_cure == "look; then: queuekeeper resume"
    assert heard(store, 99_999.0).decision == "disabled"
    assert (
        enqueue_automatic(store, rule_request(RULE, "jobs", "threshold"), "/jobs.db", 99_999.0).decision == "disabled"
    )
    assert clear_pause(store) == 1
    assert heard(store, 200_000.0).decision == "accepted"


def test_after_a_run_that_helped_the_next_trouble_needs_no_longer_rest(store: apsw.Connection) -> None:
    rule = Rule("stale", STALE, "requeue", cooldown=10.0)
    heard(store, 1000.0, rule=rule)
    performed(store, FIXED, 1001.0)
    assert heard(store, 1001.0 + DUPLICATE_WITHIN - 1, rule=rule).decision == "duplicate"
    assert heard(store, 1001.0 + DUPLICATE_WITHIN, rule=rule).decision == "accepted"


def test_resolved_and_firing_again_is_a_new_episode_within_the_same_cooldown(store: apsw.Connection) -> None:
    heard(store, 1000.0)
    performed(store, FIXED, 1001.0)
    assert resolved(store, 1100.0) == []
    assert heard(store, 1200.0) == EnqueueResult("cooldown", None)
    assert heard(store, 1601.0) == EnqueueResult("accepted", 2)
    assert runs.load_run(store, 2).episode == "c0ffee/2"


def test_a_resolution_cancels_a_run_that_has_not_started(store: apsw.Connection) -> None:
    heard(store, 1000.0)
    assert resolved(store, 1001.0) == [1]
    ended_run = runs.load_run(store, 1)
    assert (ended_run.state, ended_run.outcome, ended_run.reason) == ("ended", "cancelled", "alert_resolved")
    assert resolved(store, 1002.0) == []


def test_a_resolution_cancels_a_claimed_run_and_its_child_exits(store: apsw.Connection) -> None:
    heard(store, 1000.0)
    claim = runs.claim_run(store, 1, 1000.5)
    assert claim is not None
    assert resolved(store, 1001.0) == [1]
    assert not runs.start_run(store, claim, 1001.5)


def test_a_resolution_does_not_stop_a_running_run(store: apsw.Connection) -> None:
    heard(store, 1000.0)
    claim = runs.claim_run(store, 1, 1000.5)
    assert claim is not None
    assert runs.start_run(store, claim, 1000.6)
    assert resolved(store, 1001.0) == []
    assert runs.load_run(store, 1).state == "running"


def test_two_alerts_fold_into_one_run_which_stays_until_both_are_over(store: apsw.Connection) -> None:
    assert heard(store, 1000.0, firing("mail")) == EnqueueResult("accepted", 1)
    assert heard(store, 1000.1, firing("report")) == EnqueueResult("duplicate", 1)
    assert resolved(store, 1001.0, over("mail")) == []
    assert runs.load_run(store, 1).state == "pending"
    assert resolved(store, 1002.0, over("report")) == [1]


def test_an_alert_that_found_a_run_of_a_threshold_does_not_cancel_it(store: apsw.Connection) -> None:
    enqueue_automatic(store, rule_request(RULE, "jobs", "threshold"), "/jobs.db", 1000.0)
    assert heard(store, 1000.1) == EnqueueResult("duplicate", 1)
    assert resolved(store, 1001.0) == []
    assert runs.load_run(store, 1).state == "pending"


def test_two_receivers_are_two_episodes_and_one_run(store: apsw.Connection) -> None:
    heard(store, 1000.0, firing(receiver="a"))
    assert heard(store, 1000.1, firing(receiver="b")) == EnqueueResult("duplicate", 1)
    performed(store, FIXED, 1001.0)
    assert heard(store, 1010.0, firing(receiver="b")) == EnqueueResult("duplicate", 1)


def test_a_resolution_of_an_alert_that_never_fired_here_changes_nothing(store: apsw.Connection) -> None:
    assert resolved(store, 1000.0) == []
    assert load_episode(store, EpisodeKey("queuekeeper", "c0ffee", "stale", "jobs")) is None


def test_a_request_within_a_cooldown_is_made_again_with_the_next_delivery(store: apsw.Connection) -> None:
    enqueue_automatic(store, rule_request(RULE, "jobs", "threshold"), "/jobs.db", 900.0)
    performed(store, FIXED, 901.0)
    assert heard(store, 1000.0) == EnqueueResult("cooldown", None)
    assert heard(store, 1501.0) == EnqueueResult("accepted", 2)


def test_a_blocked_run_is_tried_again_with_the_next_delivery_after_the_cooldown(store: apsw.Connection) -> None:
    heard(store, 1000.0)
    performed(store, RunEnding(Outcome.BLOCKED, "pid 7", effect=Effect.BLOCKED, before=3, after=3), 1001.0)
    assert heard(store, 1600.0).decision == "cooldown"
    assert heard(store, 1601.0).decision == "accepted"


def test_an_interrupted_run_is_enqueued_again_at_once(store: apsw.Connection) -> None:
    heard(store, 1000.0)
    performed(store, RunEnding(Outcome.INTERRUPTED, "gone"), 1001.0)
    assert heard(store, 1002.0) == EnqueueResult("accepted", 2)


def test_nothing_is_claimed_behind_a_pause(store: apsw.Connection) -> None:
    heard(store, 1000.0)
    set_pause(store, "the test")
    assert runs.claim_run(store, 1, 1001.0) is None
    assert clear_pause(store) == 0
    assert runs.claim_run(store, 1, 1002.0) is not None


def test_old_episodes_are_forgotten_and_recent_ones_are_not(store: apsw.Connection) -> None:
    heard(store, 1000.0, firing("old"))
    heard(store, 2000.0, firing("new"))
    delete_old_episodes(store, 1000.0 + EPISODE_RETENTION + 0.1)
    assert load_episode(store, EpisodeKey("queuekeeper", "old", "stale", "jobs")) is None
    assert load_episode(store, EpisodeKey("queuekeeper", "new", "stale", "jobs")) == Episode(
        "firing", 1, 2000.0, 2000.0, run_id=1, tries=1
    )


def test_the_suspension_state_is_stored_until_it_is_clear(store: apsw.Connection) -> None:
    one_strike = SuspensionState(1, None, 5.0, True, "stale", STALE, "held back", "wait")
    save_suspension(store, "jobs", "requeue", one_strike)
    assert load_suspensions(store) == {("jobs", "requeue"): one_strike}
    save_suspension(store, "jobs", "requeue", SuspensionState())
    assert load_suspensions(store) == {}


def test_a_history_on_a_full_disk_rejects_a_delivery(store: apsw.Connection) -> None:
    store.execute(f"PRAGMA max_page_count={store.pragma('page_count')}")
    label = "x" * 100_000
    with pytest.raises(apsw.FullError), store_transaction(store):
        handle_firing(store, RULE, "jobs", "/jobs.db", firing(label), 1000.0)
    assert runs.newest_runs(store, None, 10) == []
    assert load_episode(store, EpisodeKey("queuekeeper", label, "stale", "jobs")) is None
