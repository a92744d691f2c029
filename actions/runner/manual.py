"""A person's wish that arrives from afar, by the page or the API: a pending run that the agent's dispatcher performs.

A person is bound by the lock, disk, ownership, owner-version and pause guards, not by cooldown, window or quota.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import apsw

from actions.model.errors import PAUSED, Refused
from actions.model.options import ActionOption, option_problems
from actions.model.request import Option, Request
from actions.runner.catalogue import KNOWN_ACTIONS
from actions.store.pause import pause_reason
from actions.store.runs import enqueue_run, load_run

# What replaces a database wants its operator at the machine.
_LOCAL_ONLY = frozenset({"restore"})


@dataclass(frozen=True, slots=True)
class EnqueuedRun:
    """The run that will do it; `new` is false when the same wish waited already."""

    run_id: int
    new: bool


def remote_actions() -> Mapping[str, Mapping[str, ActionOption]]:
    """What can be asked for from afar, with its options. None of them names a file: that is for the command line."""
    return {
        name: {word: kind for word, kind in known.options.items() if kind.kind != "path"}
        for name, known in KNOWN_ACTIONS.items()
        if name not in _LOCAL_ONLY
    }


def manual_request(action: str, database: str, options: Mapping[str, Option], asked_by: str) -> Request:
    """The request. Raises Refused (`at_the_machine`, `unknown_action`, `options`)."""
    if action in _LOCAL_ONLY:
        cure = f"queuekeeper {action} {database}"
        raise Refused(f"{action} is done at the machine only", reason="at_the_machine", next_step=cure)
    known = remote_actions().get(action)
    if known is None:
        cure = f"known: {', '.join(sorted(remote_actions()))}"
        raise Refused(f"there is no action {action!r}", reason="unknown_action", next_step=cure)
    wrong = option_problems(known, options, automatic=False)
    if wrong:
        raise Refused("; ".join(wrong), reason="options", next_step="correct the options")
    return Request(action, database, options=options, asked_by=asked_by)


def enqueue_manual(history: apsw.Connection, request: Request, path: str, now: float) -> EnqueuedRun:
    """Record it as a pending run. Raises Refused (`paused`, `waiting`): nothing may act later than its person expects."""
    since = pause_reason(history)
    if since is not None:
        raise Refused(f"actions are paused ({since})", reason=PAUSED, next_step="resume them first")
    run_id, new = enqueue_run(history, request, path, now)
    if not new and load_run(history, run_id).request.options != request.options:
        raise Refused(
            f"run {run_id} waits to do this with other options", reason="waiting", next_step=f"wait for run {run_id}"
        )
    return EnqueuedRun(run_id, new)
