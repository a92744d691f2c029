"""A person's run, from asking to its end: for the command line and the Python API."""

import time
from collections.abc import Callable
from pathlib import Path

from actions.model.events import Event
from actions.model.request import Request
from actions.runner.protocol import Job
from actions.runner.spawn import RunningAction
from actions.store.database import state_store
from actions.store.recovery import end_lost_run
from actions.store.runs import Claim, Run, enqueue_and_claim, load_run
from collectors.target import Target

EventReader = Callable[[RunningAction], list[Event]]


def read_all_events(child: RunningAction) -> list[Event]:
    """Read what the child says until it ends."""
    events = list(child.read_events())
    child.wait_for_exit()
    return events


def run_manually(target: Target, state: Path, request: Request, attend: EventReader = read_all_events) -> Run:
    """Perform one run and return it as history tells it. Raises StoreUnavailable."""
    with state_store(state) as store:
        claim = enqueue_and_claim(store, request, str(target.path), time.time())
    attend(RunningAction(Job(request, target, state, claim)))
    return _load_ended_run(state, claim)


def plan_only(target: Target, state: Path, request: Request, attend: EventReader = read_all_events) -> list[Event]:
    """Make the plan and change nothing; what the child said. Raises StoreUnavailable."""
    return attend(RunningAction(Job(request, target, state, None)))


def _load_ended_run(state: Path, claim: Claim) -> Run:
    with state_store(state) as store:
        ended = load_run(store, claim.run_id)
        if ended.state != "ended":
            end_lost_run(store, ended, time.time())
        return load_run(store, claim.run_id)
