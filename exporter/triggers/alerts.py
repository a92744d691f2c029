"""Alerts that Alertmanager delivered: each becomes a pending run, or a decision why not, stored before the answer.

The payload of an alert only selects: which rule, which database. Condition, action and options are the rule's.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from actions.policy.alerts import Alert, Delivery
from actions.policy.rules import Rule
from actions.runner.enqueue import hear_alert, hear_resolution
from actions.store.database import StoreUnavailable, open_history, transaction
from collectors.target import Target
from exporter.log import event

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of one alert: accepted, duplicate, cooldown, disabled, no_match, rejected, or resolved.

    `run_id`: the run that serves it, whoever asked for it first.
    """

    decision: str
    database: str = ""
    run_id: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one delivery, alert by alert."""

    decisions: tuple[Decided, ...]

    @property
    def run_ids(self) -> tuple[int, ...]:
        """The runs that serve its alerts, each once."""
        return tuple(dict.fromkeys(decided.run_id for decided in self.decisions if decided.run_id is not None))

    @property
    def accepted(self) -> bool:
        """Whether anything new waits."""
        return any(decided.decision == "accepted" for decided in self.decisions)


@dataclass(slots=True)
class _Ticket:
    """One delivery that waits to be stored, and what became of it."""

    delivery: Delivery
    receipt: Receipt | None = None
    error: apsw.Error | StoreUnavailable | None = None

    @property
    def served(self) -> bool:
        return self.receipt is not None or self.error is not None


class AlertInbox:
    """Stores deliveries through one connection; the answers of a delivery are one transaction.

    What arrives while another one is being synced to the disk is stored together, with one sync: a disk that takes 10 ms for it
    would else make the tenth of ten at once wait for 100. Whoever comes first serves all who wait by then.
    """

    def __init__(
        self,
        state: Path,
        rules: Callable[[], Sequence[Rule]],
        targets: Callable[[], Mapping[str, Target]],
        identity: Callable[[], str | None],
        wake: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state, self._rules, self._targets, self._identity, self._wake = state, rules, targets, identity, wake
        self._clock = clock
        self._history: apsw.Connection | None = None
        self._guard = threading.Lock()
        self._line = threading.Lock()
        self._waiting: list[_Ticket] = []
        self.counts: Counter[tuple[str, str]] = Counter()  # (decision, database)
        self.truncated = 0

    def receive(self, delivery: Delivery) -> Receipt:
        """Decide and store all alerts of a delivery, or none. Raises StoreUnavailable."""
        ticket = _Ticket(delivery)
        with self._line:
            self._waiting.append(ticket)
        with self._guard:
            if not ticket.served:
                self._serve()
        if ticket.receipt is None:
            raise _unavailable(ticket.error) from ticket.error
        if ticket.receipt.accepted:
            self._wake()
        return ticket.receipt

    def _serve(self) -> None:
        """Everybody who waits: together, and where that fails one by one, so that nobody fails for another's delivery."""
        with self._line:
            together, self._waiting = self._waiting, []
        try:
            self._store(together)
        except (apsw.Error, StoreUnavailable) as error:
            self._history = None
            if len(together) == 1:
                together[0].error = error
            for ticket in together if len(together) > 1 else ():
                self._serve_alone(ticket)

    def _serve_alone(self, ticket: _Ticket) -> None:
        try:
            self._store([ticket])
        except (apsw.Error, StoreUnavailable) as error:
            self._history, ticket.error = None, error

    def _store(self, tickets: Sequence[_Ticket]) -> None:
        """In one transaction; what became of it is told once that is committed."""
        if self._history is None:
            self._history = open_history(self._state)
        now = self._clock()
        with transaction(self._history):
            receipts = [self._receipt(self._history, ticket.delivery.alerts, now) for ticket in tickets]
        for ticket, receipt in zip(tickets, receipts, strict=True):
            ticket.receipt = receipt
            self.truncated += ticket.delivery.truncated
            self.counts.update((decided.decision, decided.database) for decided in receipt.decisions)

    def _receipt(self, history: apsw.Connection, alerts: Sequence[Alert], now: float) -> Receipt:
        return Receipt(tuple(decided for alert in alerts for decided in self._decide(history, alert, now)))

    def _decide(self, history: apsw.Connection, alert: Alert, now: float) -> list[Decided]:
        if alert.status == "resolved":
            for run_id in hear_resolution(history, alert, now):
                event(LOG, logging.INFO, "run cancelled, its alert resolved", run=run_id, alert=alert.fingerprint)
            return [Decided("resolved")]
        identity = self._identity()
        if identity is not None and alert.labels.get("instance") != identity:
            return [Decided("rejected")]
        target = self._targets().get(alert.labels.get("database", ""))
        if target is None:
            return [Decided("rejected")]
        rules = [rule for rule in self._rules() if rule.covers(target.name) and rule.is_started_by(alert.labels)]
        if not rules:
            return [Decided("no_match", target.name)]
        return [_heard(history, rule, target, alert, now) for rule in rules]


def _unavailable(error: apsw.Error | StoreUnavailable | None) -> StoreUnavailable:
    if isinstance(error, StoreUnavailable):
        return error
    return StoreUnavailable(
        f"cannot store the alerts: {error} (free space for the state directory, or make it writable)"
    )


def _heard(history: apsw.Connection, rule: Rule, target: Target, alert: Alert, now: float) -> Decided:
    answer = hear_alert(history, rule, target.name, str(target.path), alert, now)
    return Decided(answer.decision, target.name, answer.run_id)
