"""Facts about the database, and about the SQLite that its application uses."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from collectors.access.context import CollectorSpec, PollContext
from collectors.metric import Metric, Sample

NAME = "owner"
SPEC = CollectorSpec()

INFO = Metric(
    "sqlite_info",
    "Always 1: what the database is (database header, queue profile). owner_sqlite_version is the library that last "
    "rewrote the first page.",
    ("path", "journal_mode", "auto_vacuum", "profile", "lease_kind", "owner_sqlite_version"),
)
VULNERABLE = Metric(
    "sqlite_owner_wal_reset_vulnerable",
    "1 unless the configuration (owner_sqlite) proves that the application's SQLite has no WAL-reset bug.",
)
METRICS = (INFO, VULNERABLE)

# Releases with the fix of the WAL-reset bug (docs/safety.md; https://sqlite.org/wal.html): 3.51.3 and what was patched
# before it; 3.52.0 was cut without the fix.
_FIXED_SINCE = (3, 51, 3)
_PATCHED = {(3, 50): 7, (3, 44): 6}
_NOT_FIXED = frozenset({(3, 52, 0)})


@dataclass(frozen=True, slots=True)
class OwnerReading:
    """Facts as label values. `warning` is a sentence where the file contradicts the configuration."""

    path: str
    journal_mode: str
    auto_vacuum: str
    profile: str
    lease_kind: str
    version: str
    vulnerable: bool
    warning: str = ""


def is_vulnerable_version(version: str | None) -> bool:
    """Whether this SQLite version has the WAL-reset bug; one that is unknown or unreadable counts as having it."""
    match = re.fullmatch(r"(\d+)\.(\d+)(?:\.(\d+))?(?:\.\d+)?", version.strip()) if version else None
    if match is None:
        return True
    number = (int(match[1]), int(match[2]), int(match[3] or 0))
    if number in _NOT_FIXED:
        return True
    patched = _PATCHED.get(number[:2])
    return number < _FIXED_SINCE if patched is None else number[2] < patched


def read(context: PollContext, previous: OwnerReading | None) -> OwnerReading:  # noqa: ARG001 - the collectors' signature
    """Put together what the header, the profile and the configuration say. No I/O but the profile's, once a poll."""
    header = context.header if context.header is not None and context.header.valid else None
    profile = context.find_profile()
    version = header.owner_version if header else ""
    return OwnerReading(
        path=str(context.target.path),
        journal_mode="" if header is None else "wal" if header.wal else "rollback",
        auto_vacuum=header.auto_vacuum if header else "",
        profile=profile.name if profile else "",
        lease_kind=profile.lease_kind if profile else "",
        version=version,
        vulnerable=is_vulnerable_version(context.target.owner_sqlite),
        warning=_version_contradiction(context.target.owner_sqlite, version),
    )


def samples(reading: OwnerReading) -> Iterator[Sample]:
    """Yield the labels, and whether the owner is vulnerable."""
    yield INFO(
        1,
        reading.path,
        reading.journal_mode,
        reading.auto_vacuum,
        reading.profile,
        reading.lease_kind,
        reading.version,
    )
    yield VULNERABLE(float(reading.vulnerable))


def _version_contradiction(configured: str | None, in_file: str) -> str:
    """A warning where the file shows an older SQLite than configured; it proves nothing (the version there may be ours)."""
    if configured is None or not in_file or is_vulnerable_version(configured) or not is_vulnerable_version(in_file):
        return ""
    return f"owner_sqlite says {configured}, but the file was last written by SQLite {in_file}: check the application"
