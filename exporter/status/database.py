"""The status of one database as the page and the API show it. Pure: it takes a snapshot, rule states and the time.

A value that could not be read is None or missing, never zero.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from actions.model.condition import ConditionVerdict
from actions.policy.effect import condition_measurement
from actions.policy.rules import ConditionWatch, Rule
from actions.policy.suspension import SuspensionState
from collectors.access.snapshot import Snapshot
from collectors.metric import Sample
from collectors.owner import OwnerReading
from collectors.target import Target
from collectors.wal import WalReading
from exporter.status.findings import Finding, find_database_problems

# The values of `health`, worst first: the order of the page.
HEALTH_STATES = ("unreadable", "attention", "stale", "unread", "healthy")


@dataclass(frozen=True, slots=True)
class BlockingReader:
    """A reader that blocks the checkpoint of the WAL, for at least `seconds`."""

    pid: int
    command: str
    command_line: str
    seconds: float
    blocks_frames: int


@dataclass(frozen=True, slots=True)
class WalSummary:
    """The write-ahead log. docs/metrics.md lists its states; `busy_ratio` is the share of time the write lock was held."""

    state: str
    backlog_bytes: float | None
    file_bytes: float | None
    busy_ratio: float | None
    readers: tuple[BlockingReader, ...]


@dataclass(frozen=True, slots=True)
class QueueSummary:
    """One queue: tasks by state, ages in seconds (None is not known). `capped` are states whose number is a lower bound."""

    name: str
    tasks: Mapping[str, float]
    capped: tuple[str, ...]
    oldest_waiting_seconds: float | None
    head_unchanged_seconds: float | None
    stale_leases: float | None


@dataclass(frozen=True, slots=True)
class BackupSummary:
    """The backups: their number by state, the age of the newest verified one, and the time since the last successful drill."""

    count: Mapping[str, float]
    age_seconds: float | None
    size_bytes: float | None
    drill_age_seconds: float | None
    drill_seconds: float | None


@dataclass(frozen=True, slots=True)
class DiskSummary:
    """The free space in bytes on the file system that serves a role."""

    role: str
    free_bytes: float
    size_bytes: float | None


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """How one rule judges the database now. `verdict` is wrong, between, clear or unknown; `wrong_since` is in unix seconds.

    `hold` is how long the condition must be met before the threshold requests the action; None where only alerts do.
    `suspended` says why automatic runs are suspended; empty when they are not.
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
    """One database. `health` is one of HEALTH_STATES, `state` as in `queuekeeper_databases`; times are in unix seconds."""

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
    """What the agent knows in addition to the readings. Keys are (rule, database) and (database, action).

    `drills` holds by database when the last drill succeeded and how many seconds it took.
    """

    rules: Sequence[Rule] = ()
    watches: Mapping[tuple[str, str], ConditionWatch] = field(default_factory=dict)
    suspensions: Mapping[tuple[str, str], SuspensionState] = field(default_factory=dict)
    drills: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def build_database_status(
    target: Target, snapshot: Snapshot | None, state: str, inputs: StatusInputs, now: float
) -> DatabaseStatus:
    """Build the status of a database. `snapshot` is None without a fresh reading, and `state` says why."""
    name, path = target.name, str(target.path)
    if snapshot is None:
        message = "the last reading is too old to be shown" if state == "stale" else "not read yet"
        return DatabaseStatus(name, path, "stale" if state == "stale" else "unread", state, message, ())
    problems = find_database_problems(snapshot, inputs.rules, now)
    owner = snapshot.readings.get("owner")
    samples = _SampleIndex(snapshot, now)
    return DatabaseStatus(
        name=name,
        path=path,
        health="unreadable" if not snapshot.up else "attention" if problems else "healthy",
        state=state,
        message=snapshot.message,
        findings=problems,
        read_at=snapshot.taken_at,
        profile=owner.profile if isinstance(owner, OwnerReading) else "",
        journal_mode=owner.journal_mode if isinstance(owner, OwnerReading) else "",
        size_bytes=samples.single_value("sqlite_database_size_bytes"),
        free_ratio=samples.single_value("sqlite_fragmentation_ratio"),
        log=_wal_summary(samples),
        queues=tuple(_queue_summaries(samples)),
        workers=samples.values_by_label("sqlite_queue_workers") or None,
        backups=_backup_summary(samples, inputs.drills.get(name)),
        disk=tuple(_disk_summaries(samples)),
        rules=tuple(rule_statuses(name, snapshot, inputs, now)),
    )


def rule_statuses(database: str, snapshot: Snapshot, inputs: StatusInputs, now: float) -> Iterator[RuleStatus]:
    """Yield how each rule that covers the database judges it."""
    for rule in inputs.rules:
        if not rule.covers_database(database):
            continue
        measurement = condition_measurement(rule.condition, snapshot, now)
        verdict = rule.condition.judge_measurement(measurement)
        watch = inputs.watches.get((rule.name, database))
        since = watch.wrong_since if watch is not None and verdict is not ConditionVerdict.CLEAR else None
        bound, suspension = rule.condition, inputs.suspensions.get((database, rule.action), SuspensionState())
        yield RuleStatus(
            *(rule.name, rule.action, bound.metric, bound.where, bound.above, bound.below, bound.absent, bound.clear),
            value=measurement.value,
            verdict=str(verdict),
            wrong_since=since,
            hold=rule.hold,
            alerts=len(rule.alerts),
            suspended=f"{suspension.suspension_reason} ({suspension.suspension_cure})"
            if suspension.is_suspended
            else "",
        )


class _SampleIndex:
    """The samples of a snapshot by metric, at one moment."""

    def __init__(self, snapshot: Snapshot, now: float) -> None:
        self.snapshot, self.now = snapshot, now
        self._samples: dict[str, list[Sample]] = {}
        for sample in snapshot.samples:
            self._samples.setdefault(sample.metric.name, []).append(sample)

    def samples_of(self, metric: str) -> list[Sample]:
        """Return all samples of a metric."""
        return self._samples.get(metric, [])

    def single_value(self, metric: str) -> float | None:
        """Return the value of a metric's first sample; None when there is none."""
        return next((sample.value_at(self.now) for sample in self.samples_of(metric)), None)

    def values_by_label(self, metric: str) -> dict[str, float]:
        """Return the values of a metric by their first label."""
        return {sample.labels[0]: sample.value_at(self.now) for sample in self.samples_of(metric)}


def _wal_summary(samples: _SampleIndex) -> WalSummary | None:
    wal = samples.snapshot.readings.get("wal")
    if not isinstance(wal, WalReading):
        return None
    readers = (
        BlockingReader(
            pinner.pid,
            pinner.command,
            pinner.command_line,
            max(0.0, samples.now - wal.pinned_since.get((pinner.pid, pinner.lock_byte, pinner.mark), samples.now)),
            pinner.blocks_frames,
        )
        for pinner in wal.pinners
    )
    return WalSummary(
        wal.state,
        samples.single_value("sqlite_wal_backlog_bytes"),
        samples.single_value("sqlite_wal_size_bytes"),
        samples.single_value("sqlite_write_lock_busy_ratio"),
        tuple(sorted(readers, key=lambda reader: -reader.seconds)),
    )


def _queue_summaries(samples: _SampleIndex) -> Iterator[QueueSummary]:
    tasks = _group_by_queue(samples.samples_of("sqlite_queue_tasks"), samples.now)
    capped = _group_by_queue(samples.samples_of("sqlite_queue_tasks_capped"), samples.now)
    oldest = samples.values_by_label("sqlite_queue_oldest_waiting_age_seconds")
    head = samples.values_by_label("sqlite_queue_head_unchanged_seconds")
    stale = samples.values_by_label("sqlite_queue_stale_leases")
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
    """Return the values by queue, then by state."""
    grouped: dict[str, dict[str, float]] = {}
    for sample in samples:
        grouped.setdefault(sample.labels[0], {})[sample.labels[1]] = sample.value_at(now)
    return grouped


def _backup_summary(samples: _SampleIndex, drill: tuple[float, float] | None) -> BackupSummary | None:
    count = samples.values_by_label("sqlite_backups")
    if not count:
        return None
    return BackupSummary(
        count,
        samples.single_value("sqlite_backup_age_seconds"),
        samples.single_value("sqlite_backup_last_size_bytes"),
        max(0.0, samples.now - drill[0]) if drill else None,
        drill[1] if drill else None,
    )


def _disk_summaries(samples: _SampleIndex) -> Iterator[DiskSummary]:
    sizes = samples.values_by_label("sqlite_disk_size_bytes")
    for role, free in samples.values_by_label("sqlite_disk_free_bytes").items():
        yield DiskSummary(role, free, sizes.get(role))
