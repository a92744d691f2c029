"""Asks the whole indexes of a table about its rowids: each row of it has an entry there that ends with its rowid.

An index may itself be out of step with its table, a common damage: it only decides about rows that are doubtful anyway.
"""

from collections.abc import Iterator, Sequence

from actions.salvaging.bring_over import TableSource, iterate_rowids
from actions.salvaging.damaged_file import DamagedFile
from actions.salvaging.read_rows import read_any_page, read_page_rows
from actions.salvaging.trees import WalkedTree

# With more keys that stand alone than this, standing alone is nothing unusual.
_MOST_LONELY, _LONELY_SHARE = 10_000, 0.05
# A tree is judged by so many of its keys, and by an index with at least so many entries.
_SAMPLE, _FEWEST_ENTRIES = 200, 20


def find_doubtful_keys(source: TableSource, indexes: Sequence[WalkedTree]) -> frozenset[int]:
    """The rowids that stand alone in a table of joining keys, and that no whole index knows: changed keys. Raises OSError."""
    lonely: set[int] = set()
    rows = 0
    before, current = None, None
    for rowid in (*iterate_rowids(source), None) if indexes else ():
        if current is not None:
            rows += 1
            if before != current - 1 and rowid != current + 1:
                lonely.add(current)
        if len(lonely) > _MOST_LONELY:
            return frozenset()
        before, current = current, rowid
    if not lonely or len(lonely) > max(1, rows * _LONELY_SHARE):
        return frozenset()
    for index in indexes:
        lonely.difference_update(_index_rowids(source.file, index))
    return frozenset(lonely)


def is_foreign_tree(source: TableSource, indexes: Sequence[WalkedTree]) -> bool:
    """Whether the tree belongs to another table: no index knows a single row of it. Raises OSError.

    One index may be the misplaced one, so then all rows must also be shorter than the table's.
    """
    sample = _sample_rows(source)
    short = all(length < len(source.shape.columns) for length in sample.values())
    if not sample or not indexes or not (short or len(indexes) > 1):
        return False
    entries = 0
    for index in indexes:
        for rowid in _index_rowids(source.file, index):
            entries += 1
            if rowid in sample:
                return False
    return entries >= _FEWEST_ENTRIES


def _sample_rows(source: TableSource) -> dict[int, int]:
    """Rowids of the first pages of a table, with the number of values of each row."""
    sample: dict[int, int] = {}
    for number in source.tree.slots:
        read = read_any_page(source.file, number) if number else None
        if read is not None and len(sample) < _SAMPLE:
            rows = read_page_rows(source.file, number, read[0], source.claimed).rows
            sample.update((row.rowid, len(row.values)) for row in rows if row.trusted and row.rowid is not None)
    return sample


def _index_rowids(file: DamagedFile, index: WalkedTree) -> Iterator[int]:
    unclaimed = bytearray(file.layout.pages + 1)
    for number in index.slots:
        read = read_any_page(file, number) if number else None
        if read is not None:
            for row in read_page_rows(file, number, read[0], unclaimed).rows:
                if row.trusted and isinstance(row.values[-1], int):
                    yield row.values[-1]
