"""What a person sees of a running agent from afar, and what they may ask of it: by the page, and by the API..

All may be called from any thread. What reads or writes our history raises StoreUnavailable.
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
from actions.store.database import StoreUnavailable, state_store
from actions.store.pause import clear_pause, pause_reason
from actions.store.runs import Run, find_runs, load_run, pending_runs, unfinished_runs
from collectors.target import Target
from exporter.config.settings import Config
from exporter.exposition.latest import LatestSnapshots, max_age
from exporter.log import log_event
from exporter.status.database import DatabaseStatus, StatusInputs, build_status
from exporter.status.dry_runs import DryRuns
from exporter.status.events import EventBroadcast
from exporter.status.recent_readings import ChartPoint, RecentReadings
from exporter.status.rule_state import explain_schedule
from exporter.triggers.dispatcher import Dispatcher

LOG = logging.getLogger(__name__)
# How long the answer to a pause waits for running actions to stop, in seconds.
PAUSE_WAIT = 1.0


class UnknownDatabase(Exception):
    """No watched database is called so."""


@dataclass(frozen=True, slots=True)
class OperatorRequest:
    """What somebody asks for; `who` is kept in history."""

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
    """Of one agent."""

    def __init__(
        self,
        config: Callable[[], Config],
        board: LatestSnapshots,
        dispatcher: Dispatcher,
        watches: Callable[[], Mapping[tuple[str, str], ConditionWatch]],
        dry_runs: DryRuns,
        broadcast: EventBroadcast,
        recent: RecentReadings,
        trouble: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._config, self._board, self._dispatcher = config, board, dispatcher
        self._watches, self._dry_runs, self.broadcast, self._recent = watches, dry_runs, broadcast, recent
        self._trouble = trouble

    def list_databases(self) -> list[DatabaseStatus]:
        """Every watched database now, in the order of the configuration."""
        return self._database_statuses(None)

    def database_status(self, name: str) -> DatabaseStatus:
        """One of them. Raises UnknownDatabase."""
        for found in self._database_statuses(name):
            return found
        raise UnknownDatabase(f"no watched database is called {name}")

    def list_runs(
        self, limit: int, *, before: int | None = None, database: str = "", action: str = "", outcome: str = ""
    ) -> list[Run]:
        """The newest runs older than `before` that fit, newest first."""
        with state_store(self._state_path) as store:
            return find_runs(store, limit, before=before, database=database, action=action, outcome=outcome)

    def find_run(self, run_id: int) -> Run:
        """One run. Raises KeyError."""
        with state_store(self._state_path) as store:
            return load_run(store, run_id)

    def agent_status(self) -> AgentStatus:
        """How the agent itself is. Never raises: what cannot be told is said."""
        enabled, trouble = self._config().acting.enabled, self._trouble()
        try:
            with state_store(self._state_path) as store:
                return AgentStatus(
                    enabled, pause_reason(store), (*unfinished_runs(store), *pending_runs(store)), trouble
                )
        except StoreUnavailable as error:
            return AgentStatus(enabled, None, (), (*trouble, str(error)))

    def last_hour(self, name: str) -> tuple[tuple[ChartPoint, ...], ...]:
        """The readings of a database, one line for each of `exporter.status.recent_readings.SERIES`."""
        return self._recent.series_points(name, time.time())

    def schedule_texts(self, name: str, why_paused: str | None) -> list[tuple[str, str]]:
        """The schedules that cover a database, each with when it comes next, in words."""
        config, now = self._config(), time.time()
        found = (one for one in config.schedules if one.covers_database(name))
        return [(one.name, explain_schedule(one, name, config, why_paused, now)) for one in found]

    @property
    def longest_gap(self) -> float:
        """How far apart two readings may be, in seconds, before something is missing between them."""
        return max_age(self._config().interval)

    def request_run(self, asked: OperatorRequest) -> EnqueuedRun:
        """Record a pending run. Raises UnknownDatabase, Refused."""
        target = self._find_target(asked.database)
        request = manual_request(asked.action, asked.database, asked.options, asked.who)
        with state_store(self._state_path) as store:
            recorded = enqueue_manual(store, request, str(target.path), time.time())
        self._dispatcher.wake_up()
        return recorded

    def plan(self, asked: OperatorRequest) -> Event:
        """What it would do, or why not. Raises UnknownDatabase, Refused, TooMany."""
        target = self._find_target(asked.database)
        return self._dry_runs.plan(manual_request(asked.action, asked.database, asked.options, asked.who), target)

    def pause_actions(self, why: str) -> str:
        """Stop every action from starting, and return since when and why actions are paused.

        A pause that exists already stays as it is.
        """
        with state_store(self._state_path) as store:
            existing = pause_actions(store, why)
        if existing is None:
            log_event(LOG, logging.WARNING, "actions are paused", why=why, next_step="queuekeeper resume")
        self._dispatcher.wake_up()
        return existing or why

    def finishing_runs(self) -> tuple[Run, ...]:
        """Wait at most PAUSE_WAIT seconds for running actions to stop, and return those that have not."""
        with state_store(self._state_path) as store:
            return wait_for_runs(store, PAUSE_WAIT).finishing

    def resume_actions(self) -> None:
        """Let actions start again, and lift all suspensions."""
        with state_store(self._state_path) as store:
            lifted = clear_pause(store)
        log_event(LOG, logging.INFO, "actions may start again", suspensions_lifted=lifted)
        self._dispatcher.wake_up()

    def cancel_run(self, run_id: int, who: str) -> Run:
        """End a pending run, or ask a running one to stop. Raises KeyError, Refused."""
        with state_store(self._state_path) as store:
            run = cancel_run(store, run_id, who, time.time())
        log_event(LOG, logging.INFO, "run is cancelled", run=run_id, by=who, state=run.state)
        return run

    def _find_target(self, name: str) -> Target:
        target = self._board.watched_targets().get(name)
        if target is None:
            raise UnknownDatabase(f"no watched database is called {name}")
        return target

    @property
    def _state_path(self) -> Path:
        return self._config().state

    def _database_statuses(self, only: str | None) -> list[DatabaseStatus]:
        now, config, totals = time.time(), self._config(), self._dispatcher.view.totals
        view = self._board.view_at(now, config.interval)
        beside = StatusInputs(config.rules, self._watches(), totals.suspensions, totals.drills)
        chosen = (target for target in view.targets if only is None or target.name == only)
        return [build_status(one, view.fresh.get(one.name), view.state_of(one.name), beside, now) for one in chosen]
