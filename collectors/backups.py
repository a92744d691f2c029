"""Which backups exist, and how old the newest verified one is. Reads the backup store only, never the live file."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from collectors.access.context import CollectorSpec, PollContext
from collectors.backup_catalog.catalog import BACKUP_STATES, CatalogListing, newest_verified
from collectors.backup_catalog.manifest import Manifest
from collectors.backup_catalog.store import open_catalog
from collectors.metric import Metric, Sample, Since

NAME = "backups"
SPEC = CollectorSpec(outside_file=True)

LAST_SUCCESS = Metric(
    "sqlite_backup_last_success_timestamp_seconds",
    "Snapshot time of the newest verified backup, in seconds since the epoch (its manifest).",
)
AGE = Metric("sqlite_backup_age_seconds", "Seconds since the snapshot of the newest verified backup (its manifest).")
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
    "Backups in the folder: verified, unverified (no manifest, another database's, never proved), failed (damaged).",
    ("state",),
    fold="sum",
)
SIZES = Metric("sqlite_backups_size_bytes", "Bytes of all backups in this state (stat).", ("state",), fold="sum")
METRICS = (LAST_SUCCESS, AGE, LAST_VERIFIED, LAST_SIZE, LAST_DURATION, COUNT, SIZES)


@dataclass(frozen=True, slots=True)
class BackupsReading:
    """The backups in the store of one database. `configured` is false where no store is configured."""

    configured: bool = False
    listing: CatalogListing = field(default_factory=CatalogListing)

    @property
    def newest_manifest(self) -> Manifest | None:
        """The manifest of the newest verified backup; a safety backup holds what an operator chose to replace."""
        newest = newest_verified(self.listing.backups.values())
        return None if newest is None else newest.manifest

    def verified_manifests(self) -> Iterator[Manifest]:
        """The manifests of all verified backups."""
        backups = self.listing.backups.values()
        return (b.manifest for b in backups if b.state == "verified" and b.manifest is not None)


def read(context: PollContext, previous: BackupsReading | None) -> BackupsReading:
    """List what changed in the store; a manifest that did not change is not read again. Raises OSError."""
    catalog = open_catalog(context.target)
    if catalog is None:
        return BackupsReading()
    before = None if previous is None else previous.listing
    context.backup_listing = catalog.list_backups(before, context.now)
    return BackupsReading(configured=True, listing=context.backup_listing)


def samples(reading: BackupsReading) -> Iterator[Sample]:
    """Yield counts always, times only when there is a verified backup."""
    if not reading.configured:
        return
    for state in BACKUP_STATES:
        sizes = [backup.size for backup in reading.listing.backups.values() if backup.state == state]
        yield COUNT(len(sizes), state)
        yield SIZES(sum(sizes), state)
    newest = reading.newest_manifest
    if newest is None:
        return
    yield LAST_SUCCESS(newest.snapshot_time)
    yield AGE(Since(newest.snapshot_time))
    yield LAST_VERIFIED(max(manifest.verified_time or 0.0 for manifest in reading.verified_manifests()))
    yield LAST_SIZE(newest.bytes)
    yield LAST_DURATION(max(0.0, newest.finished_time - newest.snapshot_time))
