"""Keeps the rows of pages that belong to no known table apart."""

from collections.abc import Iterator

from actions.salvaging.damaged_file import DamagedFile
from actions.salvaging.free_list import read_free_pages
from actions.salvaging.lost_and_found import LostAndFound
from actions.salvaging.pages import INDEX_INTERIOR, LEAF_TYPES
from actions.salvaging.read_rows import read_any_page, read_page_rows
from actions.salvaging.trees import Forest, find_orphan_roots, topmost_parent


def keep_orphans_apart(
    file: DamagedFile, forest: Forest, unused_trees: frozenset[int], apart: LostAndFound, *, complete: bool
) -> Iterator[int]:
    """Keep the rows of all pages apart that no tree has, or only a tree without a table; yields after each such page.

    Free pages hold deleted rows, and older copies of rows. Where all tables are `complete` and the free list is whole, they are
    left out. Raises apsw.Error, OSError.
    """
    free, list_whole = read_free_pages(file)
    for root in sorted(unused_trees):
        for number in forest.trees[root].slots:
            if number and number not in forest.contested:
                _keep_page_apart(file, forest, number, root, free, apart)
                yield number
    parents = find_orphan_roots(file, forest.claimed)
    for number in range(1, file.layout.pages + 1):
        if not forest.claimed[number] and not (complete and list_whole and number in free):
            _keep_page_apart(file, forest, number, topmost_parent(parents, number), free, apart)
            yield number


def _keep_page_apart(
    file: DamagedFile, forest: Forest, number: int, root: int, free: frozenset[int], apart: LostAndFound
) -> None:
    read = read_any_page(file, number)
    if read is None or not (read[1] in LEAF_TYPES or read[1] == INDEX_INTERIOR):
        return
    for row in read_page_rows(file, number, read[0], forest.claimed).rows:
        apart.keep_apart(row, root=root, page=number, free=number in free)
