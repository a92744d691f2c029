"""Walks b-trees from their roots: which pages belong to which table or index, and which pages are claimed twice.

Cycles, pages out of the file and pages of a wrong kind end a branch; each such branch is counted.
"""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

from actions.salvaging.damaged_file import DamagedFile
from actions.salvaging.pages import (
    INDEX_INTERIOR,
    INDEX_LEAF,
    INTERIOR_TYPES,
    TABLE_INTERIOR,
    TABLE_LEAF,
    child_pages,
    declared_cells,
)
from actions.salvaging.read_rows import read_any_page


@dataclass(slots=True)
class WalkedTree:
    """The pages of one b-tree. `slots`: its pages with rows in key order, 0 where one is missing; `interior`: the others.

    `missing`: branches that lead nowhere. An index has rows in its interior pages too: they are among the slots.
    """

    root: int
    slots: "array[int]" = field(default_factory=lambda: array("I"))
    interior: "array[int]" = field(default_factory=lambda: array("I"))
    missing: int = 0


@dataclass(frozen=True, slots=True)
class Forest:
    """All trees by root. `claimed`: one byte for each page, 1 when a tree has it. `contested`: the roots that claim a page."""

    trees: Mapping[int, WalkedTree]
    claimed: bytearray
    contested: Mapping[int, list[int]]


def walk_tree(file: DamagedFile, root: int, *, table: bool) -> WalkedTree:
    """Walk one tree in key order. Raises OSError."""
    tree = WalkedTree(root)
    leaf, interior = (TABLE_LEAF, TABLE_INTERIOR) if table else (INDEX_LEAF, INDEX_INTERIOR)
    visited = set()
    stack = [root]
    while stack:
        number = stack.pop()
        read = None if number in visited else read_any_page(file, number)
        if read is None or read[1] not in (leaf, interior):
            tree.missing += 1
            tree.slots.append(0)
            continue
        visited.add(number)
        if read[1] == leaf or not table:
            tree.slots.append(number)
        if read[1] == interior:
            tree.interior.append(number)
            stack.extend(reversed(child_pages(read[0], number)))
    return tree


def walk_trees(file: DamagedFile, roots: Mapping[int, bool]) -> Forest:
    """Walk the trees of these roots (true: a table's). Page 1 and its tree, the schema, must be among them. Raises OSError."""
    trees = {root: walk_tree(file, root, table=table) for root, table in roots.items()}
    claimed = bytearray(file.layout.pages + 1)
    contested: dict[int, list[int]] = {}
    for root, tree in trees.items():
        for number in set(tree.slots) | set(tree.interior):
            if number and claimed[number]:
                contested.setdefault(number, []).append(root)
            elif number:
                claimed[number] = 1
    for root, tree in trees.items():
        for number in set(tree.slots) | set(tree.interior):
            if number in contested and root not in contested[number]:
                contested[number].insert(0, root)
    return Forest(trees, claimed, contested)


def count_cells(file: DamagedFile, tree: WalkedTree) -> int:
    """How many cells the pages with rows of a tree say they have: the rows of a whole index."""
    total = 0
    for number in tree.slots:
        read = read_any_page(file, number) if number else None
        total += 0 if read is None else declared_cells(read[0], number)
    return total


def find_orphan_roots(file: DamagedFile, claimed: bytearray) -> Mapping[int, int]:
    """For each page that no tree has and that an unclaimed interior page leads to: that interior page. Raises OSError."""
    parents: dict[int, int] = {}
    for number in range(1, file.layout.pages + 1):
        read = None if claimed[number] else read_any_page(file, number)
        if read is not None and read[1] in INTERIOR_TYPES:
            for child in child_pages(read[0], number):
                if 1 < child <= file.layout.pages and child != number and not claimed[child]:
                    parents.setdefault(child, number)
    return parents


def topmost_parent(parents: Mapping[int, int], number: int) -> int:
    """The page above which no other leads to this one; the page itself when none does."""
    visited = {number}
    while (parent := parents.get(number)) is not None and parent not in visited:
        visited.add(parent)
        number = parent
    return number
