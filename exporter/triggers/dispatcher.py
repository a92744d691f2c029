"""Claims pending runs by priority within the lanes, and starts a child process for each, while acting is allowed.

It is the only part of the agent that starts children. The state store is the queue: no run is lost when the agent dies, and
runs of the command line are seen here too.
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

# How long the dispatcher sleeps when it is not woken, in seconds: runs of the command line are noticed this late.
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
    """The state that scrapes show: read once after each change, so that a scrape opens no database."""

    totals: ActionTotals
    paused: bool
    writable: bool


class Dispatcher:
    """Runs one thread that claims runs, and one thread for each child process."""

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
        self._held: frozenset[int] = frozenset()  # the runs that wait for a limit and were logged
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self.view = DispatcherView(ActionTotals(), paused=False, writable=True)

    def recover_lost(self) -> None:
        """End the runs that a former agent left behind. Raises StoreUnavailable."""
        with state_store(self._state) as store:
            self._recover_runs(store)
            self.view = _read_dispatcher_view(store, time.time())

    def start(self) -> None:
        """Start to claim runs. The databases must be known by now: a run on an unknown one is refused.

        Raises StoreUnavailable.
        """
        store = open_state_store(self._state)  # here, not in the thread: its error would not be seen there
        self._thread = threading.Thread(target=self._dispatch_loop, args=(store,), name="dispatcher", daemon=True)
        self._thread.start()

    def wake_up(self) -> None:
        """Look for pending runs now: a run was enqueued or the configuration changed."""
        self._wake.set()

    def recheck_store(self) -> None:
        """Check soon whether the state store can be written: another part of the agent could not write it."""
        self._doubted = True
        self._wake.set()

    def is_busy_with(self, database: str) -> bool:
        """Return whether an action runs on this database now, started by the agent or the command line."""
        if any(name == database for name, _ in self.view.totals.started):
            return True
        with self._guard:
            return any(run.database == database for run, _ in self._running.values())

    def stop(self) -> None:
        """Make all children stop at their next safe point, and wait for them at most STOP_PATIENCE seconds."""
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
                version = self._refresh_dispatcher_view(store, version)
            except (apsw.Error, StoreUnavailable) as error:
                self._doubted = True  # until a write succeeds, even if it can be read
                self.view = DispatcherView(self.view.totals, paused=self.view.paused, writable=False)
                log_event(
                    LOG,
                    logging.ERROR,
                    "the state store cannot be used",
                    error=str(error),
                    next_step="free space or fix permissions",
                )
            self._wake.wait(IDLE_WAIT)
            self._wake.clear()
        store.close()

    def _refresh_dispatcher_view(self, store: apsw.Connection, version: object) -> object:
        """Read the totals again when the file was changed, and return its new version."""
        now = (store.pragma("data_version"), store.total_changes())
        if now != version or not self.view.writable:
            self.view = _read_dispatcher_view(store, time.time())
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
        for pending, hold in next_runs(store, self._current_scheduling_bounds(), ours, now):
            if self._stopping:
                return
            if hold is not None and hold.limit:
                held.add(pending.id)
                self._log_run_hold(pending, hold)
            if hold is None and (claim := claim_run(store, pending.id, now)) is not None:
                self._start_claimed(store, claim)
        self._held = frozenset(held)

    def _current_scheduling_bounds(self) -> SchedulingLimits:
        return scheduling_bounds(
            self._acting(), self._rules(), len(self._targets()), self.view.totals.suspensions, time.time()
        )

    def _log_run_hold(self, pending: PendingRun, hold: WaitReason) -> None:
        """Log once that a limit holds a run; waiting for its turn is not logged."""
        if pending.id not in self._held:
            about = {"run": pending.id, "database": pending.database, "rule": pending.rule}
            log_event(LOG, logging.WARNING, "run waits", **about, reason=hold.why)

    def _start_claimed(self, store: apsw.Connection, claim: Claim) -> None:
        claimed = load_run(store, claim.run_id)
        target = self._targets().get(claimed.database)
        if target is None:
            end_run(store, claim, _UNKNOWN_DATABASE, time.time())
        else:
            self._start_child_process(claimed, target, claim)

    def _start_child_process(self, waiting: Run, target: Target, claim: Claim) -> None:
        try:
            child = RunningAction(_child_job(waiting, target, self._state, claim, self._acting()))
        except OSError as error:
            with state_store(self._state) as store:
                end_run(
                    store,
                    claim,
                    _failed_to_start(f"no process could be started for it: {error}"),
                    time.time(),
                    ("claimed",),
                )
            return
        with self._guard:
            self._running[waiting.id] = (waiting, child)
        threading.Thread(
            target=self._follow_child_events, args=(waiting, child), name=f"run-{waiting.id}", daemon=True
        ).start()

    def _follow_child_events(self, waiting: Run, child: RunningAction) -> None:
        """Publish and log the events of one child until it exits, then record the end of its run."""
        about = {"run": waiting.id, "database": waiting.database, "action": waiting.action}
        for message in child.read_events():
            self._on_event(waiting, message)
            if message.kind == "planned":
                origin = {"trigger": waiting.trigger, "rule": waiting.rule, "by": waiting.request.asked_by or None}
                log_event(LOG, logging.INFO, "run planned", **about, **origin, plan=message.message)
        status, last_line = child.wait_for_exit()
        try:
            with state_store(self._state) as store:
                self._record_run_end(store, waiting, about, status, last_line)
        except (apsw.Error, StoreUnavailable) as error:
            log_event(
                LOG,
                logging.ERROR,
                "the state store cannot be used",
                **about,
                error=str(error),
                next_step="free space or fix permissions",
            )
        finally:
            with self._guard:
                del self._running[waiting.id]
            self._on_end(waiting.database)
            self._wake.set()

    def _record_run_end(
        self, store: apsw.Connection, waiting: Run, about: Mapping[str, object], status: int, last_line: str
    ) -> None:
        ended = load_run(store, waiting.id)
        if ended.state == "claimed" and status > 0:  # if it were enqueued again, it would fail again at once
            ending = _failed_to_start(f"its process ended with status {status} before it began: {last_line}")
            end_run(store, Claim(ended.id, ended.token), ending, time.time(), ("claimed",))
            ended = load_run(store, waiting.id)
        if ended.state in ("claimed", "running"):
            end_lost_run(store, ended, time.time())
            ended = load_run(store, waiting.id)
        level = logging.INFO if ended.outcome in ("done", "nothing_to_do") else logging.WARNING
        _log_new_suspension(store, ended)
        log_event(
            LOG,
            level,
            "run ended",
            **about,
            outcome=ended.outcome,
            effect=ended.effect,
            result=ended.message,
            next_step=ended.next_step,
            record_hash=ended.record_hash,
            **({"exit_status": status, "error": last_line} if last_line else {}),
        )


def _log_new_suspension(store: apsw.Connection, ended: Run) -> None:
    """Log the suspension that this run caused: no automatic run follows it."""
    suspension = load_suspension(store, ended.database, ended.action)
    if suspension.is_suspended and ended.ended_at is not None and suspension.since == ended.ended_at:
        about = {"database": ended.database, "action": ended.action, "rule": ended.rule}
        log_event(
            LOG, logging.WARNING, "suspended", **about, reason=suspension.message, next_step=suspension.suspension_cure
        )


def _child_job(waiting: Run, target: Target, state: Path, claim: Claim, acting: ActingSettings) -> Job:
    return Job(
        waiting.request,
        target,
        state,
        claim,
        trust_owner=acting.checkpoint_vulnerable_owner,
        window=acting.windows.get(waiting.action),
        fresh_backup=acting.fresh_backup,
    )


def _failed_to_start(why: str) -> RunEnding:
    return RunEnding(
        Outcome.FAILED,
        why,
        reason="not_begun",
        next_step="see the agent's log; check that queuekeeper is installed completely",
    )


def _read_dispatcher_view(store: apsw.Connection, now: float) -> DispatcherView:
    return DispatcherView(read_totals(store, now), paused=pause_reason(store) is not None, writable=True)
