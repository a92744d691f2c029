"""How much of the file is free pages, which a VACUUM would give back."""

from collections.abc import Iterator
from dataclasses import dataclass

from collectors.access.context import PollContext
from collectors.metric import Metric, Sample

NAME = "fragmentation"
NEEDS_DATABASE = True

RATIO = Metric(
    "sqlite_fragmentation_ratio",
    "Free pages per page of the database, 0 to 1 (PRAGMA freelist_count / page_count). Not the order of the pages.",
)
METRICS = (RATIO,)


@dataclass(frozen=True, slots=True)
class FragmentationReading:
    """`ratio` is 0 for a database without pages."""

    ratio: float


def read(look: PollContext, previous: FragmentationReading | None) -> FragmentationReading:  # noqa: ARG001 - the collectors' signature
    """Ask SQLite for both numbers. Raises apsw.Error."""
    database = look.require_connection()
    pages = int(database.pragma("page_count"))
    free = int(database.pragma("freelist_count"))
    return FragmentationReading(free / pages if pages else 0.0)


def samples(reading: FragmentationReading) -> Iterator[Sample]:
    """The ratio."""
    yield RATIO(reading.ratio)
