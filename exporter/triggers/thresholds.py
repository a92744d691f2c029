"""The threshold trigger: judges every rule after every poll, enqueues runs, and updates suspensions.

actions/policy decides: rules.py and suspension.py. A wait of minutes starts again after a restart; one of hours is written to
the state store and continues.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import apsw

from actions.policy.effect import condition_measurement, is_wal_pinned
from actions.policy.rules import ConditionWatch, Rule, advance_watch, rule_request
from actions.policy.suspension import SuspensionState, state_after_reading
from actions.runner.enqueue import enqueue_automatic
from actions.store import pending_conditions, suspensions
from actions.store.database import StoreUnavailable, state_store, store_transaction
from collectors.access.snapshot import Snapshot
from collectors.registry import is_moved_by_actions
from exporter.log import log_event

LOG = logging.getLogger(__name__)

# Waits of at least this many seconds are written to the state store and survive a restart.
PERSIST_FROM = 600.0

RuleKey = tuple[str, str]  # rule, database


class ThresholdTrigger:
    """Remembers since when the condition of each rule is met on each database."""

    def __init__(
        self,
        state: Path,
        rules: Callable[[], Sequence[Rule]],
        *,
        busy_with: Callable[[str], bool],
        suspensions: Callable[[], Mapping[tuple[str, str], SuspensionState]],
        wake: Callable[[], None],
    ) -> None:
        self._state, self._rules, self._busy_with, self._wake = state, rules, busy_with, wake
        self._suspensions = suspensions
        self._watches: dict[RuleKey, ConditionWatch] = {}
        self._written: dict[RuleKey, float | None] = {}
        self._known = {rule.name: rule for rule in rules()}
        self._guard = threading.Lock()

    def recover_waits(self) -> None:
        """Continue the waits that are in the state store. Raises StoreUnavailable."""
        with state_store(self._state) as store:
            held = pending_conditions.load_held_since(store)
        for (name, database), (condition, since) in held.items():
            rule = self._known.get(name)
            if rule is not None and rule.condition == condition:
                self._watches[name, database] = ConditionWatch(since)
                self._written[name, database] = since

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Judge the rules that cover this database. While an action runs, its own effect on the WAL is ignored."""
        database = snapshot.target.name
        busy = self._busy_with(database)
        rules = [rule for rule in self._rules() if rule.covers_database(database) and rule.hold is not None]
        if busy:
            rules = [rule for rule in rules if not is_moved_by_actions(rule.condition.metric)]
        due = [rule for rule in rules if self._judge_rule(rule, snapshot)]
        changed = list(self._waits_to_write(rules, database))
        lifted = [] if busy else list(self._changed_suspensions(snapshot))
        if due or changed or lifted:
            self._record_changes(snapshot, due, changed, lifted)

    def keep_only(self, rules: Sequence[Rule]) -> None:
        """Forget the waits of rules that were removed or changed: the configuration changed."""
        same = {rule.name: rule for rule in rules}
        with self._guard:
            gone = [name for name, rule in self._known.items() if same.get(name) != rule]
            self._known = same
            self._watches = {key: watch for key, watch in self._watches.items() if key[0] not in gone}

    def current_watches(self) -> Mapping[RuleKey, ConditionWatch]:
        """Return the waits by rule and database."""
        with self._guard:
            return dict(self._watches)

    def _judge_rule(self, rule: Rule, snapshot: Snapshot) -> bool:
        key = (rule.name, snapshot.target.name)
        measurement = condition_measurement(rule.condition, snapshot, snapshot.taken_at)
        with self._guard:
            self._watches[key], due = advance_watch(
                rule, self._watches.get(key, ConditionWatch()), measurement, snapshot.taken_at
            )
            return due

    def _waits_to_write(self, rules: Sequence[Rule], database: str) -> Iterator[tuple[Rule, float | None]]:
        """Yield the long waits that began or ended with this reading."""
        with self._guard:
            for rule in rules:
                since = self._watches[rule.name, database].wrong_since
                if rule.required_hold >= PERSIST_FROM and since != self._written.get((rule.name, database)):
                    yield rule, since

    def _changed_suspensions(self, snapshot: Snapshot) -> Iterator[str]:
        """Yield the actions whose suspension changes with this reading."""
        for (database, action), suspension in self._suspensions().items():
            if database == snapshot.target.name and _after_snapshot(suspension, snapshot) != suspension:
                yield action

    def _record_changes(
        self,
        snapshot: Snapshot,
        due: Sequence[Rule],
        changed: Sequence[tuple[Rule, float | None]],
        lifted: Sequence[str],
    ) -> None:
        try:
            with state_store(self._state) as store:
                self._write_long_waits(store, snapshot, changed)
                self._update_suspensions(store, snapshot, lifted)
                self._enqueue_due_runs(store, snapshot, due)
        except (StoreUnavailable, apsw.Error) as error:
            log_event(
                LOG,
                logging.ERROR,
                "the state store cannot be used",
                error=str(error),
                next_step="free space or fix permissions",
            )

    def _write_long_waits(
        self, store: apsw.Connection, snapshot: Snapshot, changed: Sequence[tuple[Rule, float | None]]
    ) -> None:
        with store_transaction(store):
            for rule, since in changed:
                pending_conditions.save_held_since(store, rule.name, snapshot.target.name, rule.condition, since)
        self._written.update({(rule.name, snapshot.target.name): since for rule, since in changed})

    def _update_suspensions(self, store: apsw.Connection, snapshot: Snapshot, lifted: Sequence[str]) -> None:
        """Update from the state store as it is now: a run may have ended since the suspensions were read."""
        database = snapshot.target.name
        for action in lifted:
            with store_transaction(store):
                before = suspensions.load_suspension(store, database, action)
                after = _after_snapshot(before, snapshot)
                suspensions.save_suspension(store, database, action, after)
            if before.is_suspended and not after.is_suspended:
                log_event(LOG, logging.INFO, "no longer suspended", database=database, action=action, rule=before.rule)
        if lifted:
            self._wake()

    def _enqueue_due_runs(self, store: apsw.Connection, snapshot: Snapshot, due: Sequence[Rule]) -> None:
        target = snapshot.target
        for rule in due:
            request = rule_request(rule, target.name, "threshold")
            answer = enqueue_automatic(store, request, str(target.path), snapshot.taken_at)
            if answer.decision == "accepted":
                log_event(
                    LOG, logging.INFO, "rule enqueued a run", rule=rule.name, database=target.name, run=answer.run_id
                )
                self._wake()


def _after_snapshot(suspension: SuspensionState, snapshot: Snapshot) -> SuspensionState:
    if suspension.condition is None:
        return suspension
    measurement = condition_measurement(suspension.condition, snapshot, snapshot.taken_at)
    return state_after_reading(suspension, measurement, snapshot.taken_at, held_back=is_wal_pinned(snapshot))
