"""Alerts that Alertmanager delivered: each becomes a pending run, or a decision why not, stored before the answer.

The payload of an alert only selects: which rule, which database. Condition, action and options are the rule's.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from actions.door.intake import ask_for
from actions.history.episode_rows import EpisodeKey, fires, resolves
from actions.history.runs import was_kept_from_helping
from actions.history.store import StoreUnavailable, open_history, transaction
from actions.policy.alerts import Alert
from actions.policy.matchers import all_match
from actions.policy.rules import Rule, request_of
from collectors.target import Target


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of one alert: accepted, duplicate, cooldown, no_match, rejected, or resolved (nothing to do)."""

    decision: str
    database: str = ""
    run_id: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one delivery, alert by alert."""

    decisions: tuple[Decided, ...]

    @property
    def run_ids(self) -> tuple[int, ...]:
        """The runs that were asked for."""
        return tuple(decided.run_id for decided in self.decisions if decided.run_id is not None)


class AlertInbox:
    """Stores deliveries through one connection; the answers of a delivery are one transaction."""

    def __init__(
        self,
        state: Path,
        rules: Callable[[], Sequence[Rule]],
        targets: Callable[[], Mapping[str, Target]],
        identity: Callable[[], str | None],
        wake: Callable[[], None],
    ) -> None:
        self._state, self._rules, self._targets, self._identity, self._wake = state, rules, targets, identity, wake
        self._history: apsw.Connection | None = None
        self._guard = threading.Lock()
        self.counts: Counter[tuple[str, str]] = Counter()  # (decision, database)

    def receive(self, alerts: Sequence[Alert]) -> Receipt:
        """Decide and store all alerts of a delivery, or none. Raises StoreUnavailable."""
        with self._guard:
            try:
                receipt = self._store(alerts)
            except apsw.Error as error:
                self._history = None
                raise StoreUnavailable(
                    f"cannot store the alerts: {error} (free space for the state directory, or make it writable)"
                ) from error
            for decided in receipt.decisions:
                self.counts[decided.decision, decided.database] += 1
        if receipt.run_ids:
            self._wake()
        return receipt

    def _store(self, alerts: Sequence[Alert]) -> Receipt:
        if self._history is None:
            self._history = open_history(self._state)
        now = time.time()
        with transaction(self._history):
            return Receipt(tuple(decided for alert in alerts for decided in self._decide(self._history, alert, now)))

    def _decide(self, history: apsw.Connection, alert: Alert, now: float) -> list[Decided]:
        if alert.status == "resolved":
            resolves(history, alert.receiver, alert.fingerprint, now)
            return [Decided("resolved")]
        identity = self._identity()
        if identity is not None and alert.labels.get("instance") != identity:
            return [Decided("rejected")]
        target = self._targets().get(alert.labels.get("database", ""))
        if target is None:
            return [Decided("rejected")]
        rules = [rule for rule in self._rules() if rule.covers(target.name) and _selects(rule, alert)]
        if not rules:
            return [Decided("no_match", target.name)]
        return [_answer(history, rule, target, alert, now) for rule in rules]


def _selects(rule: Rule, alert: Alert) -> bool:
    return any(all_match(matchers, alert.labels) for matchers in rule.alerts)


def _answer(history: apsw.Connection, rule: Rule, target: Target, alert: Alert, now: float) -> Decided:
    """One run for each firing episode; one that met a cooldown, or whose run could do nothing, has not had it."""
    key = EpisodeKey(alert.receiver, alert.fingerprint, rule.name, target.name)
    episode, begins = fires(history, key, now)
    if not begins and not was_kept_from_helping(history, target.name, rule.action, episode):
        return Decided("duplicate", target.name)
    answer = ask_for(history, request_of(rule, target.name, "alert", episode), str(target.path), now)
    if answer.decision == "cooldown":
        resolves(history, alert.receiver, alert.fingerprint, now)
    return Decided(answer.decision, target.name, answer.run_id)
