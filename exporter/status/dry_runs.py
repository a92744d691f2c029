"""Dry runs of the agent: the child of a run, stopping after its plan. Waited for by the one who asked; nothing is recorded."""

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
    """So many dry runs are being made that another one would only slow them down."""


class DryRuns:
    """Makes plans, AT_ONCE at a time. Safe to use from any thread."""

    def __init__(self, state: Path, acting: Callable[[], ActingSettings]) -> None:
        self._state, self._acting = state, acting
        self._running: set[RunningAction] = set()
        self._guard = threading.Lock()

    def plan(self, request: Request, target: Target) -> Event:
        """What the run would do, or why it would not: the child's last word. Raises TooMany, OSError."""
        child = self._start_child(Job(request, target, self._state, None, self._acting().checkpoint_vulnerable_owner))
        try:
            said = list(child.read_events())
            _, error = child.wait_for_exit()
        finally:
            with self._guard:
                self._running.discard(child)
        if said and said[-1].kind == "ended":
            return said[-1]
        return Event("ended", error or "its process ended without telling how", {"outcome": "failed"})

    def stop(self) -> None:
        """Leave all children, so that they stop at their next safe point."""
        with self._guard:
            children = tuple(self._running)
        for child in children:
            child.hang_up()

    def _start_child(self, job: Job) -> RunningAction:
        with self._guard:
            if len(self._running) >= MAX_DRY_RUNS:
                raise TooManyDryRuns
            child = RunningAction(job)
            self._running.add(child)
            return child
