"""The alert trigger: each delivered alert becomes a pending run, or a stored decision against one, before the answer is sent.

The payload of an alert only selects the rule and the database. Condition, action and options come from the rule.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from actions.policy.alerts import DeliveredAlert, Delivery
from actions.policy.rules import Rule
from actions.runner.enqueue import handle_firing, handle_resolved
from actions.store.database import StoreUnavailable, open_state_store, store_transaction
from collectors.target import Target
from exporter.log import log_event

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AlertDecision:
    """The decision on one alert: accepted, duplicate, cooldown, disabled, no_match, rejected, or resolved.

    `run_id` is the run that serves the alert, also where another trigger requested it first.
    """

    decision: str
    database: str = ""
    run_id: int | None = None


@dataclass(frozen=True, slots=True)
class DeliveryReceipt:
    """The decisions on one delivery, alert by alert."""

    decisions: tuple[AlertDecision, ...]

    @property
    def run_ids(self) -> tuple[int, ...]:
        """The runs that serve the alerts, without duplicates."""
        return tuple(dict.fromkeys(decision.run_id for decision in self.decisions if decision.run_id is not None))

    @property
    def has_accepted(self) -> bool:
        """Whether a new run is pending."""
        return any(decision.decision == "accepted" for decision in self.decisions)


@dataclass(slots=True)
class _WaitingDelivery:
    """One delivery that waits to be stored, and its receipt or error after that."""

    delivery: Delivery
    receipt: DeliveryReceipt | None = None
    error: apsw.Error | StoreUnavailable | None = None

    @property
    def is_served(self) -> bool:
        return self.receipt is not None or self.error is not None


class AlertInbox:
    """Stores deliveries through one connection; the decisions on a delivery are one transaction.

    Deliveries that arrive while another one is synced to the disk are stored together with one sync: with a disk that takes
    10 ms for it, the last of ten deliveries would wait 100 ms otherwise. The first waiting thread stores all that wait by then.
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
        self._queue_lock = threading.Lock()
        self._waiting: list[_WaitingDelivery] = []
        self.counts: Counter[tuple[str, str]] = Counter()  # (decision, database)
        self.truncated = 0

    def receive_delivery(self, delivery: Delivery) -> DeliveryReceipt:
        """Decide and store all alerts of a delivery, or none. Raises StoreUnavailable."""
        ticket = _WaitingDelivery(delivery)
        with self._queue_lock:
            self._waiting.append(ticket)
        with self._guard:
            if not ticket.is_served:
                self._store_waiting()
        if ticket.receipt is None:
            raise _as_unavailable(ticket.error) from ticket.error
        if ticket.receipt.has_accepted:
            self._wake()
        return ticket.receipt

    def _store_waiting(self) -> None:
        """Store all waiting deliveries together; where that fails, one by one, so that none fails because of another."""
        with self._queue_lock:
            together, self._waiting = self._waiting, []
        try:
            self._store_deliveries(together)
        except (apsw.Error, StoreUnavailable) as error:
            self._history = None
            if len(together) == 1:
                together[0].error = error
            for ticket in together if len(together) > 1 else ():
                self._store_alone(ticket)

    def _store_alone(self, ticket: _WaitingDelivery) -> None:
        try:
            self._store_deliveries([ticket])
        except (apsw.Error, StoreUnavailable) as error:
            self._history, ticket.error = None, error

    def _store_deliveries(self, tickets: Sequence[_WaitingDelivery]) -> None:
        """Store deliveries in one transaction; their receipts are set after the commit."""
        if self._history is None:
            self._history = open_state_store(self._state)
        now = self._clock()
        with store_transaction(self._history):
            receipts = [self._decide_alerts(self._history, ticket.delivery.alerts, now) for ticket in tickets]
        for ticket, receipt in zip(tickets, receipts, strict=True):
            ticket.receipt = receipt
            self.truncated += ticket.delivery.truncated
            self.counts.update((decision.decision, decision.database) for decision in receipt.decisions)

    def _decide_alerts(self, history: apsw.Connection, alerts: Sequence[DeliveredAlert], now: float) -> DeliveryReceipt:
        return DeliveryReceipt(
            tuple(decision for alert in alerts for decision in self._decide_alert(history, alert, now))
        )

    def _decide_alert(self, history: apsw.Connection, alert: DeliveredAlert, now: float) -> list[AlertDecision]:
        if alert.status == "resolved":
            for run_id in handle_resolved(history, alert, now):
                log_event(LOG, logging.INFO, "run cancelled, its alert resolved", run=run_id, alert=alert.fingerprint)
            return [AlertDecision("resolved")]
        identity = self._identity()
        if identity is not None and alert.labels.get("instance") != identity:
            return [AlertDecision("rejected")]
        target = self._targets().get(alert.labels.get("database", ""))
        if target is None:
            return [AlertDecision("rejected")]
        rules = [
            rule for rule in self._rules() if rule.covers_database(target.name) and rule.is_started_by(alert.labels)
        ]
        if not rules:
            return [AlertDecision("no_match", target.name)]
        return [_handle_firing_alert(history, rule, target, alert, now) for rule in rules]


def _as_unavailable(error: apsw.Error | StoreUnavailable | None) -> StoreUnavailable:
    if isinstance(error, StoreUnavailable):
        return error
    return StoreUnavailable(
        f"cannot store the alerts: {error} (free space for the state directory, or make it writable)"
    )


def _handle_firing_alert(
    history: apsw.Connection, rule: Rule, target: Target, alert: DeliveredAlert, now: float
) -> AlertDecision:
    answer = handle_firing(history, rule, target.name, str(target.path), alert, now)
    return AlertDecision(answer.decision, target.name, answer.run_id)
