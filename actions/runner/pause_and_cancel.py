"""The pause of all actions: nothing starts any more, and what runs is asked to stop at its next safe point.

It lives in our history, so it survives restarts and reaches the agent's children and the command line's alike.
"""

import time
from dataclasses import dataclass

import apsw

from actions.model.process_identity import is_alive
from actions.store.database import transaction
from actions.store.pause import pause, paused
from actions.store.runs import Run, run, unfinished

LOOK_EVERY = 0.05


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the runs that were at work: those that ended meanwhile, and those still on the way to a safe point."""

    ended: tuple[Run, ...] = ()
    finishing: tuple[Run, ...] = ()


def pause_all(history: apsw.Connection, why: str) -> str | None:
    """Pause; the reason of the pause that held before, which stays, or None when there was none."""
    with transaction(history):
        before = paused(history)
        if before is None:
            pause(history, why)
        return before


def settle(history: apsw.Connection, patience: float, only: int | None = None) -> Settled:
    """Wait for what runs (`only`: for this run) to stop, at most so many seconds."""
    deadline = time.monotonic() + patience
    began = left = at_work(history, only)
    while left and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)
        left = at_work(history, only)
    finishing = {one.id for one in left}
    ended = tuple(run(history, one.id) for one in began if one.id not in finishing)
    return Settled(ended, tuple(left))


def at_work(history: apsw.Connection, only: int | None = None) -> list[Run]:
    """The runs that a living process works on. A lost one is no work: whoever finds it ends it."""
    found = (one for one in unfinished(history) if only in (None, one.id))
    return [one for one in found if is_alive(one.child if one.state == "running" else one.claimer)]
