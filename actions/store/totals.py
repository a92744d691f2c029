"""Lifetime totals of all runs of one state directory, for metrics that survive restarts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from actions.policy.suspension import SuspensionState

DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


@dataclass(frozen=True, slots=True)
class DurationHistogram:
    """A histogram in seconds: `counts` per bucket of DURATION_BUCKETS, not cumulative, the last one beyond all bounds."""

    counts: tuple[int, ...]
    total: float


@dataclass(frozen=True, slots=True)
class ActionTotals:
    """What `queuekeeper_action_*` and `queuekeeper_remediation_*` publish. Keys are label values in declared order."""

    runs: Mapping[tuple[str, str, str], int] = field(default_factory=dict)  # database, action, outcome
    triggers: Mapping[tuple[str, str], int] = field(default_factory=dict)  # action, trigger
    durations: Mapping[str, DurationHistogram] = field(default_factory=dict)  # action
    effects: Mapping[tuple[str, str, str], int] = field(default_factory=dict)  # database, rule, effect
    amounts: Mapping[tuple[str, str], float] = field(
        default_factory=dict
    )  # database, reclaimed_bytes|requeued_tasks|...
    started: Mapping[tuple[str, str], float] = field(default_factory=dict)  # database, action: since when it runs
    last_success: Mapping[tuple[str, str], float] = field(default_factory=dict)  # database, action
    last_failure: Mapping[tuple[str, str], float] = field(default_factory=dict)  # database, action
    drills: Mapping[str, tuple[float, float]] = field(
        default_factory=dict
    )  # database: last success at, seconds it took
    missed: Mapping[tuple[str, str], int] = field(default_factory=dict)  # database, schedule
    suspensions: Mapping[tuple[str, str], SuspensionState] = field(default_factory=dict)  # database, action
    checks: Mapping[tuple[str, str, str], tuple[bool, float]] = field(
        default_factory=dict
    )  # database, quick|full, live|backup: whether all is well, when it was checked
    pending: int = 0
