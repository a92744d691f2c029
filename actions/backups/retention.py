"""Decides which backups are kept. Pure, and apart from deleting, so that a decision can be shown before it is carried out.

The classes are those of restic and borg: the newest backup of each of the last N hours, days, weeks, months that have one,
and the last N of all. A rule only ever *keeps*; what no rule keeps is deleted. The newest verified backup is always kept.
Which one is newer is a matter of its sequence, not of clocks (collectors/backup_catalog/order.py).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from collectors.backup_catalog.order import is_future_time, order_place
from collectors.target import RetentionCounts

# A safety copy, taken before a restore, is kept for this many seconds, and the newest one always. A copy of a database that
# had lost its content is kept as long: it may have rows that came afterwards.
SAFETY_AGE = 30 * 86400.0

BackupState = Literal["verified", "unverified", "failed"]
BackupKind = Literal["scheduled", "manual", "safety"]


@dataclass(frozen=True, slots=True)
class RetentionCandidate:
    """One backup. `own`: its manifest says that it is of this database. Time in seconds since the epoch.

    `sequence`: its place among the backups of the database, None where it was not counted. `lossy`: the database had lost
    most of its content when it was taken.
    """

    name: str
    snapshot_time: float
    state: BackupState
    kind: BackupKind
    own: bool
    sequence: int | None = None
    lossy: bool = False

    @property
    def is_aside(self) -> bool:
        """Whether no count and no newest one is meant by it: a restore never takes it unasked."""
        return self.kind == "safety" or self.lossy

    @property
    def may_be_deleted(self) -> bool:
        """Whether it is a verified backup of this database: no other one is ever deleted."""
        return self.own and self.state == "verified"


@dataclass(frozen=True, slots=True)
class RetentionDecision:
    """What to keep and what to delete. `keep_reasons` by name; `to_delete`: names, oldest first."""

    keep_reasons: Mapping[str, tuple[str, ...]]
    to_delete: tuple[str, ...]


def decide_retention(candidates: Iterable[RetentionCandidate], keep: RetentionCounts, now: float) -> RetentionDecision:
    """Decide what is kept and why, and what is deleted."""
    newest_first = sorted(
        candidates, key=lambda b: (*order_place(b.sequence, b.snapshot_time, now), b.name), reverse=True
    )
    reasons = {backup.name: list(_protection_reasons(backup, now)) for backup in newest_first}
    counted = [backup for backup in newest_first if not reasons[backup.name] and not backup.is_aside]
    for name, reason in (*_age_class_reasons(counted, keep), *_newest_reasons(newest_first)):
        reasons[name].append(reason)
    keep_reasons = {name: tuple(why) for name, why in reasons.items() if why}
    to_delete = tuple(backup.name for backup in reversed(newest_first) if backup.name not in keep_reasons)
    return RetentionDecision(keep_reasons, to_delete)


def _protection_reasons(backup: RetentionCandidate, now: float) -> Iterator[str]:
    """Why a backup is never deleted, at any age."""
    if not backup.own:
        yield "not a backup of this database"
    elif backup.state != "verified":
        yield "damaged: the operator decides" if backup.state == "failed" else "not verified: the operator decides"
    elif is_future_time(backup.snapshot_time, now):
        yield "its time is in the future: a clock was wrong"
    elif backup.kind == "safety" and now - backup.snapshot_time <= SAFETY_AGE:
        yield "safety copy"
    elif backup.lossy and now - backup.snapshot_time <= SAFETY_AGE:
        yield "the database had lost most of its content"


def _newest_reasons(newest_first: list[RetentionCandidate]) -> Iterator[tuple[str, str]]:
    """The newest verified backup, and the newest verified safety copy."""
    verified = [backup for backup in newest_first if backup.may_be_deleted]
    ordinary = [backup for backup in verified if not backup.is_aside]
    safety = [backup for backup in verified if backup.kind == "safety"]
    for backups, reason in ((ordinary, "newest verified"), (safety, "newest safety copy")):
        if backups:
            yield backups[0].name, reason


def _age_class_reasons(counted: list[RetentionCandidate], keep: RetentionCounts) -> Iterator[tuple[str, str]]:
    """The backups that the configured counts keep; `counted` is newest first."""
    yield from ((backup.name, "last") for backup in counted[: keep.last])
    for reason, number, period in (
        ("hourly", keep.hourly, "%Y-%m-%d %H"),
        ("daily", keep.daily, "%Y-%m-%d"),
        ("weekly", keep.weekly, "%G-W%V"),
        ("monthly", keep.monthly, "%Y-%m"),
    ):
        yield from ((name, reason) for name in _newest_per_period(counted, number, _period_formatter(period)))


def _period_formatter(form: str) -> Callable[[float], str]:
    return lambda moment: datetime.fromtimestamp(moment, UTC).strftime(form)


def _newest_per_period(counted: list[RetentionCandidate], number: int, period: Callable[[float], str]) -> Iterator[str]:
    seen: set[str] = set()
    for backup in counted:
        if len(seen) >= number:
            return
        period_name = period(backup.snapshot_time)
        if period_name not in seen:
            seen.add(period_name)
            yield backup.name
