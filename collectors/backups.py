"""Which backups exist, and how old the newest verified one is. Reads the backup store only, never the live file."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from collectors.access.context import CollectorSpec, PollContext
from collectors.backup_catalog.catalog import BACKUP_STATES, Backup, CatalogListing
from collectors.backup_catalog.order import believed_snapshot_time, is_future_time, newest_verified
from collectors.backup_catalog.store import open_catalog
from collectors.metric import Metric, Sample, Since

NAME = "backups"
SPEC = CollectorSpec(outside_file=True)

LAST_SUCCESS = Metric(
    "sqlite_backup_last_success_timestamp_seconds",
    "Snapshot time of the newest verified backup, in seconds since the epoch (its manifest). A time in the future is not "
    "believed: then it is that of an older one, or 0.",
)
AGE = Metric(
    "sqlite_backup_age_seconds",
    "Seconds since the snapshot of the newest verified backup (its manifest). Where that lies in the future, of an older "
    "one; since 1970 where all do: such a backup is never fresh.",
)
LAST_VERIFIED = Metric(
    "sqlite_backup_last_verified_timestamp_seconds",
    "When the content of a backup was last proved, in seconds since the epoch (manifests).",
)
LAST_SIZE = Metric("sqlite_backup_last_size_bytes", "Size in bytes of the newest verified backup (its manifest).")
LAST_DURATION = Metric(
    "sqlite_backup_last_duration_seconds",
    "Seconds from the snapshot to the end of the newest verified backup (its manifest).",
)
COUNT = Metric(
    "sqlite_backups",
    "Backups in the folder: verified, unverified (no manifest, another database's, never proved), failed (proved damaged, "
    "another size than in the manifest, a manifest that cannot be read).",
    ("state",),
    fold="sum",
)
SIZES = Metric("sqlite_backups_size_bytes", "Bytes of all backups in this state (stat).", ("state",), fold="sum")
METRICS = (LAST_SUCCESS, AGE, LAST_VERIFIED, LAST_SIZE, LAST_DURATION, COUNT, SIZES)


@dataclass(frozen=True, slots=True)
class BackupsReading:
    """The backups in the store of one database. `configured` is false where no store is configured.

    `newest`: the newest verified one; a safety copy holds what an operator chose to replace. Times in seconds since the
    epoch, 0 without one that can be believed: `snapshot_time` of the newest verified one that is not dated in the future,
    `verified_time` when one was last proved. `future`: how many verified ones are dated in the future.
    """

    configured: bool = False
    listing: CatalogListing = field(default_factory=CatalogListing)
    newest: Backup | None = None
    snapshot_time: float = 0.0
    verified_time: float = 0.0
    future: int = 0


def read(context: PollContext, previous: BackupsReading | None) -> BackupsReading:
    """List what changed in the store; a manifest that did not change is not read again. Raises OSError."""
    catalog = open_catalog(context.target)
    if catalog is None:
        return BackupsReading()
    before = None if previous is None else previous.listing
    listed: CatalogListing | None = context.backup_listing
    return judge_listing(catalog.list_backups(before, context.now) if listed is None else listed, context.now)


def judge_listing(listing: CatalogListing, now: float) -> BackupsReading:
    """What the listing says at `now` (seconds since the epoch)."""
    backups = listing.backups.values()
    verified = [backup for backup in backups if backup.state == "verified" and backup.manifest is not None]
    proofs = (backup.manifest.verified_time or 0.0 for backup in verified if backup.manifest is not None)
    return BackupsReading(
        configured=True,
        listing=listing,
        newest=newest_verified(backups, now),
        snapshot_time=believed_snapshot_time(backups, now) or 0.0,
        verified_time=max((moment for moment in proofs if not is_future_time(moment, now)), default=0.0),
        future=sum(is_future_time(backup.snapshot_time, now) for backup in verified),
    )


def samples(reading: BackupsReading) -> Iterator[Sample]:
    """Yield counts always, times only when there is a verified backup."""
    if not reading.configured:
        return
    for state in BACKUP_STATES:
        sizes = [backup.size for backup in reading.listing.backups.values() if backup.state == state]
        yield COUNT(len(sizes), state)
        yield SIZES(sum(sizes), state)
    newest = None if reading.newest is None else reading.newest.manifest
    if newest is None:
        return
    yield LAST_SUCCESS(reading.snapshot_time)
    yield AGE(Since(reading.snapshot_time))
    yield LAST_VERIFIED(reading.verified_time)
    yield LAST_SIZE(newest.bytes)
    yield LAST_DURATION(max(0.0, newest.finished_time - newest.snapshot_time))
