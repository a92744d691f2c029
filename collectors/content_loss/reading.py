"""Whether content vanished: what the database holds, held against earlier readings and its newest verified backup.

A file that was emptied, replaced by a fresh one, or lost its tables can be read without an error, so nothing else fails.
What counts as a loss, and why a drained queue does not, is in docs/safety.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from collectors.access.context import PollContext
from collectors.backup_catalog.catalog import CatalogListing
from collectors.backup_catalog.order import newest_verified
from collectors.backup_catalog.store import open_catalog
from collectors.content_loss.facts import accept_backups, facts_of_manifest, read_content_facts
from collectors.content_loss.judge import ContentFacts, ContentLoss
from collectors.content_loss.memory import ContentMemory, greatest_loss, remember_facts
from collectors.metric import Metric, Sample

LOST = Metric(
    "sqlite_content_lost_ratio",
    "Share of the content that is gone, against earlier readings and the newest verified backup: of tables, of their rows "
    "or of the tables that had rows, whichever is largest. Task tables may drain; see docs/safety.md.",
)


@dataclass(frozen=True, slots=True)
class ContentReading:
    """What the database holds, and what of it is gone. `facts` is None where it could not be read yet.

    `memory` does not change while most of the content is gone: it is what the loss is measured against.
    """

    facts: ContentFacts | None = None
    loss: ContentLoss | None = None
    memory: ContentMemory = field(default_factory=ContentMemory)
    listing: CatalogListing = field(default_factory=CatalogListing)

    @property
    def great_loss(self) -> ContentLoss | None:
        """The loss where it is most of the content."""
        return self.loss if self.loss is not None and self.loss.is_most else None


def read_content(context: PollContext, before: ContentReading) -> ContentReading:
    """Read what the database holds where it is open, and compare. Raises apsw.Error, ValueError, TimeLimitExceeded."""
    path = str(context.target.path)
    if before.memory.path not in ("", path):
        before = ContentReading()
    listing = _list_backups(context, before.listing)
    memory = accept_backups(before.memory.of_file(path), listing.backups.values())
    fresh = _read_facts(context, memory)
    facts = fresh or before.facts
    loss = None if facts is None else greatest_loss(_baselines(memory, listing, context.now), facts)
    reading = ContentReading(facts, loss, memory, listing)
    if fresh is None or reading.great_loss is not None:
        return reading
    return replace(reading, memory=remember_facts(memory, fresh))


def content_samples(reading: ContentReading) -> Iterator[Sample]:
    """Yield the share where there is something to compare with."""
    if reading.loss is not None:
        yield LOST(reading.loss.share)


def _read_facts(context: PollContext, memory: ContentMemory) -> ContentFacts | None:
    if context.connection is None:
        return None
    return memory.excuse_tables(
        read_content_facts(context.connection, context.schema, context.find_profile(), context.now)
    )


def _baselines(memory: ContentMemory, listing: CatalogListing, now: float) -> Iterator[ContentFacts]:
    """What is remembered, and what the newest verified backup holds that lacks nothing itself."""
    yield from memory.baselines()
    newest = newest_verified(listing.backups.values(), now)
    if newest is not None and newest.manifest is not None and newest.manifest.snapshot_time >= memory.accepted_at:
        yield facts_of_manifest(newest.manifest)


def _list_backups(context: PollContext, before: CatalogListing) -> CatalogListing:
    """The backups, listed once in a poll; as they were where they cannot be listed now."""
    catalog = open_catalog(context.target)
    try:
        if catalog is not None and context.backup_listing is None:
            context.backup_listing = catalog.list_backups(before, context.now)
    except OSError:  # the collector of backups reports it
        return before
    listed: CatalogListing | None = context.backup_listing
    return before if listed is None else listed
