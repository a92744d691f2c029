"""What a person sees of a running agent and may request of it, by the page and by the API.

All methods may be called from any thread; those that use the state store raise StoreUnavailable.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from actions.model.events import Event
from actions.model.request import Option
from actions.policy.rules import ConditionWatch
from actions.runner.manual import EnqueuedRun, enqueue_manual, manual_request
from actions.runner.pause_and_cancel import cancel_run, pause_actions, wait_for_runs
from actions.store.chain import ChainEntry, newest_pauses
from actions.store.database import StoreUnavailable, state_store
from actions.store.pause import clear_pause, pause_reason
from actions.store.runs import Run, find_runs, load_run, pending_runs, unfinished_runs
from collectors.target import Target
from exporter.config.settings import Config
from exporter.exposition.latest import LatestSnapshots, max_reading_age
from exporter.log import log_event
from exporter.status.database import DatabaseStatus, StatusInputs, build_database_status
from exporter.status.dry_runs import DryRuns
from exporter.status.events import EventBroadcast
from exporter.status.recent_readings import ChartPoint, RecentReadings
from exporter.status.rule_state import explain_schedule
from exporter.text.units import format_time
from exporter.triggers.dispatcher import Dispatcher

LOG = logging.getLogger(__name__)
# How long the answer to a pause waits for running actions to stop, in seconds.
PAUSE_WAIT = 1.0


class UnknownDatabase(Exception):
    """No watched database has this name."""


@dataclass(frozen=True, slots=True)
class OperatorRequest:
    """A request of a person for a run; `who` is recorded in the history."""

    database: str
    action: str
    options: Mapping[str, Option]
    who: str


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """The state of the agent: whether it may act, why actions are paused, its active runs and its own problems.

    `active_runs` are claimed, running or pending. `problems` are of the agent itself, a sentence each.
    """

    acting: bool
    paused: str | None
    active_runs: tuple[Run, ...]
    problems: tuple[str, ...]


class Operations:
    """The operations of one agent."""

    def __init__(
        self,
        config: Callable[[], Config],
        latest: LatestSnapshots,
        dispatcher: Dispatcher,
        watches: Callable[[], Mapping[tuple[str, str], ConditionWatch]],
        dry_runs: DryRuns,
        broadcast: EventBroadcast,
        recent: RecentReadings,
        own_problems: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._config, self._latest, self._dispatcher = config, latest, dispatcher
        self._watches, self._dry_runs, self.broadcast, self._recent = watches, dry_runs, broadcast, recent
        self._own_problems = own_problems

    def list_database_statuses(self) -> list[DatabaseStatus]:
        """Return the status of every watched database, in the order of the configuration."""
        return self._database_statuses(None)

    def database_status(self, name: str) -> DatabaseStatus:
        """Return the status of one database. Raises UnknownDatabase."""
        for status in self._database_statuses(name):
            return status
        raise UnknownDatabase(f"no watched database is called {name}")

    def list_runs(
        self, limit: int, *, before: int | None = None, database: str = "", action: str = "", outcome: str = ""
    ) -> list[Run]:
        """Return at most `limit` runs that match, older than `before`, newest first."""
        with state_store(self._state_path) as store:
            return find_runs(store, limit, before=before, database=database, action=action, outcome=outcome)

    def list_pauses(self, limit: int) -> list[ChainEntry]:
        """Return the newest pauses of all actions and their ends, newest first."""
        with state_store(self._state_path) as store:
            return newest_pauses(store, limit)

    def find_run(self, run_id: int) -> Run:
        """Return one run. Raises KeyError."""
        with state_store(self._state_path) as store:
            return load_run(store, run_id)

    def agent_status(self) -> AgentStatus:
        """Return the status of the agent. Never raises: an unavailable state store is one of its problems."""
        enabled, problems = self._config().acting.enabled, self._own_problems()
        try:
            with state_store(self._state_path) as store:
                return AgentStatus(
                    enabled, pause_reason(store), (*unfinished_runs(store), *pending_runs(store)), problems
                )
        except StoreUnavailable as error:
            return AgentStatus(enabled, None, (), (*problems, str(error)))

    def last_hour_points(self, name: str) -> tuple[tuple[ChartPoint, ...], ...]:
        """Return the readings of a database in the last hour, one line for each of `exporter.status.recent_readings.SERIES`."""
        return self._recent.series_points(name, time.time())

    def schedule_texts(self, name: str, why_paused: str | None) -> list[tuple[str, str]]:
        """Return the schedules that cover a database, each with the time of its next run in words."""
        config, now = self._config(), time.time()
        covering = (schedule for schedule in config.schedules if schedule.covers_database(name))
        return [(schedule.name, explain_schedule(schedule, name, config, why_paused, now)) for schedule in covering]

    @property
    def longest_gap(self) -> float:
        """How many seconds two readings may be apart before readings are missing between them."""
        return max_reading_age(self._config().interval)

    def request_run(self, wanted: OperatorRequest) -> EnqueuedRun:
        """Enqueue a run. Raises UnknownDatabase, Refused."""
        target = self._find_target(wanted.database)
        request = manual_request(wanted.action, wanted.database, wanted.options, wanted.who)
        with state_store(self._state_path) as store:
            enqueued = enqueue_manual(store, request, str(target.path), time.time())
        self._dispatcher.wake_up()
        return enqueued

    def plan(self, wanted: OperatorRequest) -> Event:
        """Return what the run would do, or why not. Raises UnknownDatabase, Refused, TooManyDryRuns."""
        target = self._find_target(wanted.database)
        return self._dry_runs.plan(manual_request(wanted.action, wanted.database, wanted.options, wanted.who), target)

    def pause_actions(self, who: str, place: str = "") -> str:
        """Stop every action from starting, and return since when and why actions are paused.

        A pause that exists already stays as it is.
        """
        now = time.time()
        why = f"by {who}{place} at {format_time(now)}"
        with state_store(self._state_path) as store:
            existing = pause_actions(store, why, who, now)
        if existing is None:
            log_event(LOG, logging.WARNING, "actions are paused", why=why, next_step="queuekeeper resume")
        self._dispatcher.wake_up()
        return existing or why

    def finishing_runs(self) -> tuple[Run, ...]:
        """Wait at most PAUSE_WAIT seconds for running actions to stop, and return those that have not."""
        with state_store(self._state_path) as store:
            return wait_for_runs(store, PAUSE_WAIT).finishing

    def resume_actions(self, who: str) -> None:
        """Let actions start again, and lift all suspensions."""
        with state_store(self._state_path) as store:
            lifted = clear_pause(store, who, time.time())
        log_event(LOG, logging.INFO, "actions may start again", by=who, suspensions_lifted=lifted)
        self._dispatcher.wake_up()

    def cancel_run(self, run_id: int, who: str) -> Run:
        """End a pending run, or ask a running one to stop. Raises KeyError, Refused."""
        with state_store(self._state_path) as store:
            run = cancel_run(store, run_id, who, time.time())
        log_event(LOG, logging.INFO, "run is cancelled", run=run_id, by=who, state=run.state)
        return run

    def _find_target(self, name: str) -> Target:
        target = self._latest.watched_targets().get(name)
        if target is None:
            raise UnknownDatabase(f"no watched database is called {name}")
        return target

    @property
    def _state_path(self) -> Path:
        return self._config().state

    def _database_statuses(self, only: str | None) -> list[DatabaseStatus]:
        now, config, totals = time.time(), self._config(), self._dispatcher.view.totals
        view = self._latest.view_at(now, config.interval)
        inputs = StatusInputs(config.rules, self._watches(), totals.suspensions, totals.drills)
        chosen = (target for target in view.targets if only is None or target.name == only)
        return [
            build_database_status(t, view.fresh.get(t.name), view.database_state(t.name), inputs, now) for t in chosen
        ]
