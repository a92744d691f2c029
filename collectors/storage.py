"""Sizes of the files, and whether what they held is still there. Sizes are known also while the owner is down."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from collectors.access.context import CollectorSpec, PollContext, expect_page_counts
from collectors.access.errors import EXPECTED_ERRORS, PartialReading, describe_failure
from collectors.access.file_facts import stat_or_none
from collectors.content_loss.reading import LOST, ContentReading, content_samples, read_content
from collectors.metric import Metric, Sample

NAME = "storage"
SPEC = CollectorSpec(shared_read=expect_page_counts)

SIZE = Metric("sqlite_database_size_bytes", "Size of the database file in bytes (stat).", fold="sum")
WAL_SIZE = Metric(
    "sqlite_wal_size_bytes",
    "Size of the WAL file in bytes (stat). A high-water mark, not a backlog: the file is reused, not shortened.",
    fold="sum",
    moved_by_actions=True,
)
PAGE_SIZE = Metric("sqlite_page_size_bytes", "Size of a page in bytes (database header).")
PAGES = Metric("sqlite_pages", "Pages in the database (PRAGMA page_count).", fold="sum")
FREE_PAGES = Metric("sqlite_free_pages", "Pages that hold nothing (PRAGMA freelist_count).", fold="sum")
METRICS = (SIZE, WAL_SIZE, PAGE_SIZE, PAGES, FREE_PAGES, LOST)


@dataclass(frozen=True, slots=True)
class StorageReading:
    """Sizes in bytes; None where it needs a connection or a header that is not there."""

    size: int
    wal_size: int
    page_size: int | None
    pages: int | None
    free_pages: int | None
    content: ContentReading = field(default_factory=ContentReading)

    def can_age(self) -> bool:
        """Whether content is lost: that can be accepted without a change of the file."""
        return self.content.great_loss is not None


def read(context: PollContext, previous: StorageReading | None) -> StorageReading:
    """Stat the files, and read pages and content where a connection is open. Raises OSError when the database is gone.

    Raises apsw.Error, and PartialReading where only the content could not be read.
    """
    before = ContentReading() if previous is None else previous.content
    sizes = replace(_read_sizes(context), content=before)
    try:
        return replace(sizes, content=read_content(context, before))
    except EXPECTED_ERRORS as error:
        word, sentence = describe_failure(error)
        raise PartialReading(f"what the database holds: {sentence}", sizes, word) from error


def _read_sizes(context: PollContext) -> StorageReading:
    counts = None if context.connection is None else context.read_page_counts()
    header = context.header if context.header is not None and context.header.valid else None
    return StorageReading(
        size=os.stat(context.target.path).st_size,  # noqa: PTH116 - half the cost of Path.stat
        wal_size=_file_size(context.target.wal),
        page_size=header.page_size if header else None,
        pages=counts.pages if counts else None,
        free_pages=counts.free if counts else None,
    )


def samples(reading: StorageReading) -> Iterator[Sample]:
    """Yield the sizes and counts that are known."""
    yield SIZE(reading.size)
    yield WAL_SIZE(reading.wal_size)
    for metric, value in ((PAGE_SIZE, reading.page_size), (PAGES, reading.pages), (FREE_PAGES, reading.free_pages)):
        if value is not None:
            yield metric(value)
    yield from content_samples(reading.content)


def _file_size(path: Path) -> int:
    status = stat_or_none(path)
    return 0 if status is None else status.st_size
