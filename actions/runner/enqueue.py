"""The one way in: whoever asks, the wish becomes a pending run, or a decision why not.

Cooldown and suspension belong to (database, action), whichever trigger asks, and live in history: they survive restarts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import apsw

from actions.model.outcome import Outcome
from actions.model.request import Request
from actions.policy.alerts import DeliveredAlert
from actions.policy.cooldown import Admission, admit
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
from actions.store.past import load_action_history
from actions.store.runs import RunEnding, cancel_pending_run, enqueue_run, load_run

_ALERT_RESOLVED = RunEnding(
    Outcome.CANCELLED,
    "its alert resolved before it began",
    reason="alert_resolved",
    next_step="nothing: the alert is over",
)


@dataclass(frozen=True, slots=True)
class EnqueueResult:
    """`run_id` is the run that was recorded, or the one that waits or works already; None when there is none."""

    decision: Admission
    run_id: int | None = None


def enqueue_automatic(history: apsw.Connection, request: Request, path: str, now: float) -> EnqueueResult:
    """Record an automatic request as a pending run, unless one waits or works, or must not be made now."""
    found = load_action_history(history, request.database, request.action)
    decision = admit(found, request.cooldown, now)
    if decision != "accepted":
        return EnqueueResult(decision, found.unfinished_run)
    run_id, new = enqueue_run(history, request, path, now)
    return EnqueueResult("accepted" if new else "duplicate", run_id)


def handle_firing(
    history: apsw.Connection, rule: Rule, database: str, path: str, alert: DeliveredAlert, now: float
) -> EnqueueResult:
    """An alert fires that may start this rule. Inside the caller's transaction: what is heard is remembered with it."""
    key = EpisodeKey(alert.receiver, alert.fingerprint, rule.name, database)
    found = on_firing(load_episode(history, key), now)
    last = load_episode_run(history, found.run_id)
    heard = decide_delivery(found, last, rule.cooldown, now)
    if heard != "ask":
        save_episode(history, key, found)
        return EnqueueResult(heard, found.run_id)
    answer = enqueue_automatic(history, rule_request(rule, database, "alert", key.episode_id(found)), path, now)
    save_episode(history, key, found if answer.run_id is None else on_enqueued(found, last, answer.run_id))
    return answer


def handle_resolved(history: apsw.Connection, alert: DeliveredAlert, now: float) -> Iterator[int]:
    """An alert is over: what it asked for and has not begun is cancelled, unless another alert counts on it. Its runs' ids.

    Inside the caller's transaction.
    """
    found = firing_episodes(history, alert.receiver, alert.fingerprint)
    for key, one in found:
        save_episode(history, key, on_resolved(one, now))
    for run_id in sorted({one.run_id for _, one in found if one.run_id is not None}):
        wanted = load_run(history, run_id).trigger != "alert" or is_run_wanted(history, run_id)
        if not wanted and cancel_pending_run(history, run_id, _ALERT_RESOLVED, now):
            yield run_id
