"""Dry runs: the child process of a run that stops after its plan. The caller waits for it; nothing is recorded."""

import threading
from collections.abc import Callable
from pathlib import Path

from actions.model.events import Event
from actions.model.request import Request
from actions.runner.protocol import Job
from actions.runner.spawn import RunningAction
from collectors.target import Target
from exporter.config.settings import ActingSettings

MAX_DRY_RUNS = 2


class TooManyDryRuns(Exception):
    """MAX_DRY_RUNS dry runs are running already; another one would only slow them down."""


class DryRuns:
    """Makes plans, at most MAX_DRY_RUNS at once. Safe to use from any thread."""

    def __init__(self, state: Path, acting: Callable[[], ActingSettings]) -> None:
        self._state, self._acting = state, acting
        self._running: set[RunningAction] = set()
        self._guard = threading.Lock()

    def plan(self, request: Request, target: Target) -> Event:
        """Return what the run would do, or why it would not: the last event of the child. Raises TooManyDryRuns, OSError."""
        child = self._start_child_process(
            Job(request, target, self._state, None, self._acting().checkpoint_vulnerable_owner)
        )
        try:
            events = list(child.read_events())
            _, error = child.wait_for_exit()
        finally:
            with self._guard:
                self._running.discard(child)
        if events and events[-1].kind == "ended":
            return events[-1]
        return Event("ended", error or "its process ended without a result", {"outcome": "failed"})

    def stop(self) -> None:
        """Make all children stop at their next safe point."""
        with self._guard:
            children = tuple(self._running)
        for child in children:
            child.hang_up()

    def _start_child_process(self, job: Job) -> RunningAction:
        with self._guard:
            if len(self._running) >= MAX_DRY_RUNS:
                raise TooManyDryRuns
            child = RunningAction(job)
            self._running.add(child)
            return child
