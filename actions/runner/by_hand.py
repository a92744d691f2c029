"""A person's run, from asking to its end: for the command line and the Python API."""

import time
from collections.abc import Callable
from pathlib import Path

from actions.model.events import Event
from actions.model.request import Request
from actions.runner.protocol import Job
from actions.runner.spawn import RunningAction
from actions.store.database import history
from actions.store.recovery import end_lost
from actions.store.runs import Claim, Run, ask_and_claim, run
from collectors.target import Target

Attend = Callable[[RunningAction], list[Event]]


def attend(child: RunningAction) -> list[Event]:
    """Read what the child says until it ends."""
    events = list(child.events())
    child.wait()
    return events


def perform_by_hand(target: Target, state: Path, request: Request, attend: Attend = attend) -> Run:
    """Perform one run and return it as history tells it. Raises StoreUnavailable."""
    with history(state) as store:
        claim = ask_and_claim(store, request, str(target.path), time.time())
    attend(RunningAction(Job(request, target, state, claim)))
    return _ended(state, claim)


def plan_only(target: Target, state: Path, request: Request, attend: Attend = attend) -> list[Event]:
    """Make the plan and change nothing; what the child said. Raises StoreUnavailable."""
    return attend(RunningAction(Job(request, target, state, None)))


def _ended(state: Path, claim: Claim) -> Run:
    with history(state) as store:
        ended = run(store, claim.run_id)
        if ended.state != "ended":
            end_lost(store, ended, time.time())
        return run(store, claim.run_id)
