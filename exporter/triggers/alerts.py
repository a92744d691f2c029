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

from actions.policy.alerts import DeliveredAlert, Delivery
from actions.policy.rules import Rule
from actions.runner.enqueue import handle_firing, handle_resolved
from actions.store.database import StoreUnavailable, open_state_store, store_transaction
from collectors.target import Target
from exporter.log import log_event

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AlertDecision:
    """What became of one alert: accepted, duplicate, cooldown, disabled, no_match, rejected, or resolved.

    `run_id`: the run that serves it, whoever asked for it first.
    """

    decision: str
    database: str = ""
    run_id: int | None = None


@dataclass(frozen=True, slots=True)
class DeliveryReceipt:
    """What became of one delivery, alert by alert."""

    decisions: tuple[AlertDecision, ...]

    @property
    def run_ids(self) -> tuple[int, ...]:
        """The runs that serve its alerts, each once."""
        return tuple(dict.fromkeys(decided.run_id for decided in self.decisions if decided.run_id is not None))

    @property
    def has_accepted(self) -> bool:
        """Whether anything new waits."""
        return any(decided.decision == "accepted" for decided in self.decisions)


@dataclass(slots=True)
class _WaitingDelivery:
    """One delivery that waits to be stored, and what became of it."""

    delivery: Delivery
    receipt: DeliveryReceipt | None = None
    error: apsw.Error | StoreUnavailable | None = None

    @property
    def is_served(self) -> bool:
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
        self._waiting: list[_WaitingDelivery] = []
        self.counts: Counter[tuple[str, str]] = Counter()  # (decision, database)
        self.truncated = 0

    def receive_delivery(self, delivery: Delivery) -> DeliveryReceipt:
        """Decide and store all alerts of a delivery, or none. Raises StoreUnavailable."""
        ticket = _WaitingDelivery(delivery)
        with self._line:
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
        """Everybody who waits: together, and where that fails one by one, so that nobody fails for another's delivery."""
        with self._line:
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
        """In one transaction; what became of it is told once that is committed."""
        if self._history is None:
            self._history = open_state_store(self._state)
        now = self._clock()
        with store_transaction(self._history):
            receipts = [self._decide_alerts(self._history, ticket.delivery.alerts, now) for ticket in tickets]
        for ticket, receipt in zip(tickets, receipts, strict=True):
            ticket.receipt = receipt
            self.truncated += ticket.delivery.truncated
            self.counts.update((decided.decision, decided.database) for decided in receipt.decisions)

    def _decide_alerts(self, history: apsw.Connection, alerts: Sequence[DeliveredAlert], now: float) -> DeliveryReceipt:
        return DeliveryReceipt(
            tuple(decided for alert in alerts for decided in self._decide_alert(history, alert, now))
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
        return [_handle_rule(history, rule, target, alert, now) for rule in rules]


def _as_unavailable(error: apsw.Error | StoreUnavailable | None) -> StoreUnavailable:
    if isinstance(error, StoreUnavailable):
        return error
    return StoreUnavailable(
        f"cannot store the alerts: {error} (free space for the state directory, or make it writable)"
    )


def _handle_rule(
    history: apsw.Connection, rule: Rule, target: Target, alert: DeliveredAlert, now: float
) -> AlertDecision:
    answer = handle_firing(history, rule, target.name, str(target.path), alert, now)
    return AlertDecision(answer.decision, target.name, answer.run_id)
