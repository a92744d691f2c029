"""Chooses the rows of a table that can belong where they are: their rowids ascend through the whole tree. Pure.

A changed key, a page at the wrong place and a page of another table break the order. What breaks it is not given back as a
row of the table, since it may never have been one; a page whose rows fit exactly where another one is missing is.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

# How many of a page's rows must fit where it is for the page to belong there.
_FITTING_SHARE = 2 / 3
_NO_LIMIT = 1 << 64
# Gaps that are tried for a page at a wrong place.
_MOST_GAPS = 1000


@dataclass(frozen=True, slots=True)
class KeyBounds:
    """A row belongs to its page when its rowid lies between the two, both excluded."""

    above: int
    below: int

    def admits(self, rowid: int) -> bool:
        """Whether a row with this rowid may be there."""
        return self.above < rowid < self.below


ANY_KEY = KeyBounds(-_NO_LIMIT, _NO_LIMIT)


def ascending_positions(rowids: Sequence[int]) -> list[int]:
    """The positions of the most rowids that ascend, with room between two of them for those that are left out.

    Of several choices the one that ends with the smallest rowid: a changed bit rather makes a number too large.
    """
    if all(first < second for first, second in pairwise(rowids)):
        return list(range(len(rowids)))
    spaced = [rowid - position for position, rowid in enumerate(rowids)]
    tails: list[int] = []
    tail_positions: list[int] = []
    before = [-1] * len(spaced)
    for position, key in enumerate(spaced):
        length = bisect_right(tails, key)
        before[position] = tail_positions[length - 1] if length else -1
        if length == len(tails):
            tails.append(key)
            tail_positions.append(position)
        else:
            tails[length] = key
            tail_positions[length] = position
    chosen = []
    position = tail_positions[-1] if tail_positions else -1
    while position >= 0:
        chosen.append(position)
        position = before[position]
    return chosen[::-1]


def longest_ascent(rowids: Sequence[int]) -> bytearray:
    """For each rowid, 1 when it is of the longest ascending sequence (one of them, where there are several)."""
    tails: list[int] = []
    tail_positions: list[int] = []
    before = array("q", bytes(8 * len(rowids)))
    for position, rowid in enumerate(rowids):
        length = bisect_left(tails, rowid)
        before[position] = tail_positions[length - 1] if length else -1
        if length == len(tails):
            tails.append(rowid)
            tail_positions.append(position)
        else:
            tails[length] = rowid
            tail_positions[length] = position
    chosen = bytearray(len(rowids))
    position = tail_positions[-1] if tail_positions else -1
    while position >= 0:
        chosen[position] = 1
        position = before[position]
    return chosen


def bound_pages(pages: Sequence[Sequence[int]]) -> list[KeyBounds | None]:
    """For each page of a table, in tree order, which rowids it may have; None for a page of another place or table.

    `pages`: the rowids of each page in key order.
    """
    in_place = _pages_in_place(pages)
    gaps = _gaps_around(in_place)
    bounds: list[KeyBounds | None] = list(gaps)
    vacant = [gap for gap, chosen in zip(gaps, in_place, strict=True) if not chosen][:_MOST_GAPS]
    elsewhere = []
    for position, rowids in enumerate(pages):
        if rowids and not in_place[position]:
            bounds[position] = _find_gap(rowids, (gaps[position], *vacant))
            elsewhere += [position] if bounds[position] is None else []
    filled = [rowids for rowids in in_place if rowids]
    between = (KeyBounds(first[-1], second[0]) for first, second in pairwise(filled)) if elsewhere else ()
    elsewhere = elsewhere[:_MOST_GAPS]
    for gap in between:
        inside = [
            position for position in elsewhere if gap.admits(pages[position][0]) and gap.admits(pages[position][-1])
        ]
        if _fill_exactly(gap, [pages[position] for position in inside]):
            for position in inside:
                bounds[position] = gap
    return bounds


def _pages_in_place(pages: Sequence[Sequence[int]]) -> list[list[int]]:
    """For each page its rowids that ascend through the whole tree; none of a page most of whose rowids do not."""
    chosen = longest_ascent(array("q", chain.from_iterable(pages)))
    in_place, start = [], 0
    for rowids in pages:
        fitting = [rowid for offset, rowid in enumerate(rowids) if chosen[start + offset]]
        in_place.append(fitting if len(fitting) >= _FITTING_SHARE * len(rowids) else [])
        start += len(rowids)
    return in_place


def _gaps_around(in_place: Sequence[Sequence[int]]) -> list[KeyBounds]:
    """For each page the range between the rows before it and those after it."""
    aboves, above = [], -_NO_LIMIT
    for rowids in in_place:
        aboves.append(above)
        above = rowids[-1] if rowids else above
    belows, below = [], _NO_LIMIT
    for rowids in reversed(in_place):
        belows.append(below)
        below = rowids[0] if rowids else below
    return [KeyBounds(low, high) for low, high in zip(aboves, reversed(belows), strict=True)]


def _find_gap(rowids: Sequence[int], gaps: Sequence[KeyBounds]) -> KeyBounds | None:
    """The gap in which most of a page's rowids lie."""
    fewest = _FITTING_SHARE * len(rowids)
    low, high = min(rowids), max(rowids)
    meeting = (gap for gap in gaps if gap.above < high and gap.below > low)
    return next((gap for gap in meeting if sum(map(gap.admits, rowids)) >= fewest), None)


def _fill_exactly(gap: KeyBounds, pages: Sequence[Sequence[int]]) -> bool:
    """Whether pages have each rowid of a gap once: then they belong there, wherever they are."""
    room = gap.below - gap.above - 1
    return room == sum(map(len, pages)) and sorted(chain.from_iterable(pages)) == list(range(gap.above + 1, gap.below))
