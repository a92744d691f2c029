"""Whether a vacuum is worth it, and which one. Pure: the file's pages, their recorded minimums and a clock in, a choice out.

Free pages are no loss by themselves: a queue that empties every night fills them again every day, and giving them back
only to allocate them again costs the application twice. Only pages that *stay* free are worth giving back. For them
incremental_vacuum holds the write lock for the shortest time; a full VACUUM stops every writer until it is done.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from actions.model.context import FreePageMinimum

VacuumWay = Literal["nothing", "incremental", "full"]

HOUR = 3600.0
MIB = 1024 * 1024
# What an automatic vacuum must give back: a tenth of the file, and no less than MIN_RECLAIM_BYTES.
MIN_RECLAIM_RATIO = 0.1
MIN_RECLAIM_BYTES = MIB
# What a full VACUUM that a person requests must give back.
MIN_MANUAL_RECLAIM_RATIO = 0.01
# Longest hold of one batch of an incremental vacuum, in seconds.
MAX_BATCH_SECONDS = 0.015


@dataclass(frozen=True, slots=True)
class FilePages:
    """The number and the size of a file's pages, and how many are free."""

    page_size: int
    pages: int
    free: int
    auto_vacuum: Literal["none", "full", "incremental"]

    @property
    def file_bytes(self) -> int:
        """The size of the whole file."""
        return self.pages * self.page_size

    @property
    def live_bytes(self) -> int:
        """How many bytes a full VACUUM copies."""
        return (self.pages - self.free) * self.page_size


@dataclass(frozen=True, slots=True)
class LastingFreePages:
    """`pages`: the fewest that were free at any moment of the span. `watched`: for how long that is known, in seconds."""

    pages: int
    watched: float


@dataclass(frozen=True, slots=True)
class VacuumChoice:
    """The chosen vacuum. `gives_back`: about so many bytes; `pages`: how many an incremental run frees; `stall`: predicted
    seconds; `why`: a sentence.
    """

    way: VacuumWay
    why: str
    pages: int = 0
    gives_back: int = 0
    stall: float = 0.0


def lasting_free_pages(lows: Iterable[FreePageMinimum], free: int, now: float, span: float) -> LastingFreePages:
    """How many pages were free throughout the last `span` seconds, by the recorded minimums and by the `free` ones now.

    The records count back to the first gap of more than an hour: an hour without a reading is not known.
    """
    current = int(now // HOUR)
    hours = {low.hour: low.pages for low in lows if int((now - span) // HOUR) <= low.hour <= current}
    earliest = current
    while (earlier := next((hour for hour in (earliest - 1, earliest - 2) if hour in hours), None)) is not None:
        earliest = earlier
    watched = now - earliest * HOUR if current in hours or earliest < current else 0.0
    return LastingFreePages(min([free, *hours.values()]), min(span, watched))


def choose_vacuum(
    pages: FilePages, stays: LastingFreePages, rate: float, *, careful: bool, only_incremental: bool
) -> VacuumChoice:
    """The vacuum that is worth it and disturbs least. `rate`: live bytes a second of a full VACUUM.

    `careful`: no person watches, so it must give back a tenth of the file; for a person a hundredth is enough, and any page
    for an incremental one, unless the queue fills some of them again. `only_incremental`: never a full one.
    """
    lasting = min(stays.pages, pages.free)
    by_measure = careful or lasting < pages.free
    enough = max(MIN_RECLAIM_BYTES, int(MIN_RECLAIM_RATIO * pages.file_bytes)) if by_measure else pages.page_size
    if pages.auto_vacuum == "incremental" and lasting * pages.page_size >= enough:
        why = f"{_free_page_summary(pages, stays)}, to be cut off the end of the file"
        return VacuumChoice("incremental", why, lasting, lasting * pages.page_size, MAX_BATCH_SECONDS)
    if only_incremental or lasting * pages.page_size < max(enough, int(MIN_MANUAL_RECLAIM_RATIO * pages.file_bytes)):
        return VacuumChoice("nothing", _reason_against(pages, stays))
    back = pages.free * pages.page_size
    return VacuumChoice("full", _free_page_summary(pages, stays), gives_back=back, stall=pages.live_bytes / rate)


def missing_bytes(needed: int, reserve: int, free: int) -> int:
    """Bytes that must still become free before `needed` can be written and `reserve` stays."""
    return max(0, needed + reserve - free)


def _reason_against(pages: FilePages, stays: LastingFreePages) -> str:
    if pages.free == 0:
        return f"none of the {pages.pages} pages is free"
    refilled = ": the others are filled again" if stays.pages < pages.free else ": too few to be worth it"
    return _free_page_summary(pages, stays) + refilled


def _free_page_summary(pages: FilePages, stays: LastingFreePages) -> str:
    now = f"{pages.free} of {pages.pages} pages are free"
    lasting = min(stays.pages, pages.free)
    if stays.watched == 0:
        return now if lasting == pages.free else f"{now}, and at times only {lasting}"
    return f"{now}, {lasting} of them have been for {stays.watched / HOUR:.0f} hours"
