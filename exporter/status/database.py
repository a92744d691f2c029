"""One database at a glance: what the page and the API show of it. Pure: a snapshot, what watches it, a clock.

What could not be read is None or missing, never a zero.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from actions.model.condition import ConditionVerdict
from actions.policy.measure import condition_measurement
from actions.policy.rules import ConditionWatch, Rule
from actions.policy.suspension import SuspensionState
from collectors.access.snapshot import Snapshot
from collectors.metric import Sample
from collectors.owner import OwnerReading
from collectors.target import Target
from collectors.wal import WalReading
from exporter.status.findings import Finding, find_problems

# What the word `health` can say, worst first: the order of the page.
HEALTH_STATES = ("unreadable", "attention", "stale", "unread", "healthy")


@dataclass(frozen=True, slots=True)
class BlockingReader:
    """Somebody whose read holds the WAL back; `seconds`: at least so long."""

    pid: int
    command: str
    command_line: str
    seconds: float
    blocks_frames: int


@dataclass(frozen=True, slots=True)
class WalSummary:
    """The write-ahead log. `state` as docs/metrics.md says; `busy_ratio`: the share of time the write lock was held."""

    state: str
    backlog_bytes: float | None
    file_bytes: float | None
    busy_ratio: float | None
    readers: tuple[BlockingReader, ...]


@dataclass(frozen=True, slots=True)
class QueueSummary:
    """One queue: tasks by state, ages in seconds (None: not known). `capped`: states whose number is a lower bound."""

    name: str
    tasks: Mapping[str, float]
    capped: tuple[str, ...]
    oldest_waiting_seconds: float | None
    head_unchanged_seconds: float | None
    stale_leases: float | None


@dataclass(frozen=True, slots=True)
class BackupSummary:
    """Backups: how many by state, how old the newest verified one is, how long ago a restore of one was proved."""

    count: Mapping[str, float]
    age_seconds: float | None
    size_bytes: float | None
    drill_age_seconds: float | None
    drill_seconds: float | None


@dataclass(frozen=True, slots=True)
class DiskSummary:
    """Room in bytes on the file system of a role."""

    role: str
    free_bytes: float
    size_bytes: float | None


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """What one rule thinks now. `verdict`: wrong, between, clear, unknown; `wrong_since`: seconds since the epoch.

    `hold`: how long it must be wrong before the threshold asks for the action; None where only alerts ask. `suspended`: why
    nothing asks any more, since runs did not help.
    """

    rule: str
    action: str
    metric: str
    where: Mapping[str, str]
    above: float | None
    below: float | None
    absent: float | None
    clear: float | None
    value: float | None
    verdict: str
    wrong_since: float | None
    hold: float | None
    alerts: int
    suspended: str


@dataclass(frozen=True, slots=True)
class DatabaseStatus:
    """One database. `health` is one of HEALTH; `state` the word of `queuekeeper_databases`; times are seconds, UTC."""

    name: str
    path: str
    health: str
    state: str
    message: str
    findings: tuple[Finding, ...]
    read_at: float | None = None
    profile: str = ""
    journal_mode: str = ""
    size_bytes: float | None = None
    free_ratio: float | None = None
    log: WalSummary | None = None
    queues: tuple[QueueSummary, ...] = ()
    workers: Mapping[str, float] | None = None
    backups: BackupSummary | None = None
    disk: tuple[DiskSummary, ...] = ()
    rules: tuple[RuleStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class StatusInputs:
    """What the agent knows beside the readings. Keys are (rule, database) and (database, action).

    `drills`: by database, when a restore was last proved, and the seconds it took.
    """

    rules: Sequence[Rule] = ()
    watches: Mapping[tuple[str, str], ConditionWatch] = field(default_factory=dict)
    standings: Mapping[tuple[str, str], SuspensionState] = field(default_factory=dict)
    drills: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def build_status(
    target: Target, snapshot: Snapshot | None, state: str, beside: StatusInputs, now: float
) -> DatabaseStatus:
    """The database now. `snapshot` None: nothing fresh is known, and `state` says why."""
    name, path = target.name, str(target.path)
    if snapshot is None:
        message = "the last reading is too old to be shown" if state == "stale" else "not read yet"
        return DatabaseStatus(name, path, "stale" if state == "stale" else "unread", state, message, ())
    wrong = find_problems(snapshot, beside.rules, now)
    owner = snapshot.readings.get("owner")
    seen = _SampleIndex(snapshot, now)
    return DatabaseStatus(
        name=name,
        path=path,
        health="unreadable" if not snapshot.up else "attention" if wrong else "healthy",
        state=state,
        message=snapshot.message,
        findings=wrong,
        read_at=snapshot.taken_at,
        profile=owner.profile if isinstance(owner, OwnerReading) else "",
        journal_mode=owner.journal_mode if isinstance(owner, OwnerReading) else "",
        size_bytes=seen.single_value("sqlite_database_size_bytes"),
        free_ratio=seen.single_value("sqlite_fragmentation_ratio"),
        log=_wal_summary(seen),
        queues=tuple(_queue_summaries(seen)),
        workers=seen.values_by_label("sqlite_queue_workers") or None,
        backups=_backup_summary(seen, beside.drills.get(name)),
        disk=tuple(_disk_summaries(seen)),
        rules=tuple(rule_statuses(name, snapshot, beside, now)),
    )


def rule_statuses(database: str, snapshot: Snapshot, beside: StatusInputs, now: float) -> Iterator[RuleStatus]:
    """What each rule that covers the database thinks."""
    for rule in beside.rules:
        if not rule.covers_database(database):
            continue
        found = condition_measurement(rule.condition, snapshot, now)
        verdict = rule.condition.judge_measurement(found)
        watch = beside.watches.get((rule.name, database))
        since = watch.wrong_since if watch is not None and verdict is not ConditionVerdict.CLEAR else None
        bound, standing = rule.condition, beside.standings.get((database, rule.action), SuspensionState())
        yield RuleStatus(
            *(rule.name, rule.action, bound.metric, bound.where, bound.above, bound.below, bound.absent, bound.clear),
            value=found.value,
            verdict=str(verdict),
            wrong_since=since,
            hold=rule.hold,
            alerts=len(rule.alerts),
            suspended=f"{standing.suspension_reason} ({standing.suspension_cure})" if standing.is_suspended else "",
        )


class _SampleIndex:
    """A snapshot's samples by metric, at one moment."""

    def __init__(self, snapshot: Snapshot, now: float) -> None:
        self.snapshot, self.now = snapshot, now
        self._samples: dict[str, list[Sample]] = {}
        for sample in snapshot.samples:
            self._samples.setdefault(sample.metric.name, []).append(sample)

    def samples_of(self, metric: str) -> list[Sample]:
        """All samples of a metric."""
        return self._samples.get(metric, [])

    def single_value(self, metric: str) -> float | None:
        """The only sample of a metric; None when there is none."""
        return next((sample.value_at(self.now) for sample in self.samples_of(metric)), None)

    def values_by_label(self, metric: str) -> dict[str, float]:
        """The samples by their first label."""
        return {sample.labels[0]: sample.value_at(self.now) for sample in self.samples_of(metric)}


def _wal_summary(seen: _SampleIndex) -> WalSummary | None:
    wal = seen.snapshot.readings.get("wal")
    if not isinstance(wal, WalReading):
        return None
    readers = (
        BlockingReader(
            pinner.pid,
            pinner.command,
            pinner.command_line,
            max(0.0, seen.now - wal.pinned_since.get((pinner.pid, pinner.lock_byte, pinner.mark), seen.now)),
            pinner.blocks_frames,
        )
        for pinner in wal.pinners
    )
    return WalSummary(
        wal.state,
        seen.single_value("sqlite_wal_backlog_bytes"),
        seen.single_value("sqlite_wal_size_bytes"),
        seen.single_value("sqlite_write_lock_busy_ratio"),
        tuple(sorted(readers, key=lambda reader: -reader.seconds)),
    )


def _queue_summaries(seen: _SampleIndex) -> Iterator[QueueSummary]:
    tasks = _group_by_queue(seen.samples_of("sqlite_queue_tasks"), seen.now)
    capped = _group_by_queue(seen.samples_of("sqlite_queue_tasks_capped"), seen.now)
    oldest = seen.values_by_label("sqlite_queue_oldest_waiting_age_seconds")
    head = seen.values_by_label("sqlite_queue_head_unchanged_seconds")
    stale = seen.values_by_label("sqlite_queue_stale_leases")
    for name in dict.fromkeys((*tasks, *stale)):
        yield QueueSummary(
            name,
            tasks.get(name, {}),
            tuple(state for state, flag in capped.get(name, {}).items() if flag),
            oldest.get(name),
            head.get(name),
            stale.get(name),
        )


def _group_by_queue(samples: Iterable[Sample], now: float) -> dict[str, dict[str, float]]:
    """By queue, then by state."""
    found: dict[str, dict[str, float]] = {}
    for sample in samples:
        found.setdefault(sample.labels[0], {})[sample.labels[1]] = sample.value_at(now)
    return found


def _backup_summary(seen: _SampleIndex, drill: tuple[float, float] | None) -> BackupSummary | None:
    count = seen.values_by_label("sqlite_backups")
    if not count:
        return None
    return BackupSummary(
        count,
        seen.single_value("sqlite_backup_age_seconds"),
        seen.single_value("sqlite_backup_last_size_bytes"),
        max(0.0, seen.now - drill[0]) if drill else None,
        drill[1] if drill else None,
    )


def _disk_summaries(seen: _SampleIndex) -> Iterator[DiskSummary]:
    sizes = seen.values_by_label("sqlite_disk_size_bytes")
    for role, free in seen.values_by_label("sqlite_disk_free_bytes").items():
        yield DiskSummary(role, free, sizes.get(role))
