"""What stops runs: the pause of all actions, and the cancel of one run, whichever process started it.

A pending run ends at once, a running one at its next safe point. Pause and cancel live in our history, so they survive
restarts and reach the agent's children and the command line's alike.
"""

import time
from dataclasses import dataclass

import apsw

from actions.model.errors import Refused
from actions.model.outcome import Outcome
from actions.model.process_identity import is_process_alive
from actions.store.database import store_transaction
from actions.store.pause import pause_reason, request_cancel, set_pause
from actions.store.runs import Claim, Run, RunEnding, end_run, load_run, unfinished_runs

POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class StoppedRuns:
    """What became of the active runs: those that have ended since, and those still on the way to a safe point."""

    ended: tuple[Run, ...] = ()
    finishing: tuple[Run, ...] = ()


def pause_actions(history: apsw.Connection, why: str, who: str = "", now: float | None = None) -> str | None:
    """Pause; returns the reason of the pause that held before, which stays, or None when there was none.

    `who` asked for it at `now` (seconds since the epoch): the chain records both beside the reason.
    """
    with store_transaction(history):
        before = pause_reason(history)
        if before is None:
            set_pause(history, why, who, now)
        return before


def cancel_run(history: apsw.Connection, run_id: int, who: str, now: float) -> Run:
    """End the run if it has not begun, else ask it to stop; returns it as it is now. Raises KeyError, Refused (`ended`)."""
    with store_transaction(history):
        run = load_run(history, run_id)
        if run.state == "ended":
            raise Refused(
                f"run {run_id} has ended already ({run.outcome})",
                reason="ended",
                next_step="`queuekeeper history` shows how",
            )
        ending = RunEnding(Outcome.CANCELLED, f"cancelled before it began, as {who} asked", reason="asked")
        if not end_run(history, Claim(run_id, run.token), ending, now, ("pending",)):
            request_cancel(history, run_id, who, now)
        return load_run(history, run_id)


def wait_for_runs(history: apsw.Connection, patience: float, only: int | None = None) -> StoppedRuns:
    """Wait until the active runs (`only`: this run) have stopped, at most `patience` seconds."""
    deadline = time.monotonic() + patience
    at_first = still_active = active_runs(history, only)
    while still_active and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        still_active = active_runs(history, only)
    finishing = {run.id for run in still_active}
    ended = tuple(load_run(history, run.id) for run in at_first if run.id not in finishing)
    return StoppedRuns(ended, tuple(still_active))


def active_runs(history: apsw.Connection, only: int | None = None) -> list[Run]:
    """The runs that a living process works on. A lost run is not active: the next process that finds it ends it."""
    runs = (run for run in unfinished_runs(history) if only in (None, run.id))
    return [run for run in runs if is_process_alive(run.child if run.state == "running" else run.claimer)]
