"""The pause of all actions: nothing starts any more, and what runs is asked to stop at its next safe point.

It lives in our history, so it survives restarts and reaches the agent's children and the command line's alike.
"""

import time
from dataclasses import dataclass

import apsw

from actions.model.process_identity import is_process_alive
from actions.store.database import store_transaction
from actions.store.pause import pause_reason, set_pause
from actions.store.runs import Run, load_run, unfinished_runs

POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class StoppedRuns:
    """What became of the runs that were at work: those that ended meanwhile, and those still on the way to a safe point."""

    ended: tuple[Run, ...] = ()
    finishing: tuple[Run, ...] = ()


def pause_actions(history: apsw.Connection, why: str) -> str | None:
    """Pause; the reason of the pause that held before, which stays, or None when there was none."""
    with store_transaction(history):
        before = pause_reason(history)
        if before is None:
            set_pause(history, why)
        return before


def wait_for_runs(history: apsw.Connection, patience: float, only: int | None = None) -> StoppedRuns:
    """Wait for what runs (`only`: for this run) to stop, at most so many seconds."""
    deadline = time.monotonic() + patience
    began = left = active_runs(history, only)
    while left and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        left = active_runs(history, only)
    finishing = {one.id for one in left}
    ended = tuple(load_run(history, one.id) for one in began if one.id not in finishing)
    return StoppedRuns(ended, tuple(left))


def active_runs(history: apsw.Connection, only: int | None = None) -> list[Run]:
    """The runs that a living process works on. A lost one is no work: whoever finds it ends it."""
    found = (one for one in unfinished_runs(history) if only in (None, one.id))
    return [one for one in found if is_process_alive(one.child if one.state == "running" else one.claimer)]
