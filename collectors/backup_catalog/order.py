"""Which backup is newer. Pure; the clock is an argument.

Clocks can be wrong, and what a wrong clock wrote stays in a manifest for ever. So the place of a backup is its `sequence`, a
counter; its time only informs. A time that lies in the future is never believed, and never makes a backup fresh.
"""

from collections.abc import Iterable

from collectors.backup_catalog.catalog import Backup

# Two hosts' clocks differ a little, and a clock is corrected by small steps: less ahead than this is no other clock (seconds).
CLOCK_TOLERANCE = 60.0


def is_future_time(moment: float, now: float) -> bool:
    """Whether a time (seconds since the epoch) was written by a clock that was ahead of ours."""
    return moment > now + CLOCK_TOLERANCE


def order_newest_first(backups: Iterable[Backup], now: float) -> list[Backup]:
    """The backups of one database, newest first.

    By their sequence. One without is older than any that has one: it was taken by a version that did not count, or by
    another tool. Among themselves such are ordered by time, those of the future last: their time says nothing.
    """
    return sorted(backups, key=lambda backup: _place(backup, now), reverse=True)


def newest_verified(backups: Iterable[Backup], now: float) -> Backup | None:
    """The newest verified backup, without safety copies and copies of lost content; None when there is none."""
    return next(iter(verified_newest_first(backups, now)), None)


def verified_newest_first(backups: Iterable[Backup], now: float) -> list[Backup]:
    """The verified backups, newest first: the order in which a restore tries them.

    Without the safety copies, and without copies of a database that had lost most of its content: both are taken by name.
    """
    usable = (backup for backup in backups if not backup.is_safety and not backup.is_lossy)
    verified = (backup for backup in usable if backup.state == "verified")
    return order_newest_first(verified, now)


def believed_snapshot_time(backups: Iterable[Backup], now: float) -> float | None:
    """The snapshot time of the newest verified backup whose time is not in the future; None without one.

    So the age of a backup that is dated in the future is taken from an older one: too old, and never too fresh.
    """
    times = (backup.snapshot_time for backup in verified_newest_first(backups, now))
    return next((moment for moment in times if not is_future_time(moment, now)), None)


def order_place(sequence: int | None, snapshot_time: float, now: float) -> tuple[int, bool, float]:
    """What orders backups: a later one has the greater place."""
    return -1 if sequence is None else sequence, not is_future_time(snapshot_time, now), snapshot_time


def _place(backup: Backup, now: float) -> tuple[int, bool, float, str]:
    sequence = None if backup.manifest is None or _is_of_another(backup) else backup.manifest.sequence
    return (*order_place(sequence, backup.snapshot_time, now), backup.name)


def _is_of_another(backup: Backup) -> bool:
    """Whether it is another database's in the same folder, which counts for itself: proved, and yet unverified here."""
    return backup.state == "unverified" and backup.manifest is not None and backup.manifest.verified_time is not None
