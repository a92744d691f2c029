"""Enqueues automatic requests: each becomes a pending run, or is rejected with a reason. There is no other way.

Cooldown and suspension belong to (database, action), whichever trigger requests it, and live in history: they survive
restarts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import apsw

from actions.model.outcome import Outcome
from actions.model.request import Request
from actions.policy.alerts import DeliveredAlert
from actions.policy.cooldown import Admission, admit_request
from actions.policy.episodes import decide_delivery, on_enqueued, on_firing, on_resolved
from actions.policy.rules import Rule, rule_request
from actions.store.alert_episodes import (
    EpisodeKey,
    firing_episodes,
    is_run_wanted,
    load_episode,
    load_episode_run,
    save_episode,
)
from actions.store.recent_runs import load_action_history
from actions.store.runs import RunEnding, cancel_pending_run, enqueue_run, load_run

_ALERT_RESOLVED = RunEnding(
    Outcome.CANCELLED,
    "its alert resolved before it began",
    reason="alert_resolved",
    next_step="nothing: the alert is over",
)


@dataclass(frozen=True, slots=True)
class EnqueueResult:
    """`run_id` is the run that was recorded, or the one that is pending or running already; None when there is none."""

    decision: Admission
    run_id: int | None = None


def enqueue_automatic(history: apsw.Connection, request: Request, path: str, now: float) -> EnqueueResult:
    """Record an automatic request as a pending run, unless one is pending or running, or it must not be made now."""
    past = load_action_history(history, request.database, request.action, now)
    decision = admit_request(past, request.cooldown, now)
    if decision != "accepted":
        return EnqueueResult(decision, past.unfinished_run)
    run_id, new = enqueue_run(history, request, path, now)
    return EnqueueResult("accepted" if new else "duplicate", run_id)


def handle_firing(
    history: apsw.Connection, rule: Rule, database: str, path: str, alert: DeliveredAlert, now: float
) -> EnqueueResult:
    """Enqueue what a firing alert may start by this rule, and save its episode. Runs inside the caller's transaction."""
    key = EpisodeKey(alert.receiver, alert.fingerprint, rule.name, database)
    episode = on_firing(load_episode(history, key), now)
    last_run = load_episode_run(history, episode.run_id)
    decision = decide_delivery(episode, last_run, rule.cooldown, now)
    if decision != "enqueue":
        save_episode(history, key, episode)
        return EnqueueResult(decision, episode.run_id)
    request = rule_request(rule, database, "alert", key.episode_id(episode))
    result = enqueue_automatic(history, request, path, now)
    save_episode(history, key, episode if result.run_id is None else on_enqueued(episode, last_run, result.run_id))
    return result


def handle_resolved(history: apsw.Connection, alert: DeliveredAlert, now: float) -> Iterator[int]:
    """Cancel the pending runs of an alert that is over, unless another alert counts on them; yields their ids.

    Runs inside the caller's transaction.
    """
    episodes = firing_episodes(history, alert.receiver, alert.fingerprint)
    for key, episode in episodes:
        save_episode(history, key, on_resolved(episode, now))
    for run_id in sorted({episode.run_id for _, episode in episodes if episode.run_id is not None}):
        wanted = load_run(history, run_id).trigger != "alert" or is_run_wanted(history, run_id)
        if not wanted and cancel_pending_run(history, run_id, _ALERT_RESOLVED, now):
            yield run_id
