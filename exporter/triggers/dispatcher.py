"""Claims pending runs and has a child perform each: by priority, within the lanes, while acting is allowed.

The only place of the agent that starts children. Our own history is the queue: nothing is lost when we die, and the
command line's runs are seen here too.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from actions.model.events import Event
from actions.model.outcome import Outcome
from actions.policy.rules import Rule
from actions.policy.scheduling import PendingRun, SchedulingLimits, WaitReason
from actions.runner.protocol import Job
from actions.runner.spawn import RunningAction
from actions.store.alert_episodes import delete_old_episodes
from actions.store.database import StoreUnavailable, open_state_store, state_store
from actions.store.pause import pause_reason, prove_writable
from actions.store.recovery import end_lost_run, recover_lost_runs
from actions.store.runs import Claim, Run, RunEnding, claim_run, end_run, load_run
from actions.store.suspensions import load_suspension
from actions.store.totals import ActionTotals, read_totals
from collectors.target import Target
from exporter.config.settings import ActingSettings
from exporter.log import log_event
from exporter.triggers.next_runs import next_runs, scheduling_bounds

LOG = logging.getLogger(__name__)

# How long the dispatcher sleeps when nobody wakes it, in seconds: the command line's runs are noticed this late.
IDLE_WAIT = 0.5
RECOVER_EVERY = 30.0
STOP_PATIENCE = 10.0

_UNKNOWN_DATABASE = RunEnding(
    Outcome.REFUSED,
    "this database is no longer configured",
    reason="unknown_database",
    next_step="add it to `databases:` again, or ignore this",
)


@dataclass(frozen=True, slots=True)
class DispatcherView:
    """What the scrape shows of the dispatcher: read here once after each change, so that a scrape opens no database."""

    totals: ActionTotals
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
        acting: Callable[[], ActingSettings],
        on_event: Callable[[Run, Event], None] = lambda _run, _event: None,
        rules: Callable[[], Sequence[Rule]] = tuple,
    ) -> None:
        self._state, self._targets, self._lock_held = state, targets, lock_held
        self._on_end, self._acting, self._on_event, self._rules = on_end, acting, on_event, rules
        self._wake = threading.Event()
        self._stopping = self._doubted = False
        self._running: dict[int, tuple[Run, RunningAction]] = {}
        self._held: frozenset[int] = frozenset()  # the runs that a limit holds, which was said
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self.view = DispatcherView(ActionTotals(), paused=False, writable=True)

    def recover_lost(self) -> None:
        """End what a former agent lost. Raises StoreUnavailable."""
        with state_store(self._state) as store:
            self._recover_runs(store)
            self.view = _read_view(store)

    def start(self) -> None:
        """Begin to claim. The databases must be known by now: a run on an unknown one is refused.

        Raises StoreUnavailable.
        """
        store = open_state_store(self._state)  # here, not in the thread: nobody would see it die
        self._thread = threading.Thread(target=self._dispatch_loop, args=(store,), name="dispatcher", daemon=True)
        self._thread.start()

    def wake_up(self) -> None:
        """Something was asked for."""
        self._wake.set()

    def recheck_store(self) -> None:
        """Somebody else of the agent could not write our history: find out whether it can be written."""
        self._doubted = True
        self._wake.set()

    def is_busy_with(self, database: str) -> bool:
        """Whether an action of ours works on this database now, ours or one of the command line's."""
        if any(name == database for name, _ in self.view.totals.started):
            return True
        with self._guard:
            return any(run.database == database for run, _ in self._running.values())

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
        if self._thread is not None:
            self._thread.join(STOP_PATIENCE)

    def _dispatch_loop(self, store: apsw.Connection) -> None:
        recovered_at = time.monotonic()
        version = None
        while not self._stopping:
            try:
                due = time.monotonic() - recovered_at > RECOVER_EVERY
                if due or self._doubted:
                    prove_writable(store, time.time())
                    self._doubted = False
                if due:
                    self._recover_runs(store)
                    recovered_at = time.monotonic()
                self._claim_runnable(store)
                version = self._refresh_view(store, version)
            except (apsw.Error, StoreUnavailable) as error:
                self._doubted = True  # until it was written again, whatever can be read
                self.view = DispatcherView(self.view.totals, paused=self.view.paused, writable=False)
                log_event(
                    LOG,
                    logging.ERROR,
                    "history cannot be used",
                    error=str(error),
                    next_step="free space or fix permissions",
                )
            self._wake.wait(IDLE_WAIT)
            self._wake.clear()
        store.close()

    def _refresh_view(self, store: apsw.Connection, version: object) -> object:
        """Read the totals again when somebody else changed the file, or we did."""
        now = (store.pragma("data_version"), store.total_changes())
        if now != version or not self.view.writable:
            self.view = _read_view(store)
        return now

    def _recover_runs(self, store: apsw.Connection) -> None:
        delete_old_episodes(store, time.time())
        for lost in recover_lost_runs(store, self._lock_held, time.time()):
            log_event(
                LOG,
                logging.WARNING,
                "lost run ended",
                run=lost.id,
                database=lost.database,
                action=lost.action,
                was=lost.state,
            )

    def _claim_runnable(self, store: apsw.Connection) -> None:
        if not self._acting().enabled or pause_reason(store) is not None:
            return
        now = time.time()
        with self._guard:
            ours = tuple(run for run, _ in self._running.values())
        held = set()
        for one, hold in next_runs(store, self._current_bounds(), ours, now):
            if self._stopping:
                return
            if hold is not None and hold.limit:
                held.add(one.id)
                self._log_hold(one, hold)
            if hold is None and (taken := claim_run(store, one.id, now)) is not None:
                self._start_claimed(store, taken)
        self._held = frozenset(held)

    def _current_bounds(self) -> SchedulingLimits:
        return scheduling_bounds(
            self._acting(), self._rules(), len(self._targets()), self.view.totals.suspensions, time.time()
        )

    def _log_hold(self, one: PendingRun, hold: WaitReason) -> None:
        """Once: waiting for its turn is nothing to tell of, being bound by a limit is."""
        if one.id not in self._held:
            about = {"run": one.id, "database": one.database, "rule": one.rule}
            log_event(LOG, logging.WARNING, "run waits", **about, reason=hold.why)

    def _start_claimed(self, store: apsw.Connection, taken: Claim) -> None:
        claimed = load_run(store, taken.run_id)
        target = self._targets().get(claimed.database)
        if target is None:
            end_run(store, taken, _UNKNOWN_DATABASE, time.time())
        else:
            self._start_child(claimed, target, taken)

    def _start_child(self, waiting: Run, target: Target, taken: Claim) -> None:
        try:
            child = RunningAction(_child_job(waiting, target, self._state, taken, self._acting()))
        except OSError as error:
            with state_store(self._state) as store:
                end_run(
                    store,
                    taken,
                    _failed_to_start(f"no process could be started for it: {error}"),
                    time.time(),
                    ("claimed",),
                )
            return
        with self._guard:
            self._running[waiting.id] = (waiting, child)
        threading.Thread(
            target=self._follow_child, args=(waiting, child), name=f"run-{waiting.id}", daemon=True
        ).start()

    def _follow_child(self, waiting: Run, child: RunningAction) -> None:
        """Pass one child's events on to the log, and see its run ended."""
        about = {"run": waiting.id, "database": waiting.database, "action": waiting.action}
        for said in child.read_events():
            self._on_event(waiting, said)
            if said.kind == "planned":
                log_event(
                    LOG,
                    logging.INFO,
                    "run planned",
                    **about,
                    trigger=waiting.trigger,
                    rule=waiting.rule,
                    plan=said.message,
                )
        status, last_line = child.wait_for_exit()
        try:
            with state_store(self._state) as store:
                self._finish_run(store, waiting, about, status, last_line)
        except (apsw.Error, StoreUnavailable) as error:
            log_event(
                LOG, logging.ERROR, "history cannot be used", **about, error=str(error), next_step="free space there"
            )
        finally:
            with self._guard:
                del self._running[waiting.id]
            self._on_end(waiting.database)
            self._wake.set()

    def _finish_run(
        self, store: apsw.Connection, waiting: Run, about: Mapping[str, object], status: int, last_line: str
    ) -> None:
        ended = load_run(store, waiting.id)
        if ended.state == "claimed" and status > 0:  # given back it would fail again at once, and again
            ending = _failed_to_start(f"its process ended with status {status} before it began: {last_line}")
            end_run(store, Claim(ended.id, ended.token), ending, time.time(), ("claimed",))
            ended = load_run(store, waiting.id)
        if ended.state in ("claimed", "running"):
            end_lost_run(store, ended, time.time())
            ended = load_run(store, waiting.id)
        level = logging.INFO if ended.outcome in ("done", "nothing_to_do") else logging.WARNING
        _log_suspension(store, ended)
        log_event(
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


def _log_suspension(store: apsw.Connection, ended: Run) -> None:
    """The run that made it so tells of it: nothing automatic comes after it."""
    found = load_suspension(store, ended.database, ended.action)
    if found.is_suspended and ended.ended_at is not None and found.since == ended.ended_at:
        about = {"database": ended.database, "action": ended.action, "rule": ended.rule}
        log_event(LOG, logging.WARNING, "suspended", **about, reason=found.message, next_step=found.suspension_cure)


def _child_job(waiting: Run, target: Target, state: Path, taken: Claim, acting: ActingSettings) -> Job:
    return Job(
        waiting.request,
        target,
        state,
        taken,
        trust_owner=acting.checkpoint_vulnerable_owner,
        window=acting.windows.get(waiting.action),
        fresh_backup=acting.fresh_backup,
    )


def _failed_to_start(why: str) -> RunEnding:
    return RunEnding(
        Outcome.FAILED, why, reason="not_begun", next_step="see the agent's log; is queuekeeper installed whole?"
    )


def _read_view(store: apsw.Connection) -> DispatcherView:
    return DispatcherView(read_totals(store), paused=pause_reason(store) is not None, writable=True)
