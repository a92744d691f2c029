"""Claims pending runs and has a child perform each: by priority, within the lanes, while acting is allowed.

The only place of the agent that starts children. Our own history is the queue: nothing is lost when we die, and the
command line's runs are seen here too.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import apsw

from actions.door.catalogue import KNOWN
from actions.door.job import Job
from actions.door.start import RunningAction
from actions.history.read_totals import read_totals
from actions.history.recovery import end_lost, recover
from actions.history.runs import Claim, Ending, Run, claim, end, pending, run
from actions.history.settings import paused
from actions.history.store import StoreUnavailable, history, open_history
from actions.history.totals import Totals
from actions.run.outcome import Outcome
from collectors.target import Target
from exporter.log import event

LOG = logging.getLogger(__name__)

# How long the dispatcher sleeps when nobody wakes it, in seconds: the command line's runs are noticed this late.
IDLE = 0.5
RECOVER_EVERY = 30.0
STOP_PATIENCE = 10.0

_UNKNOWN_DATABASE = Ending(
    Outcome.REFUSED,
    "this database is no longer configured",
    reason="unknown_database",
    next_step="add it to `databases:` again, or ignore this",
)


@dataclass(frozen=True, slots=True)
class Lanes:
    """How many actions may run at once."""

    short: int = 4
    long: int = 1


@dataclass(frozen=True, slots=True)
class View:
    """What the scrape shows of the dispatcher: read here once after each change, so that a scrape opens no database."""

    totals: Totals
    paused: bool
    writable: bool


class Dispatcher:
    """One thread that claims, and one for each running child."""

    def __init__(
        self,
        state: Path,
        targets: Callable[[], Mapping[str, Target]],
        lock_held: Callable[[str], bool],
        *,
        on_end: Callable[[str], None],
        enabled: bool,
        lanes: Lanes,
        trust_owner: bool,
    ) -> None:
        self._state, self._targets, self._lock_held = state, targets, lock_held
        self._enabled, self._lanes, self._trust_owner = enabled, lanes, trust_owner
        self._on_end = on_end
        self._wake = threading.Event()
        self._stopping = False
        self._running: dict[int, tuple[str, RunningAction]] = {}
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="dispatcher", daemon=True)
        self.view = View(Totals(), paused=False, writable=True)

    def recover(self) -> None:
        """End what a former agent lost. Raises StoreUnavailable."""
        with history(self._state) as store:
            self._recover(store)
            self.view = _view(store)

    def start(self) -> None:
        """Begin to claim. The databases must be known by now: a run on an unknown one is refused."""
        self._thread.start()

    def wake(self) -> None:
        """Something was asked for."""
        self._wake.set()

    def is_busy_with(self, database: str) -> bool:
        """Whether an action of ours works on this database now."""
        with self._guard:
            return any(name.partition("@")[2] == database for name, _ in self._running.values())

    def stop(self) -> None:
        """Leave all children, so that they stop at their next safe point, and wait for them a while."""
        self._stopping = True
        with self._guard:
            children = list(self._running.values())
        for _, child in children:
            child.hang_up()
        self._wake.set()
        deadline = time.monotonic() + STOP_PATIENCE
        while self._running and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._thread.is_alive():
            self._thread.join(STOP_PATIENCE)

    def _loop(self) -> None:
        store = open_history(self._state)
        recovered_at = time.monotonic()
        version = None
        while not self._stopping:
            try:
                if time.monotonic() - recovered_at > RECOVER_EVERY:
                    self._recover(store)
                    recovered_at = time.monotonic()
                self._claim_what_may_run(store)
                version = self._refresh(store, version)
            except apsw.Error as error:
                self.view = View(self.view.totals, paused=self.view.paused, writable=False)
                event(
                    LOG,
                    logging.ERROR,
                    "history cannot be used",
                    error=str(error),
                    next_step="free space or fix permissions",
                )
            self._wake.wait(IDLE)
            self._wake.clear()
        store.close()

    def _refresh(self, store: apsw.Connection, version: object) -> object:
        """Read the totals again when somebody else changed the file, or we did."""
        now = (store.pragma("data_version"), store.total_changes())
        if now != version:
            self.view = _view(store)
        return now

    def _recover(self, store: apsw.Connection) -> None:
        for lost in recover(store, self._lock_held, time.time()):
            event(
                LOG,
                logging.WARNING,
                "lost run ended",
                run=lost.id,
                database=lost.database,
                action=lost.action,
                was=lost.state,
            )

    def _claim_what_may_run(self, store: apsw.Connection) -> None:
        if not self._enabled or paused(store) is not None:
            return
        targets = self._targets()
        for waiting in pending(store):
            if self._stopping or not self._has_room(waiting):
                continue
            taken = claim(store, waiting.id, time.time())
            if taken is None:
                continue
            target = targets.get(waiting.database)
            if target is None:
                end(store, taken, _UNKNOWN_DATABASE, time.time())
            else:
                self._begin(waiting, target, taken)

    def _has_room(self, waiting: Run) -> bool:
        """Lanes, and one action per database at a time: a second child would only find the lock taken."""
        with self._guard:
            running = [run for run, _ in self._running.values()]
        lane = KNOWN[waiting.action].long
        busy = sum(KNOWN[name.partition("@")[0]].long == lane for name in running)
        free = busy < (self._lanes.long if lane else self._lanes.short)
        return free and all(name.partition("@")[2] != waiting.database for name in running)

    def _begin(self, waiting: Run, target: Target, taken: Claim) -> None:
        child = RunningAction(Job(waiting.request, target, self._state, taken, self._trust_owner))
        with self._guard:
            self._running[waiting.id] = (f"{waiting.action}@{waiting.database}", child)
        threading.Thread(target=self._attend, args=(waiting, child), name=f"run-{waiting.id}", daemon=True).start()

    def _attend(self, waiting: Run, child: RunningAction) -> None:
        """Relay one child's events to the log, and see its run ended."""
        about = {"run": waiting.id, "database": waiting.database, "action": waiting.action}
        for said in child.events():
            if said.kind == "planned":
                event(
                    LOG,
                    logging.INFO,
                    "run planned",
                    **about,
                    trigger=waiting.trigger,
                    rule=waiting.rule,
                    plan=said.message,
                )
        status, last_line = child.wait()
        try:
            with history(self._state) as store:
                self._log_end(store, waiting, about, status, last_line)
        except (apsw.Error, StoreUnavailable) as error:
            event(LOG, logging.ERROR, "history cannot be used", **about, error=str(error), next_step="free space there")
        finally:
            with self._guard:
                del self._running[waiting.id]
            self._on_end(waiting.database)
            self._wake.set()

    def _log_end(
        self, store: apsw.Connection, waiting: Run, about: Mapping[str, object], status: int, last_line: str
    ) -> None:
        ended = run(store, waiting.id)
        if ended.state in ("claimed", "running"):
            end_lost(store, ended, time.time())
            ended = run(store, waiting.id)
        level = logging.INFO if ended.outcome in ("done", "nothing_to_do") else logging.WARNING
        event(
            LOG,
            level,
            "run ended",
            **about,
            outcome=ended.outcome,
            effect=ended.effect,
            result=ended.message,
            next_step=ended.next_step,
            **({"exit_status": status, "error": last_line} if last_line else {}),
        )


def _view(store: apsw.Connection) -> View:
    return View(read_totals(store), paused=paused(store) is not None, writable=True)
