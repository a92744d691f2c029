"""Chooses the rows of a table that can belong where they are: their rowids ascend through the whole tree. Pure.

A changed key, a page at the wrong place and a page of another table break the order. What breaks it is not given back as a
row of the table, since it may never have been one; a page whose rows fit exactly where another one is missing is.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

# How much of an out-of-order page must fit into a gap to belong there.
_FITTING_SHARE = 2 / 3
_NO_LIMIT = 1 << 64


@dataclass(frozen=True, slots=True)
class PageKeys:
    """The range of the rowids of one page in key order, and how many rows it has; no row: `rows` is 0."""

    first: int
    last: int
    rows: int


@dataclass(frozen=True, slots=True)
class KeyBounds:
    """A row belongs to its page when its rowid lies between the two, both excluded. `exclusive` bounds of nothing: None."""

    above: int
    below: int

    def admits(self, rowid: int) -> bool:
        """Whether a row with this rowid may be there."""
        return self.above < rowid < self.below


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


def page_keys(rowids: Sequence[int]) -> PageKeys:
    """The range of a page, without the rowids that break its order."""
    chosen = ascending_positions(rowids)
    if not chosen:
        return PageKeys(0, 0, 0)
    return PageKeys(rowids[chosen[0]], rowids[chosen[-1]], len(chosen))


def bound_pages(pages: Sequence[PageKeys]) -> list[KeyBounds | None]:
    """For each page of a table, in tree order, which rowids it may have; None for a page of another place or table."""
    chain = _heaviest_chain(pages)
    bounds: list[KeyBounds | None] = [None] * len(pages)
    gaps = list(_gaps_between(pages, chain))
    for position, gap in gaps:
        bounds[position] = gap
    in_chain = set(chain)
    vacant = [gap for position, gap in gaps if position not in in_chain]
    for position, page in enumerate(pages):
        if position not in in_chain and page.rows:
            own = bounds[position]
            bounds[position] = next((gap for gap in (own, *vacant[:1000]) if gap and _fits_gap(page, gap)), None)
    return bounds


def _fits_gap(page: PageKeys, gap: KeyBounds) -> bool:
    """Whether most of a page with evenly spread rowids lies in the gap."""
    low, high = max(page.first, gap.above + 1), min(page.last, gap.below - 1)
    return high >= low and (high - low + 1) >= _FITTING_SHARE * (page.last - page.first + 1)


def _gaps_between(pages: Sequence[PageKeys], chain: Sequence[int]) -> Iterator[tuple[int, KeyBounds]]:
    """For each page the free range between the pages of the chain around it."""
    following, below_at = 0, _NO_LIMIT
    above = -_NO_LIMIT
    for position in range(len(pages)):
        in_chain = following < len(chain) and chain[following] == position
        following += in_chain
        below_at = pages[chain[following]].first if following < len(chain) else _NO_LIMIT
        yield position, KeyBounds(above, below_at)
        if in_chain:
            above = pages[position].last


def _heaviest_chain(pages: Sequence[PageKeys]) -> list[int]:
    """The positions of pages whose ranges follow each other, with the most rows in all."""
    positions = [position for position, page in enumerate(pages) if page.rows]
    if all(pages[first].last < pages[second].first for first, second in pairwise(positions)):
        return positions
    ends: list[int] = []  # ascending, with weights that ascend too
    best: list[tuple[int, int]] = []  # (weight, position) for each end
    before: dict[int, int] = {}
    for position in positions:
        page = pages[position]
        at = bisect_left(ends, page.first)
        weight, previous = best[at - 1] if at else (0, -1)
        before[position] = previous
        _insert_end(ends, best, page.last, (weight + page.rows, position))
    return _follow_back(before, best[-1][1])


def _insert_end(ends: list[int], best: list[tuple[int, int]], end: int, candidate: tuple[int, int]) -> None:
    at = bisect_right(ends, end)
    if at and best[at - 1][0] >= candidate[0]:
        return
    while at < len(ends) and best[at][0] <= candidate[0]:
        del ends[at], best[at]
    if at and ends[at - 1] == end:
        at -= 1
        del ends[at], best[at]
    ends.insert(at, end)
    best.insert(at, candidate)


def _follow_back(before: dict[int, int], position: int) -> list[int]:
    chain = []
    while position >= 0:
        chain.append(position)
        position = before[position]
    return chain[::-1]
