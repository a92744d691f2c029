"""A person's runs: performed at once for the command line and the Python API, enqueued for the page and the HTTP API.

A person is bound by the lock, disk, ownership, owner-version and pause guards, not by cooldown, window or quota.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import apsw

from actions.model.errors import PAUSED, Refused
from actions.model.events import Event
from actions.model.options import ActionOption, option_problems
from actions.model.request import Option, Request
from actions.model.requester import process_requester
from actions.runner.catalogue import ACTION_SPECS
from actions.runner.protocol import Job
from actions.runner.spawn import RunningAction
from actions.store.database import state_store
from actions.store.pause import pause_reason
from actions.store.recovery import end_lost_run
from actions.store.runs import Claim, Run, enqueue_and_claim, enqueue_run, load_run
from collectors.target import Target

EventReader = Callable[[RunningAction], list[Event]]


@dataclass(frozen=True, slots=True)
class EnqueuedRun:
    """The run that will do it; `new` is false when the same request was pending already."""

    run_id: int
    new: bool


def read_all_events(child: RunningAction) -> list[Event]:
    """The events of the child, read until it ends."""
    events = list(child.read_events())
    child.wait_for_exit()
    return events


def run_manually(target: Target, state: Path, request: Request, attend: EventReader = read_all_events) -> Run:
    """Perform one run and return it as history has it; `attend` reads its events. Raises StoreUnavailable.

    The run is this process's user's, unless the request names another.
    """
    request = replace(request, asked_by=request.asked_by or process_requester())
    with state_store(state) as store:
        claim = enqueue_and_claim(store, request, str(target.path), time.time())
    attend(RunningAction(Job(request, target, state, claim)))
    return _load_ended_run(state, claim)


def plan_only(target: Target, state: Path, request: Request, attend: EventReader = read_all_events) -> list[Event]:
    """Make the plan and change nothing; returns the child's events. Raises StoreUnavailable."""
    return attend(RunningAction(Job(request, target, state, None)))


def remote_actions() -> Mapping[str, Mapping[str, ActionOption]]:
    """The actions that can be requested over the page and the API, with the options they take there."""
    return {name: spec.remote_options for name, spec in ACTION_SPECS.items() if spec.remote}


def manual_request(action: str, database: str, options: Mapping[str, Option], asked_by: str) -> Request:
    """The request for a run over the page or the API. Raises Refused (`at_the_machine`, `unknown_action`, `options`)."""
    spec = ACTION_SPECS.get(action)
    if spec is None:
        cure = f"known: {', '.join(sorted(remote_actions()))}"
        raise Refused(f"there is no action {action!r}", reason="unknown_action", next_step=cure)
    if not spec.remote:
        cure = f"queuekeeper {spec.command} {database}"
        raise Refused(f"{action} is done at the machine only", reason="at_the_machine", next_step=cure)
    problems = option_problems(spec.remote_options, options, automatic=False)
    if problems:
        raise Refused("; ".join(problems), reason="options", next_step="correct the options")
    return Request(action, database, options=options, asked_by=asked_by)


def enqueue_manual(history: apsw.Connection, request: Request, path: str, now: float) -> EnqueuedRun:
    """Record it as a pending run. Raises Refused (`paused`, `waiting`): nothing may act later than its person expects."""
    pause = pause_reason(history)
    if pause is not None:
        raise Refused(f"actions are paused ({pause})", reason=PAUSED, next_step="resume them first")
    run_id, new = enqueue_run(history, request, path, now)
    if not new and load_run(history, run_id).request.options != request.options:
        raise Refused(
            f"run {run_id} waits to do this with other options", reason="waiting", next_step=f"wait for run {run_id}"
        )
    return EnqueuedRun(run_id, new)


def _load_ended_run(state: Path, claim: Claim) -> Run:
    """The run of a child that is gone; a run that it did not end is ended here as interrupted."""
    with state_store(state) as store:
        run = load_run(store, claim.run_id)
        if run.state != "ended":
            end_lost_run(store, run, time.time())
        return load_run(store, claim.run_id)
