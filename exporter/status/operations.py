"""What a person sees of a running agent from afar, and what they may ask of it: by the page, and by the API..

All may be called from any thread. What reads or writes our history raises StoreUnavailable.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from actions.model.events import Event
from actions.model.request import Option
from actions.policy.rules import ConditionWatch
from actions.runner.manual import EnqueuedRun, enqueue_manual, manual_request
from actions.store.database import StoreUnavailable, state_store
from actions.store.pause import pause_reason
from actions.store.runs import Run, find_runs, load_run, pending_runs, unfinished_runs
from collectors.target import Target
from exporter.config.settings import Config
from exporter.exposition.latest import LatestSnapshots, max_age
from exporter.status.database import DatabaseStatus, StatusInputs, build_status
from exporter.status.dry_runs import DryRuns
from exporter.status.events import EventBroadcast
from exporter.status.recent_readings import ChartPoint, RecentReadings
from exporter.status.rule_state import explain_schedule
from exporter.triggers.dispatcher import Dispatcher


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
    """`paused`: why, when actions are. `at_work`: runs that are claimed, running or waiting. `trouble`: our own."""

    acting: bool
    paused: str | None
    at_work: tuple[Run, ...]
    trouble: tuple[str, ...]


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
