"""Decides which tree gets a page that several trees lead to, or whose bytes are in two places.

After a changed pointer, or a page written at a wrong place, at most one claim is true. A claim counts when the rows fit
the table and the order of its keys; where several count, no table gets the page, and its rows are kept apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from actions.salvaging.bring_over import TableSource, read_fitting_rowids
from actions.salvaging.choose_rows import bound_pages
from actions.salvaging.pages import TABLE_LEAF
from actions.salvaging.read_rows import read_any_page, read_page_rows
from actions.salvaging.trees import Forest


@dataclass(frozen=True, slots=True)
class PageClaim:
    """A page in the tree of a table. `snug`: how many of its neighbours in that tree its keys directly join, 0 to 2."""

    root: int
    page: int
    counts: bool
    snug: int


def refuse_false_claims(sources: Mapping[int, TableSource], forest: Forest) -> Mapping[int, frozenset[int]]:
    """For each table's root, the pages of its tree whose rows it does not get. Raises OSError."""
    refused: dict[int, set[int]] = {root: set() for root in sources}
    groups = [{(root, page) for root in roots} for page, roots in forest.contested.items()]
    groups.extend(_find_twins(sources))
    judged: dict[int, dict[int, PageClaim]] = {}
    for group in groups:
        claims = [
            _judge_claims(sources, judged, root).get(page, PageClaim(root, page, False, 0))
            for root, page in group
            if root in sources
        ]
        winner = _choose_claim(claims, forest)
        for claim in claims:
            if claim is not winner:
                refused[claim.root].add(claim.page)
    return {root: frozenset(pages) for root, pages in refused.items()}


def _choose_claim(claims: list[PageClaim], forest: Forest) -> PageClaim | None:
    counting = [claim for claim in claims if claim.counts]
    if len(counting) > 1:
        # A root that another of these trees has as a child is no root.
        inner = [claim for claim in counting if not _is_inside(claim.root, counting, forest)]
        counting = inner or counting
    if len(counting) > 1:
        best = max(claim.snug for claim in counting)
        counting = [claim for claim in counting if claim.snug == best]
    return counting[0] if len(counting) == 1 else None


def _is_inside(root: int, claims: list[PageClaim], forest: Forest) -> bool:
    claimers = forest.contested.get(root, ())
    return any(claim.root != root and claim.root in claimers for claim in claims)


def _judge_claims(
    sources: Mapping[int, TableSource], judged: dict[int, dict[int, PageClaim]], root: int
) -> dict[int, PageClaim]:
    """The claims of one tree by page; worked out once."""
    if root not in judged:
        source = sources[root]
        judged[root] = _judge_ordered(source) if source.shape.with_rowid else _judge_unordered(source)
    return judged[root]


def _judge_ordered(source: TableSource) -> dict[int, PageClaim]:
    pages = [read_fitting_rowids(source, number) for number in source.tree.slots]
    bounds = bound_pages(pages)
    claims = {}
    for position, number in enumerate(source.tree.slots):
        if number:
            counts = bounds[position] is not None and _rows_fit(source, number)
            claims[number] = PageClaim(source.tree.root, number, counts, _joined_neighbours(pages, position))
    return claims


def _judge_unordered(source: TableSource) -> dict[int, PageClaim]:
    root = source.tree.root
    return {number: PageClaim(root, number, _rows_fit(source, number), 0) for number in source.tree.slots if number}


def _joined_neighbours(pages: Sequence[Sequence[int]], position: int) -> int:
    own = pages[position]
    before = pages[position - 1] if position else ()
    after = pages[position + 1] if position + 1 < len(pages) else ()
    if not own:
        return 0
    return bool(before and before[-1] + 1 == own[0]) + bool(after and own[-1] + 1 == after[0])


def _rows_fit(source: TableSource, number: int) -> bool:
    """Whether most rows of the page could be rows of the table."""
    read = read_any_page(source.file, number)
    if read is None:
        return False
    rows = read_page_rows(source.file, number, read[0], source.claimed).rows
    fitting = sum(1 for row in rows if row.trusted and source.shape.can_hold(row.values))
    return 2 * fitting > len(rows) or not rows


def _find_twins(sources: Mapping[int, TableSource]) -> list[set[tuple[int, int]]]:
    """Pages with rows that are the same byte by byte, in the trees of different tables: one of them is a misplaced copy."""
    seen: dict[int, tuple[int, int]] = {}
    twins = []
    for root, source in sources.items():
        for number in source.tree.slots:
            read = read_any_page(source.file, number) if number else None
            if read is None or read[1] != TABLE_LEAF or read[0][3:5] == b"\0\0":
                continue
            other = seen.setdefault(hash(read[0]), (root, number))
            if other[0] != root:
                twins.append({other, (root, number)})
    return twins
