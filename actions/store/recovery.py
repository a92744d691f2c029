"""Runs whose child is gone. Whoever finds one ends it, with this one function: no record stays claimed or running.

A running action holds the `flock` on its database file until it dies (actions/runner/action_lock.py), so a free lock and a dead
child prove that nobody works on the run. The lock is read from the kernel's table, never probed by taking it.
"""

from collections.abc import Callable

import apsw

from actions.model.outcome import Outcome
from actions.model.process_identity import is_process_alive
from actions.store.runs import Claim, Run, RunEnding, end_run, release_claim, unfinished_runs

# A claimer that lives but whose child never began: give the child this long to start, in seconds.
CLAIM_PATIENCE = 30.0

LockCheck = Callable[[str], bool]


def recover_lost_runs(history: apsw.Connection, lock_held: LockCheck, now: float) -> list[Run]:
    """End every lost run; returns what was found lost. `lock_held` tells whether somebody holds a database's action lock."""
    lost = [found for found in unfinished_runs(history) if is_run_lost(found, lock_held, now)]
    for found in lost:
        end_lost_run(history, found, now)
    return lost


def is_run_lost(found: Run, lock_held: LockCheck, now: float) -> bool:
    """Whether nobody works on this claimed or running run any more."""
    if found.state == "running":
        return not is_process_alive(found.child) and not lock_held(found.path)
    waited = now - (found.claimed_at if found.claimed_at is not None else now)
    return not is_process_alive(found.claimer) or waited > CLAIM_PATIENCE


def end_lost_run(history: apsw.Connection, found: Run, now: float) -> None:
    """A claimed run waits again; a running one ends as interrupted.

    A person's claimed run also ends: they saw their command die and would not expect it to act later.
    Only what is still as it was found: its child may begin this very moment, and then ends it itself.
    """
    if found.state == "claimed" and found.trigger != "person" and release_claim(history, found.id, found.token):
        return
    begun = found.state == "running"
    message = "its process ended without telling how" if begun else "its process ended before it began"
    ending = RunEnding(
        Outcome.INTERRUPTED,
        message,
        reason="process_gone",
        next_step="the database is whole and nothing is left to clean up; run it again if it is still needed",
        before=found.before,
    )
    end_run(history, Claim(found.id, found.token), ending, now, (found.state,))
