"""What is wrong with a database, in words, each with what to do about it. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from actions.model.condition import Verdict
from actions.policy.measure import measured
from actions.policy.rules import Rule
from collectors.access.snapshot import Snapshot
from collectors.metric import folded
from collectors.owner import Owner
from collectors.wal import Wal
from collectors.wal_state import BACKLOG_FRAMES
from exporter.text.units import duration, of_metric, size

# Of what cannot be read at all; the other states' messages say themselves what to do.
_CURES = {
    "missing": "correct its path in the configuration, mount its disk, or start the application that makes it",
    "not_a_database": "take it out of databases: in the configuration; if it was a queue, restore a backup",
}
_RUNBOOK = "docs/runbook.md tells more, at QueueDatabaseDown and QueueCollectorFailing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong; `cure` is the next step."""

    what: str
    cure: str


def findings(snapshot: Snapshot, rules: Iterable[Rule], now: float) -> tuple[Finding, ...]:
    """Everything that is wrong, worst first; nothing for a healthy database. `now`: seconds since the epoch."""
    if not snapshot.up:
        return (Finding(snapshot.message or f"cannot be read: {snapshot.state}", _CURES.get(snapshot.state, _RUNBOOK)),)
    return (
        *_unread(snapshot),
        *_wal(snapshot, now),
        *_queue(snapshot, now),
        *_backups(snapshot),
        *_room(snapshot, now),
        *_owner(snapshot),
        *_rules(snapshot, rules, now),
    )


def _unread(snapshot: Snapshot) -> Iterator[Finding]:
    """What its application being down explains is no finding."""
    for name, result in snapshot.collectors.items():
        if not result.success and result.reason != snapshot.state:
            yield Finding(f"{name} could not be read: {result.message or result.reason}", _RUNBOOK)


def _wal(snapshot: Snapshot, now: float) -> Iterator[Finding]:
    wal = snapshot.readings.get("wal")
    if not isinstance(wal, Wal) or wal.frames is None or wal.copied is None:
        return
    waits = f"{size((wal.frames - wal.copied) * wal.page_size)} of the WAL wait to be copied"
    name = snapshot.target.name
    if wal.state == "pinned" and wal.frames - wal.copied > BACKLOG_FRAMES:
        who = ", ".join(f"{command} for {duration(max(0.0, now - since))}" for command, since in wal.commands.items())
        yield Finding(f"{waits}, held back by {who or 'a reader'}", f"queuekeeper readers {name}")
    if wal.state in ("backlog", "reset_starved"):
        why = "nobody copies them" if wal.state == "backlog" else "short readers follow each other without a gap"
        yield Finding(f"{waits}: {why}", f"queuekeeper checkpoint {name}")


def _queue(snapshot: Snapshot, now: float) -> Iterator[Finding]:
    stale = folded(snapshot.of("sqlite_queue_stale_leases"), now)
    if stale:
        yield Finding(f"{stale:.0f} tasks have a stale lease", f"queuekeeper leases {snapshot.target.name}")


def _backups(snapshot: Snapshot) -> Iterator[Finding]:
    counts = {sample.labels[0]: sample.at(0) for sample in snapshot.of("sqlite_backups")}
    if counts and not counts.get("verified"):
        yield Finding("it has no verified backup", f"queuekeeper backup {snapshot.target.name}")
    if failed := counts.get("failed"):
        yield Finding(f"{failed:.0f} backups are damaged", f"queuekeeper backups list {snapshot.target.name}")


def _room(snapshot: Snapshot, now: float) -> Iterator[Finding]:
    reserve = snapshot.target.limits.disk_reserve
    for sample in snapshot.of("sqlite_disk_free_bytes"):
        if sample.at(now) < reserve:
            yield Finding(
                f"only {size(sample.at(now))} are free for {sample.labels[0]} (limits.disk_reserve is {size(reserve)})",
                "free space there",
            )


def _owner(snapshot: Snapshot) -> Iterator[Finding]:
    owner = snapshot.readings.get("owner")
    if isinstance(owner, Owner) and owner.warning:
        yield Finding(owner.warning, "correct owner_sqlite in the configuration")


def _rules(snapshot: Snapshot, rules: Iterable[Rule], now: float) -> Iterator[Finding]:
    for rule in rules:
        if not rule.covers(snapshot.target.name):
            continue
        found = measured(rule.condition, snapshot, now)
        if rule.condition.judge(found) is Verdict.WRONG:
            value = "absent" if found.value is None else of_metric(rule.condition.metric, found.value)
            yield Finding(f"rule {rule.name}: {rule.condition.metric} is {value}", "queuekeeper config explain")
