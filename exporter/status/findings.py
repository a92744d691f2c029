"""Finds the problems of a database, in words, each with its next step. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from actions.model.condition import ConditionVerdict
from actions.policy.effect import condition_measurement
from actions.policy.rules import Rule
from collectors.access.snapshot import Snapshot
from collectors.backups import BackupsReading
from collectors.metric import fold_samples
from collectors.owner import OwnerReading
from collectors.storage import StorageReading
from collectors.wal import WalReading
from collectors.wal_state import BACKLOG_FRAMES
from exporter.text.units import format_duration, format_metric_value, format_size, format_time

# Next steps for databases that cannot be read at all; the messages of the other states contain theirs.
_NEXT_STEPS = {
    "missing": "correct its path in the configuration, mount its disk, or start the application that makes it",
    "not_a_database": "remove it from databases: in the configuration; if it was a queue, restore a backup",
}
_RUNBOOK = "see docs/runbook.md at QueueDatabaseDown and QueueCollectorFailing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem; `cure` is the next step."""

    what: str
    cure: str


def find_database_problems(snapshot: Snapshot, rules: Iterable[Rule], now: float) -> tuple[Finding, ...]:
    """Return all problems, worst first; none for a healthy database. `now` is in seconds since the epoch."""
    if not snapshot.up:
        return (
            Finding(snapshot.message or f"cannot be read: {snapshot.state}", _NEXT_STEPS.get(snapshot.state, _RUNBOOK)),
        )
    return (
        *_content_findings(snapshot),
        *_unread_findings(snapshot),
        *_wal_findings(snapshot, now),
        *_queue_findings(snapshot, now),
        *_backup_findings(snapshot),
        *_disk_findings(snapshot, now),
        *_owner_findings(snapshot),
        *_rule_findings(snapshot, rules, now),
    )


def _content_findings(snapshot: Snapshot) -> Iterator[Finding]:
    storage = snapshot.readings.get("storage")
    loss = storage.content.great_loss if isinstance(storage, StorageReading) else None
    if loss is not None:
        since, name = format_time(loss.since), snapshot.target.name
        yield Finding(
            f"it lost most of its content since {since}: {loss.words}; prune and automatic actions are refused",
            f"queuekeeper restore {name} --in-place; or, if it is as it should be, queuekeeper backup {name} --accept-loss",
        )


def _unread_findings(snapshot: Snapshot) -> Iterator[Finding]:
    """Yield the collectors that failed; a failure that the state of the database explains is no finding."""
    for name, result in snapshot.collectors.items():
        if not result.success and result.reason != snapshot.state:
            yield Finding(f"{name} could not be read: {result.message or result.reason}", _RUNBOOK)


def _wal_findings(snapshot: Snapshot, now: float) -> Iterator[Finding]:
    wal = snapshot.readings.get("wal")
    if not isinstance(wal, WalReading) or wal.frames is None or wal.copied is None:
        return
    waits = f"{format_size((wal.frames - wal.copied) * wal.page_size)} of the WAL wait for a checkpoint"
    name = snapshot.target.name
    if wal.state == "pinned" and wal.frames - wal.copied > BACKLOG_FRAMES:
        who = ", ".join(
            f"{command} for {format_duration(max(0.0, now - since))}" for command, since in wal.commands.items()
        )
        yield Finding(f"{waits}, blocked by {who or 'a reader'}", f"queuekeeper readers {name}")
    if wal.state in ("backlog", "reset_starved"):
        why = (
            "no checkpoint copies them"
            if wal.state == "backlog"
            else "short readers overlap, so the WAL cannot restart"
        )
        yield Finding(f"{waits}: {why}", f"queuekeeper checkpoint {name}")


def _queue_findings(snapshot: Snapshot, now: float) -> Iterator[Finding]:
    stale = fold_samples(snapshot.samples_of("sqlite_queue_stale_leases"), now)
    if stale:
        yield Finding(f"{stale:.0f} tasks have a stale lease", f"queuekeeper leases {snapshot.target.name}")


def _backup_findings(snapshot: Snapshot) -> Iterator[Finding]:
    counts = {sample.labels[0]: sample.value_at(0) for sample in snapshot.samples_of("sqlite_backups")}
    if counts and not counts.get("verified"):
        yield Finding("it has no verified backup", f"queuekeeper backup {snapshot.target.name}")
    reading = snapshot.readings.get("backups")
    if failed := counts.get("failed"):
        yield Finding(_damage_in_words(failed, reading), f"queuekeeper backups list {snapshot.target.name}")
    if isinstance(reading, BackupsReading) and reading.future:
        yield Finding(
            f"{reading.future} backups have a time in the future: a clock was wrong, so how old they are is not known",
            f"correct the clock, then take a new one: queuekeeper backup {snapshot.target.name}",
        )


def _damage_in_words(failed: float, reading: object) -> str:
    """How many backups are damaged, and what is wrong with the first."""
    listed = reading.listing.backups.values() if isinstance(reading, BackupsReading) else ()
    first = next((f"; {backup.name}: {backup.damage}" for backup in listed if backup.damage), "")
    return f"{failed:.0f} backups are damaged{first}"


def _disk_findings(snapshot: Snapshot, now: float) -> Iterator[Finding]:
    reserve = snapshot.target.limits.disk_reserve
    for sample in snapshot.samples_of("sqlite_disk_free_bytes"):
        if sample.value_at(now) < reserve:
            yield Finding(
                f"only {format_size(sample.value_at(now))} are free for {sample.labels[0]} "
                f"(limits.disk_reserve is {format_size(reserve)})",
                "free space there",
            )


def _owner_findings(snapshot: Snapshot) -> Iterator[Finding]:
    owner = snapshot.readings.get("owner")
    if isinstance(owner, OwnerReading) and owner.warning:
        yield Finding(owner.warning, "correct owner_sqlite in the configuration")


def _rule_findings(snapshot: Snapshot, rules: Iterable[Rule], now: float) -> Iterator[Finding]:
    for rule in rules:
        if not rule.covers_database(snapshot.target.name):
            continue
        measurement = condition_measurement(rule.condition, snapshot, now)
        if rule.condition.judge_measurement(measurement) is ConditionVerdict.WRONG:
            value = (
                "absent" if measurement.value is None else format_metric_value(rule.condition.metric, measurement.value)
            )
            yield Finding(f"rule {rule.name}: {rule.condition.metric} is {value}", "queuekeeper config explain")
