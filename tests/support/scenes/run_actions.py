"""Runs actions as the command line does: a claimed run, a child, and the run as history tells it afterwards."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actions.model.condition import Condition
from actions.model.events import Event
from actions.model.request import Request
from actions.policy.windows import Window
from actions.runner.manual import plan_only, read_all_events, run_manually
from actions.runner.protocol import Job
from actions.runner.spawn import RunningAction
from actions.store.database import state_store
from actions.store.runs import Run, enqueue_and_claim, load_run
from collectors.target import Target

ALL_DAY = Window(0, 24 * 60)


def act(target: Target, request: Request, *, trust_owner: bool = False, window: Window | None = ALL_DAY) -> Run:
    """Perform one run and return it as history tells it. `window`: of an automatic one."""
    assert target.state is not None
    if not trust_owner and not request.is_automatic:
        return run_manually(target, target.state, request)
    with state_store(target.state) as store:
        claim = enqueue_and_claim(store, request, str(target.path), time.time())
    read_all_events(RunningAction(Job(request, target, target.state, claim, trust_owner, window)))
    with state_store(target.state) as store:
        return load_run(store, claim.run_id)


def by_hand(target: Target, action: str, **options: Any) -> Run:
    """A person runs an action."""
    return act(target, Request(action, target.name, options=options))


def by_rule(target: Target, action: str, condition: Condition | None = None, **options: Any) -> Run:
    """A threshold runs an action."""
    request = Request(action, target.name, "threshold", options=options, rule="the rule", condition=condition)
    return act(target, request)


def planned(target: Target, action: str, options: Mapping[str, Any] | None = None) -> Event:
    """What --dry-run would print."""
    assert target.state is not None
    return plan_only(target, target.state, Request(action, target.name, options=options or {}))[-1]


def target_of(path: Path, **changes: Any) -> Target:
    """A target whose history lives beside the test's other files."""
    return Target(name=path.stem, path=path, state=path.parent / "state", **changes)
