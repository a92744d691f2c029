"""Is a vacuum worth it, and which one? Pure: the file's pages, what is remembered of them and a clock in, a choice out.

Free pages are no loss by themselves: a queue that empties every night fills them again every day, and giving them back
only to ask for them again costs the application twice. Worth giving back is what *stays* free. Of that, slices of
incremental_vacuum take the least at a time; a full VACUUM stops every writer until it is done.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from actions.model.context import FreePageMinimum

VacuumWay = Literal["nothing", "incremental", "full"]

HOUR = 3600.0
MIB = 1024 * 1024
# What it must give back where nobody asks for less: a tenth of the file, and no less than this.
MIN_RECLAIM_RATIO = 0.1
MIN_RECLAIM_BYTES = MIB
# What a person may ask a full VACUUM for.
MIN_MANUAL_RECLAIM_RATIO = 0.01
# Longest hold of one incremental slice, in seconds.
MAX_SLICE_SECONDS = 0.015


@dataclass(frozen=True, slots=True)
class FilePages:
    """A file's pages."""

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
        """What a full VACUUM copies."""
        return (self.pages - self.free) * self.page_size


@dataclass(frozen=True, slots=True)
class LastingFreePages:
    """`pages`: the fewest that were free at any moment that counts. `watched`: for how long that is known, in seconds."""

    pages: int
    watched: float


@dataclass(frozen=True, slots=True)
class VacuumChoice:
    """`gives_back`: bytes, about; `pages`: how many a run in slices frees; `stall`: seconds, predicted; `why`: a sentence."""

    way: VacuumWay
    why: str
    pages: int = 0
    gives_back: int = 0
    stall: float = 0.0


def lasting_free_pages(lows: Iterable[FreePageMinimum], free: int, now: float, span: float) -> LastingFreePages:
    """How many pages were free throughout the last `span` seconds, by what is remembered and by the `free` ones now.

    The memory reaches back without a gap of more than an hour: what nobody saw is not known.
    """
    current = int(now // HOUR)
    hours = {low.hour: low.pages for low in lows if int((now - span) // HOUR) <= low.hour <= current}
    known = current
    while (earlier := next((hour for hour in (known - 1, known - 2) if hour in hours), None)) is not None:
        known = earlier
    watched = now - known * HOUR if current in hours or known < current else 0.0
    return LastingFreePages(min([free, *hours.values()]), min(span, watched))


def choose_vacuum(
    pages: FilePages, stays: LastingFreePages, rate: float, *, careful: bool, only_slices: bool
) -> VacuumChoice:
    """The gentlest vacuum that is worth it. `rate`: live bytes a second of a full VACUUM.

    `careful`: nobody watches, so it must give back a tenth of the file; for a person a hundredth is enough, in slices any
    page, unless the queue fills some of them again. `only_slices`: never a full one.
    """
    kept = min(stays.pages, pages.free)
    by_measure = careful or kept < pages.free
    enough = max(MIN_RECLAIM_BYTES, int(MIN_RECLAIM_RATIO * pages.file_bytes)) if by_measure else pages.page_size
    if pages.auto_vacuum == "incremental" and kept * pages.page_size >= enough:
        why = f"{_free_page_summary(pages, stays)}, to be cut off the end of the file"
        return VacuumChoice("incremental", why, kept, kept * pages.page_size, MAX_SLICE_SECONDS)
    if only_slices or kept * pages.page_size < max(enough, int(MIN_MANUAL_RECLAIM_RATIO * pages.file_bytes)):
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
    kept = min(stays.pages, pages.free)
    if stays.watched == 0:
        return now if kept == pages.free else f"{now}, and at times only {kept}"
    return f"{now}, {kept} of them have been for {stays.watched / HOUR:.0f} hours"
