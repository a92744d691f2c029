"""What a person sees of a running agent from afar, and what they may ask of it: by the page, and by the API..

All may be called from any thread. What reads or writes our history raises StoreUnavailable.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from actions.model.events import Event
from actions.model.request import Option
from actions.policy.rules import Watch
from actions.runner.manual import Recorded, record, wish
from actions.store.database import StoreUnavailable, history
from actions.store.pause import paused
from actions.store.runs import Run, matching, pending, run, unfinished
from collectors.target import Target
from exporter.config.settings import Config
from exporter.exposition.latest import Board, max_age
from exporter.status.database import Beside, DatabaseStatus, status_of
from exporter.status.dry_runs import DryRuns
from exporter.status.events import Broadcast
from exporter.status.recent_readings import Point, Recent
from exporter.status.rule_state import explain_schedule
from exporter.triggers.dispatcher import Dispatcher


class UnknownDatabase(Exception):
    """No watched database is called so."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks for; `who` is kept in history."""

    database: str
    action: str
    options: Mapping[str, Option]
    who: str


@dataclass(frozen=True, slots=True)
class Standing:
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
        board: Board,
        dispatcher: Dispatcher,
        watches: Callable[[], Mapping[tuple[str, str], Watch]],
        dry_runs: DryRuns,
        broadcast: Broadcast,
        recent: Recent,
        trouble: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._config, self._board, self._dispatcher = config, board, dispatcher
        self._watches, self._dry_runs, self.broadcast, self._recent = watches, dry_runs, broadcast, recent
        self._trouble = trouble

    def databases(self) -> list[DatabaseStatus]:
        """Every watched database now, in the order of the configuration."""
        return self._statuses(None)

    def database(self, name: str) -> DatabaseStatus:
        """One of them. Raises UnknownDatabase."""
        for found in self._statuses(name):
            return found
        raise UnknownDatabase(f"no watched database is called {name}")

    def runs(
        self, limit: int, *, before: int | None = None, database: str = "", action: str = "", outcome: str = ""
    ) -> list[Run]:
        """The newest runs older than `before` that fit, newest first."""
        with history(self._state) as store:
            return matching(store, limit, before=before, database=database, action=action, outcome=outcome)

    def run(self, run_id: int) -> Run:
        """One run. Raises KeyError."""
        with history(self._state) as store:
            return run(store, run_id)

    def standing(self) -> Standing:
        """How the agent itself is. Never raises: what cannot be told is said."""
        enabled, trouble = self._config().acting.enabled, self._trouble()
        try:
            with history(self._state) as store:
                return Standing(enabled, paused(store), (*unfinished(store), *pending(store)), trouble)
        except StoreUnavailable as error:
            return Standing(enabled, None, (), (*trouble, str(error)))

    def last_hour(self, name: str) -> tuple[tuple[Point, ...], ...]:
        """The readings of a database, one line for each of `exporter.status.recent_readings.SERIES`."""
        return self._recent.points(name, time.time())

    def schedules(self, name: str, why_paused: str | None) -> list[tuple[str, str]]:
        """The schedules that cover a database, each with when it comes next, in words."""
        config, now = self._config(), time.time()
        found = (one for one in config.schedules if one.covers(name))
        return [(one.name, explain_schedule(one, name, config, why_paused, now)) for one in found]

    @property
    def longest_gap(self) -> float:
        """How far apart two readings may be, in seconds, before something is missing between them."""
        return max_age(self._config().interval)

    def ask(self, asked: Wish) -> Recorded:
        """Record a pending run. Raises UnknownDatabase, Refused."""
        target = self._target(asked.database)
        request = wish(asked.action, asked.database, asked.options, asked.who)
        with history(self._state) as store:
            recorded = record(store, request, str(target.path), time.time())
        self._dispatcher.wake()
        return recorded

    def plan(self, asked: Wish) -> Event:
        """What it would do, or why not. Raises UnknownDatabase, Refused, TooMany."""
        target = self._target(asked.database)
        return self._dry_runs.plan(wish(asked.action, asked.database, asked.options, asked.who), target)

    def _target(self, name: str) -> Target:
        target = self._board.targets().get(name)
        if target is None:
            raise UnknownDatabase(f"no watched database is called {name}")
        return target

    @property
    def _state(self) -> Path:
        return self._config().state

    def _statuses(self, only: str | None) -> list[DatabaseStatus]:
        now, config, totals = time.time(), self._config(), self._dispatcher.view.totals
        view = self._board.view(now, config.interval)
        beside = Beside(config.rules, self._watches(), totals.standings, totals.drills)
        chosen = (target for target in view.targets if only is None or target.name == only)
        return [status_of(one, view.fresh.get(one.name), view.state(one.name), beside, now) for one in chosen]
