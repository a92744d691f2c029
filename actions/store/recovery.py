"""Ends runs whose child is gone. Any process that finds one ends it, with this function: none stays claimed or running.

A running action holds the `flock` on its database file until it dies (actions/runner/action_lock.py), so a free lock and a dead
child prove that no process works on the run. The lock is read from the kernel's table, never probed by acquiring it.
"""

from collections.abc import Callable

import apsw

from actions.model.outcome import Outcome
from actions.model.process_identity import is_process_alive
from actions.policy.cooldown import elapsed_seconds
from actions.store.runs import Claim, Run, RunEnding, end_run, release_claim, unfinished_runs

# How long a child may take to start after its run was claimed, in seconds; its claimer may still be alive.
CLAIM_PATIENCE = 30.0

LockCheck = Callable[[str], bool]


def recover_lost_runs(history: apsw.Connection, lock_held: LockCheck, now: float) -> list[Run]:
    """End every lost run; returns them as they were. `lock_held`: whether a process holds a database's action lock."""
    lost = [run for run in unfinished_runs(history) if is_run_lost(run, lock_held, now)]
    for run in lost:
        end_lost_run(history, run, now)
    return lost


def is_run_lost(run: Run, lock_held: LockCheck, now: float) -> bool:
    """Whether no process works on this claimed or running run any more."""
    if run.state == "running":
        return not is_process_alive(run.child) and not lock_held(run.path)
    waited = elapsed_seconds(run.claimed_at if run.claimed_at is not None else now, now)
    return not is_process_alive(run.claimer) or waited > CLAIM_PATIENCE


def end_lost_run(history: apsw.Connection, run: Run, now: float) -> None:
    """Make a claimed run pending again, and end a running one as interrupted.

    A person's claimed run also ends: they saw their command die and do not expect it to act later. Nothing changes if the
    run has changed since it was loaded: its child may start at this moment, and then ends it itself.
    """
    if run.state == "claimed" and run.trigger != "person" and release_claim(history, run.id, run.token):
        return
    started = run.state == "running"
    message = "its process ended without recording how" if started else "its process ended before it began"
    ending = RunEnding(
        Outcome.INTERRUPTED,
        message,
        reason="process_gone",
        next_step="the database is whole and nothing is left to clean up; run it again if it is still needed",
        before=run.before,
    )
    end_run(history, Claim(run.id, run.token), ending, now, (run.state,))
