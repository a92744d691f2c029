"""Loads the pending runs and those started lately. Which one is next is decided in actions/policy/scheduling.py."""

from collections.abc import Callable

import apsw

from actions.model.outcome import Outcome
from actions.model.process_identity import is_process_alive
from actions.policy.scheduling import PendingRun, StartedRun

# A run that ended like this has touched nothing: it does not count for its rule's blast radius.
_UNTOUCHED_OUTCOMES = (Outcome.LOCKED, Outcome.REFUSED, Outcome.NOTHING_TO_DO, Outcome.CANCELLED)
_STARTED_QUERY = (
    "SELECT id, database, trigger, rule, claimed_at, action,"  # noqa: S608 our own words
    " iif(state = 'running', child, claimer), state <> 'ended', state <> 'ended'"
    f" OR outcome NOT IN ({', '.join(repr(str(outcome)) for outcome in _UNTOUCHED_OUTCOMES)}) FROM run"
)


def load_pending_runs(history: apsw.Connection, is_long: Callable[[str], bool]) -> list[PendingRun]:
    """The pending runs, with what decides which is next. `is_long`: whether an action takes the lane of long ones."""
    rows = history.execute("SELECT id, database, action, trigger, rule, priority FROM run WHERE state = 'pending'")
    return [
        PendingRun(number, database, action, trigger, rule, priority, is_long(action))
        for number, database, action, trigger, rule, priority in rows
    ]


def load_started_runs(history: apsw.Connection, since: float, is_long: Callable[[str], bool]) -> list[StartedRun]:
    """The runs started after `since` (seconds since the epoch), and all active ones, whichever process started them.

    A run whose process is gone is not active: nothing waits for it until it is ended as lost.
    """
    rows = history.execute(
        f"{_STARTED_QUERY} INDEXED BY run_claimed WHERE claimed_at > ?"
        f" UNION {_STARTED_QUERY} INDEXED BY run_unfinished WHERE state <> 'ended' AND state <> 'pending'",
        (since,),
    )
    return [
        StartedRun(database, trigger, rule, at, is_long(action), bool(runs) and is_process_alive(process), bool(acted))
        for _, database, trigger, rule, at, action, process, runs, acted in rows
    ]
