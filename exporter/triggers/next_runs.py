"""Who of those that wait is next: gathers what actions/policy/scheduling.py decides upon."""

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
    store: apsw.Connection, within: SchedulingLimits, at_work: Sequence[Run], now: float
) -> Iterator[tuple[PendingRun, WaitReason | None]]:
    """What waits, most urgent first, with what holds it. `at_work`: the runs whose children of ours are still there."""
    line = load_pending_runs(store, is_long_action)
    if line:
        known = load_started_runs(store, now - lookback_seconds(within.radius), is_long_action)
        yield from order_pending_runs(line, [*known, *_ending_children(at_work, known, now)], within, now)


def scheduling_bounds(
    acting: ActingSettings,
    rules: Iterable[Rule],
    watched: int,
    standings: Mapping[tuple[str, str], SuspensionState],
    now: float,
) -> SchedulingLimits:
    """What the configuration, the time of day, and what did not help before, allow."""
    return SchedulingLimits(
        short=acting.short,
        long=acting.long,
        quota_per_hour=acting.quota_per_hour,
        watched=watched,
        radius={rule.name: rule.radius for rule in rules},
        suspended=frozenset(key for key, found in standings.items() if found.is_suspended),
        closed=closed_actions(acting.windows, now),
    )


def is_long_action(action: str) -> bool:
    """An action that this version does not know takes a short lane: its child refuses it in words."""
    return action in ACTION_SPECS and ACTION_SPECS[action].is_long


def _ending_children(at_work: Sequence[Run], known: Sequence[StartedRun], now: float) -> Iterator[StartedRun]:
    """A child that has ended its run holds its database's lock until it is gone: the next one would only find it taken."""
    counted = {one.database for one in known if one.runs}
    for one in at_work:
        if one.database not in counted:
            yield StartedRun(one.database, one.request.trigger, one.rule, now, is_long_action(one.action), runs=True)
