"""Gathers the inputs of actions/policy/scheduling.py, which decides which pending run is next."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import apsw

from actions.policy.rules import Rule
from actions.policy.scheduling import (
    PendingRun,
    SchedulingLimits,
    StartedRun,
    WaitReason,
    lookback_seconds,
    order_pending_runs,
)
from actions.policy.suspension import SuspensionState
from actions.policy.windows import closed_actions
from actions.runner.catalogue import ACTION_SPECS
from actions.store.pending_runs import load_pending_runs, load_started_runs
from actions.store.runs import Run
from exporter.config.settings import ActingSettings


def next_runs(
    store: apsw.Connection, within: SchedulingLimits, active: Sequence[Run], now: float
) -> Iterator[tuple[PendingRun, WaitReason | None]]:
    """Yield the pending runs, most urgent first, each with its hold or None.

    `active` are the runs whose child processes still exist.
    """
    line = load_pending_runs(store, is_long_action)
    if line:
        known = load_started_runs(store, now - lookback_seconds(within.radius), is_long_action)
        yield from order_pending_runs(line, [*known, *_ending_children(active, known, now)], within, now)


def scheduling_bounds(
    acting: ActingSettings,
    rules: Iterable[Rule],
    watched: int,
    suspensions: Mapping[tuple[str, str], SuspensionState],
    now: float,
) -> SchedulingLimits:
    """Return the limits of the configuration, the time of day, and the suspensions."""
    return SchedulingLimits(
        short=acting.short,
        long=acting.long,
        quota_per_hour=acting.quota_per_hour,
        watched=watched,
        radius={rule.name: rule.radius for rule in rules},
        suspended=frozenset(key for key, suspension in suspensions.items() if suspension.is_suspended),
        closed=closed_actions(acting.windows, now),
    )


def is_long_action(action: str) -> bool:
    """Return whether an action takes the long lane. An unknown one takes a short lane, and its child rejects it."""
    return action in ACTION_SPECS and ACTION_SPECS[action].is_long


def _ending_children(active: Sequence[Run], known: Sequence[StartedRun], now: float) -> Iterator[StartedRun]:
    """Yield the runs that ended while their child still exists: it holds the action lock of the database until it exits."""
    counted = {begun.database for begun in known if begun.runs}
    for run in active:
        if run.database not in counted:
            yield StartedRun(run.database, run.request.trigger, run.rule, now, is_long_action(run.action), runs=True)
