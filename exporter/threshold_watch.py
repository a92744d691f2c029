"""Steps every rule after every poll, and asks for what the rules ask for. The deciding is actions/policy/rules.py's."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import apsw

from actions.door.intake import ask_for
from actions.history.store import StoreUnavailable, history
from actions.policy.rules import Rule, Watch, request_of, step
from collectors.reading.snapshot import Snapshot
from exporter.log import event

LOG = logging.getLogger(__name__)


class ThresholdWatch:
    """Remembers since when each rule's condition holds on each database."""

    def __init__(
        self,
        state: Path,
        rules: Callable[[], Sequence[Rule]],
        *,
        busy_with: Callable[[str], bool],
        wake: Callable[[], None],
    ) -> None:
        self._state, self._rules, self._busy_with, self._wake = state, rules, busy_with, wake
        self._watches: dict[tuple[str, str], Watch] = {}
        self._known = {rule.name: rule for rule in rules()}
        self._guard = threading.Lock()

    def look(self, snapshot: Snapshot) -> None:
        """Step the rules that cover this database. What our own action is doing to the WAL is nobody's fault."""
        database = snapshot.target.name
        rules = [rule for rule in self._rules() if rule.covers(database) and rule.hold is not None]
        if self._busy_with(database):
            rules = [rule for rule in rules if not rule.condition.metric.startswith("sqlite_wal_")]
        due = [rule for rule in rules if self._step(rule, snapshot)]
        if due:
            self._ask(due, snapshot)

    def keep_only(self, rules: Sequence[Rule]) -> None:
        """Forget what rules remember that are gone, or say something else now: the configuration changed."""
        same = {rule.name: rule for rule in rules}
        with self._guard:
            gone = [name for name, rule in self._known.items() if same.get(name) != rule]
            self._known = same
            self._watches = {key: watch for key, watch in self._watches.items() if key[0] not in gone}

    def since(self) -> Mapping[tuple[str, str], Watch]:
        """What is watched now, by rule and database."""
        with self._guard:
            return dict(self._watches)

    def _step(self, rule: Rule, snapshot: Snapshot) -> bool:
        key = (rule.name, snapshot.target.name)
        with self._guard:
            before = self._watches.get(key, Watch())
            self._watches[key], due = step(rule, before, snapshot.samples, snapshot.taken_at)
            return due

    def _ask(self, due: Sequence[Rule], snapshot: Snapshot) -> None:
        target = snapshot.target
        try:
            with history(self._state) as store:
                for rule in due:
                    request = request_of(rule, target.name, "threshold")
                    answer = ask_for(store, request, str(target.path), snapshot.taken_at)
                    if answer.decision == "accepted":
                        event(LOG, logging.INFO, "rule asks", rule=rule.name, database=target.name, run=answer.run_id)
                        self._wake()
        except (StoreUnavailable, apsw.Error) as error:
            event(
                LOG,
                logging.ERROR,
                "history cannot be used",
                error=str(error),
                next_step="free space or fix permissions",
            )
