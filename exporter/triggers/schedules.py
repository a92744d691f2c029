"""The schedule trigger: enqueues the runs of schedules that are due. actions/policy/schedules.py decides which are.

A run and the time up to which its schedule is handled are written in one transaction, so that a restart neither repeats nor
loses one. It waits at most LONGEST_CLOCK_WAIT seconds, so that a change of the clock is noticed.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import apsw

from actions.policy.schedules import Schedule, due_firing, schedule_request
from actions.runner.enqueue import enqueue_automatic
from actions.store import schedules as schedules_module
from actions.store.database import StoreUnavailable, state_store, store_transaction
from collectors.target import Target
from exporter.log import log_event

LOG = logging.getLogger(__name__)
# The longest time between two checks of the clock, in seconds.
LONGEST_CLOCK_WAIT = 15.0


class ScheduleTrigger:
    """Enqueues due runs in one thread. `schedules()` is empty while acting is not enabled."""

    def __init__(
        self,
        state: Path,
        schedules: Callable[[], Sequence[Schedule]],
        targets: Callable[[], Mapping[str, Target]],
        *,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state, self._schedules, self._targets, self._wake = state, schedules, targets, wake
        self._clock = clock
        self._next: dict[tuple[str, str], tuple[Schedule, float | None]] = {}
        self._changed = threading.Event()
        self._stopping = False
        self._looked_at = 0.0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread that enqueues due runs."""
        self._thread = threading.Thread(target=self._trigger_loop, name="schedules", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for it; no more runs are enqueued."""
        self._stopping = True
        self._changed.set()
        if self._thread is not None:
            self._thread.join(10)

    def check_schedules_soon(self) -> None:
        """Check the schedules soon: the configuration changed."""
        self._changed.set()

    def enqueue_due_runs(self) -> float:
        """Enqueue all runs that are due, and return the seconds to wait for the next check. Raises StoreUnavailable."""
        now = self._clock()
        pairs = [(s, t) for s in self._schedules() for t in self._targets().values() if s.covers_database(t.name)]
        wanted = [(s, t) for s, t in pairs if self._is_schedule_due(s, t.name, now)]
        if wanted:
            with state_store(self._state) as store, store_transaction(store):
                handled = {(s.name, t.name): (s, self._handle_schedule(store, s, t, now)) for s, t in wanted}
            self._next.update(handled)  # once it is committed
            self._wake()
        self._looked_at = now
        upcoming = [at for s, t in pairs if (at := self._next[s.name, t.name][1]) is not None]
        return max(0.05, min((LONGEST_CLOCK_WAIT, *(at - now for at in upcoming))))

    def _is_schedule_due(self, schedule: Schedule, database: str, now: float) -> bool:
        """Return whether a schedule must be handled: it is due, it is new, or the clock was set back."""
        known, at = self._next.get((schedule.name, database), (None, None))
        return known != schedule or (at is not None and at <= now) or now < self._looked_at

    def _handle_schedule(self, store: apsw.Connection, schedule: Schedule, target: Target, now: float) -> float | None:
        """Handle one schedule on one database, and return when it is due next (seconds since the epoch)."""
        until = schedules_module.schedule_done_until(store, schedule.name, target.name)
        times = due_firing(schedule, target.name, now if until is None else until, now)
        missed = times.missed
        if missed:
            _log_missed_times(
                schedule, target, missed, "the agent did not run at that time: it was down, or the machine was asleep"
            )
        if times.firing is not None:
            answer = enqueue_automatic(store, schedule_request(schedule, target.name), str(target.path), now)
            about = {"schedule": schedule.name, "database": target.name, "run": answer.run_id}
            log_event(LOG, logging.INFO, "schedule is due", **about, decision=answer.decision)
            if answer.decision == "disabled":
                missed += 1
                _log_missed_times(
                    schedule, target, 1, "suspended: its last runs did not help; see `queuekeeper config explain`"
                )
        schedules_module.save_schedule_progress(store, schedule.name, target.name, times.done_until, missed)
        return times.next_at

    def _trigger_loop(self) -> None:
        while not self._stopping:
            try:
                wait = self.enqueue_due_runs()
            except (StoreUnavailable, apsw.Error) as error:
                log_event(
                    LOG,
                    logging.ERROR,
                    "the state store cannot be used",
                    error=str(error),
                    next_step="free space or fix permissions",
                )
                wait = LONGEST_CLOCK_WAIT
            self._changed.wait(wait)
            self._changed.clear()


def _log_missed_times(schedule: Schedule, target: Target, times: int, why: str) -> None:
    log_event(
        LOG, logging.WARNING, "schedule missed", schedule=schedule.name, database=target.name, times=times, reason=why
    )
