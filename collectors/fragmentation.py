"""Which share of the file is free pages, which a VACUUM would give back to the file system."""

from collections.abc import Iterator
from dataclasses import dataclass

from collectors.access.context import CollectorSpec, PollContext, expect_page_counts
from collectors.metric import Metric, Sample

NAME = "fragmentation"
SPEC = CollectorSpec(needs_connection=True, shared_read=expect_page_counts)

RATIO = Metric(
    "sqlite_fragmentation_ratio",
    "Free pages per page of the database, 0 to 1 (PRAGMA freelist_count / page_count). Not the order of the pages.",
)
METRICS = (RATIO,)


@dataclass(frozen=True, slots=True)
class FragmentationReading:
    """`ratio` is 0 for a database without pages."""

    ratio: float


def read(context: PollContext, previous: FragmentationReading | None) -> FragmentationReading:  # noqa: ARG001 - the collectors' signature
    """Divide the counts that the storage collector publishes. Raises apsw.Error."""
    counts = context.read_page_counts()
    return FragmentationReading(counts.free / counts.pages if counts.pages else 0.0)


def samples(reading: FragmentationReading) -> Iterator[Sample]:
    """Yield the ratio."""
    yield RATIO(reading.ratio)
