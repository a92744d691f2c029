"""Who of those that wait is next: gathers what actions/policy/scheduling.py decides upon."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import apsw

from actions.policy.rules import Rule
from actions.policy.scheduling import Begun, Bounds, Hold, Waiting, horizon, order
from actions.policy.suspension import Standing
from actions.policy.windows import closed
from actions.runner.catalogue import KNOWN
from actions.store.pending_runs import begun, waiting
from actions.store.runs import Run
from exporter.config.settings import Acting


def next_runs(
    store: apsw.Connection, within: Bounds, at_work: Sequence[Run], now: float
) -> Iterator[tuple[Waiting, Hold | None]]:
    """What waits, most urgent first, with what holds it. `at_work`: the runs whose children of ours are still there."""
    line = waiting(store, is_long)
    if line:
        known = begun(store, now - horizon(within.radius), is_long)
        yield from order(line, [*known, *_leaving(at_work, known, now)], within, now)


def bounds(
    acting: Acting, rules: Iterable[Rule], watched: int, standings: Mapping[tuple[str, str], Standing], now: float
) -> Bounds:
    """What the configuration, the time of day, and what did not help before, allow."""
    return Bounds(
        short=acting.short,
        long=acting.long,
        quota_per_hour=acting.quota_per_hour,
        watched=watched,
        radius={rule.name: rule.radius for rule in rules},
        suspended=frozenset(key for key, found in standings.items() if found.suspended),
        closed=closed(acting.windows, now),
    )


def is_long(action: str) -> bool:
    """An action that this version does not know takes a short lane: its child refuses it in words."""
    return action in KNOWN and KNOWN[action].long


def _leaving(at_work: Sequence[Run], known: Sequence[Begun], now: float) -> Iterator[Begun]:
    """A child that has ended its run holds its database's lock until it is gone: the next one would only find it taken."""
    counted = {one.database for one in known if one.runs}
    for one in at_work:
        if one.database not in counted:
            yield Begun(one.database, one.request.trigger, one.rule, now, is_long(one.action), runs=True)
