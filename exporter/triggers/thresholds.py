"""Steps every rule after every poll, and asks for what the rules ask for; tells history what a reading lifts.

The deciding is actions/policy's: rules.py, suspension.py. A wait of minutes begins again after a restart, one of hours
does not: it is written down.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import apsw

from actions.policy.measure import is_held_back, measured
from actions.policy.rules import Rule, Watch, request_of, step
from actions.policy.suspension import Standing, after_reading
from actions.runner.enqueue import ask_for
from actions.store import pending_conditions, suspensions
from actions.store.database import StoreUnavailable, history, transaction
from collectors.access.snapshot import Snapshot
from exporter.log import event

LOG = logging.getLogger(__name__)

# Waits of at least this many seconds survive a restart.
WRITTEN_FROM = 600.0

Key = tuple[str, str]  # rule, database


class ThresholdWatch:
    """Remembers since when each rule's condition holds on each database."""

    def __init__(
        self,
        state: Path,
        rules: Callable[[], Sequence[Rule]],
        *,
        busy_with: Callable[[str], bool],
        standings: Callable[[], Mapping[tuple[str, str], Standing]],
        wake: Callable[[], None],
    ) -> None:
        self._state, self._rules, self._busy_with, self._wake = state, rules, busy_with, wake
        self._standings = standings
        self._watches: dict[Key, Watch] = {}
        self._written: dict[Key, float | None] = {}
        self._known = {rule.name: rule for rule in rules()}
        self._guard = threading.Lock()

    def recover(self) -> None:
        """Go on with the waits that were written down. Raises StoreUnavailable."""
        with history(self._state) as store:
            kept = pending_conditions.held_since(store)
        for (name, database), (condition, since) in kept.items():
            rule = self._known.get(name)
            if rule is not None and rule.condition == condition:
                self._watches[name, database] = Watch(since)
                self._written[name, database] = since

    def look(self, snapshot: Snapshot) -> None:
        """Step the rules that cover this database. What our own action is doing to the WAL is nobody's fault."""
        database = snapshot.target.name
        busy = self._busy_with(database)
        rules = [rule for rule in self._rules() if rule.covers(database) and rule.hold is not None]
        if busy:
            rules = [rule for rule in rules if not rule.condition.metric.startswith("sqlite_wal_")]
        due = [rule for rule in rules if self._step(rule, snapshot)]
        changed = list(self._to_write(rules, database))
        lifted = [] if busy else list(self._lifted(snapshot))
        if due or changed or lifted:
            self._tell(snapshot, due, changed, lifted)

    def keep_only(self, rules: Sequence[Rule]) -> None:
        """Forget what rules remember that are gone, or say something else now: the configuration changed."""
        same = {rule.name: rule for rule in rules}
        with self._guard:
            gone = [name for name, rule in self._known.items() if same.get(name) != rule]
            self._known = same
            self._watches = {key: watch for key, watch in self._watches.items() if key[0] not in gone}

    def since(self) -> Mapping[Key, Watch]:
        """What is watched now, by rule and database."""
        with self._guard:
            return dict(self._watches)

    def _step(self, rule: Rule, snapshot: Snapshot) -> bool:
        key = (rule.name, snapshot.target.name)
        found = measured(rule.condition, snapshot, snapshot.taken_at)
        with self._guard:
            self._watches[key], due = step(rule, self._watches.get(key, Watch()), found, snapshot.taken_at)
            return due

    def _to_write(self, rules: Sequence[Rule], database: str) -> Iterator[tuple[Rule, float | None]]:
        """The long waits that began or ended with this reading."""
        with self._guard:
            for rule in rules:
                since = self._watches[rule.name, database].wrong_since
                if rule.patience >= WRITTEN_FROM and since != self._written.get((rule.name, database)):
                    yield rule, since

    def _lifted(self, snapshot: Snapshot) -> Iterator[str]:
        """The actions that stand otherwise after this reading."""
        for (database, action), standing in self._standings().items():
            if database == snapshot.target.name and _after(standing, snapshot) != standing:
                yield action

    def _tell(
        self,
        snapshot: Snapshot,
        due: Sequence[Rule],
        changed: Sequence[tuple[Rule, float | None]],
        lifted: Sequence[str],
    ) -> None:
        try:
            with history(self._state) as store:
                self._write(store, snapshot, changed)
                self._lift(store, snapshot, lifted)
                self._ask(store, snapshot, due)
        except (StoreUnavailable, apsw.Error) as error:
            event(
                LOG,
                logging.ERROR,
                "history cannot be used",
                error=str(error),
                next_step="free space or fix permissions",
            )

    def _write(self, store: apsw.Connection, snapshot: Snapshot, changed: Sequence[tuple[Rule, float | None]]) -> None:
        with transaction(store):
            for rule, since in changed:
                pending_conditions.keep(store, rule.name, snapshot.target.name, rule.condition, since)
        self._written.update({(rule.name, snapshot.target.name): since for rule, since in changed})

    def _lift(self, store: apsw.Connection, snapshot: Snapshot, lifted: Sequence[str]) -> None:
        """By what history says now: a run may have ended since the standings were read."""
        database = snapshot.target.name
        for action in lifted:
            with transaction(store):
                before = suspensions.standing(store, database, action)
                after = _after(before, snapshot)
                suspensions.keep(store, database, action, after)
            if before.suspended and not after.suspended:
                event(LOG, logging.INFO, "no longer suspended", database=database, action=action, rule=before.rule)
        if lifted:
            self._wake()

    def _ask(self, store: apsw.Connection, snapshot: Snapshot, due: Sequence[Rule]) -> None:
        target = snapshot.target
        for rule in due:
            request = request_of(rule, target.name, "threshold")
            answer = ask_for(store, request, str(target.path), snapshot.taken_at)
            if answer.decision == "accepted":
                event(LOG, logging.INFO, "rule asks", rule=rule.name, database=target.name, run=answer.run_id)
                self._wake()


def _after(standing: Standing, snapshot: Snapshot) -> Standing:
    if standing.condition is None:
        return standing
    found = measured(standing.condition, snapshot, snapshot.taken_at)
    return after_reading(standing, found, snapshot.taken_at, held_back=is_held_back(snapshot))
