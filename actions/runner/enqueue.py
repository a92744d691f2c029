"""The one way in: whoever asks, the wish becomes a pending run, or a decision why not.

Cooldown and suspension belong to (database, action), whichever trigger asks, and live in history: they survive restarts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import apsw

from actions.model.outcome import Outcome
from actions.model.request import Request
from actions.policy.alerts import Alert
from actions.policy.cooldown import Decision, decide
from actions.policy.episodes import asked, fires, hear, resolves
from actions.policy.rules import Rule, request_of
from actions.store.alert_episodes import EpisodeKey, episode, firing, is_wanted, keep, last_run
from actions.store.past import past
from actions.store.runs import Ending, ask, cancel_waiting, run

_RESOLVED = Ending(
    Outcome.CANCELLED,
    "its alert resolved before it began",
    reason="alert_resolved",
    next_step="nothing: the alert is over",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """`run_id` is the run that was recorded, or the one that waits or works already; None when there is none."""

    decision: Decision
    run_id: int | None = None


def ask_for(history: apsw.Connection, request: Request, path: str, now: float) -> Answer:
    """Record an automatic request as a pending run, unless one waits or works, or must not be made now."""
    found = past(history, request.database, request.action)
    decision = decide(found, request.cooldown, now)
    if decision != "accepted":
        return Answer(decision, found.busy)
    run_id, new = ask(history, request, path, now)
    return Answer("accepted" if new else "duplicate", run_id)


def hear_alert(history: apsw.Connection, rule: Rule, database: str, path: str, alert: Alert, now: float) -> Answer:
    """An alert fires that may start this rule. Inside the caller's transaction: what is heard is remembered with it."""
    key = EpisodeKey(alert.receiver, alert.fingerprint, rule.name, database)
    found = fires(episode(history, key), now)
    last = last_run(history, found.run_id)
    heard = hear(found, last, rule.cooldown, now)
    if heard != "ask":
        keep(history, key, found)
        return Answer(heard, found.run_id)
    answer = ask_for(history, request_of(rule, database, "alert", key.name(found)), path, now)
    keep(history, key, found if answer.run_id is None else asked(found, last, answer.run_id))
    return answer


def hear_resolution(history: apsw.Connection, alert: Alert, now: float) -> Iterator[int]:
    """An alert is over: what it asked for and has not begun is cancelled, unless another alert counts on it. Its runs' ids.

    Inside the caller's transaction.
    """
    found = firing(history, alert.receiver, alert.fingerprint)
    for key, one in found:
        keep(history, key, resolves(one, now))
    for run_id in sorted({one.run_id for _, one in found if one.run_id is not None}):
        wanted = run(history, run_id).trigger != "alert" or is_wanted(history, run_id)
        if not wanted and cancel_waiting(history, run_id, _RESOLVED, now):
            yield run_id
