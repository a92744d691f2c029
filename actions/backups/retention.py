"""Which backups stay. Pure, and apart from deleting: a decision can be shown before anything is gone.

Classes as in restic and borg: the newest of each of the last N hours, days, weeks, months that have one, and the last N of
all. Every rule only ever *keeps*: what no rule keeps may go. The newest verified backup always stays.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from collectors.target import RetentionCounts

# A safety copy, taken before a restore, stays this long (seconds), and the newest one always.
SAFETY_AGE = 30 * 86400.0

BackupState = Literal["verified", "unverified", "failed"]
BackupKind = Literal["scheduled", "manual", "safety"]


@dataclass(frozen=True, slots=True)
class RetentionCandidate:
    """One backup as retention sees it. `own`: its manifest says it is of this database. Time in seconds since the epoch."""

    name: str
    snapshot_time: float
    state: BackupState
    kind: BackupKind
    own: bool


@dataclass(frozen=True, slots=True)
class RetentionDecision:
    """`kept`: name to the reasons. `dropped`: names, oldest first."""

    kept: Mapping[str, tuple[str, ...]]
    dropped: tuple[str, ...]


def decide_retention(candidates: Iterable[RetentionCandidate], keep: RetentionCounts, now: float) -> RetentionDecision:
    """What stays and why, and what may go."""
    found = sorted(candidates, key=lambda one: (one.snapshot_time, one.name), reverse=True)
    reasons: dict[str, list[str]] = {one.name: [] for one in found}
    for one in found:
        reasons[one.name].extend(_protection_reasons(one, now))
    counted = [one for one in found if not reasons[one.name] and one.kind != "safety"]
    for name, reason in _age_class_reasons(counted, keep):
        reasons[name].append(reason)
    for name, reason in _newest_reasons(found):
        reasons[name].append(reason)
    kept = {name: tuple(why) for name, why in reasons.items() if why}
    return RetentionDecision(kept, tuple(one.name for one in reversed(found) if one.name not in kept))


def _protection_reasons(one: RetentionCandidate, now: float) -> Iterator[str]:
    """What is never ours to delete, whatever its age."""
    if not one.own:
        yield "not a backup of this database"
    elif one.state != "verified":
        yield "not verified: for a person to decide"
    elif one.snapshot_time > now:
        yield "its time is in the future: a clock was wrong"
    elif one.kind == "safety" and now - one.snapshot_time <= SAFETY_AGE:
        yield "safety copy"


def _newest_reasons(found: list[RetentionCandidate]) -> Iterator[tuple[str, str]]:
    """The newest verified one, and the newest verified safety copy."""
    verified = [one for one in found if one.own and one.state == "verified"]
    ordinary = [one for one in verified if one.kind != "safety"]
    safety = [one for one in verified if one.kind == "safety"]
    for of, reason in ((ordinary, "newest verified"), (safety, "newest safety copy")):
        if of:
            yield of[0].name, reason


def _age_class_reasons(counted: list[RetentionCandidate], keep: RetentionCounts) -> Iterator[tuple[str, str]]:
    """`counted` is newest first."""
    yield from ((one.name, "last") for one in counted[: keep.last])
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
    for one in counted:
        if len(seen) >= number:
            return
        which = period(one.snapshot_time)
        if which not in seen:
            seen.add(which)
            yield one.name
