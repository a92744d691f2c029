"""Reads the list of free pages. Rows on a free page were deleted: they never go into a table.

Format: https://sqlite.org/fileformat2.html#the_freelist.
"""

import struct

from actions.salvaging.damaged_file import DamagedFile


def read_free_pages(file: DamagedFile) -> tuple[frozenset[int], bool]:
    """The pages on the free list, and whether the list is whole: as long as the header says, no page twice. Raises OSError."""
    layout = file.layout
    free: set[int] = set()
    trunk, entries = layout.first_trunk, 0
    while trunk and (page := file.read_page(trunk)) is not None and trunk not in free and len(page) == layout.page_size:
        free.add(trunk)
        following, count = struct.unpack_from(">2I", page)
        if count > layout.usable // 4 - 2:
            return frozenset(free), False
        leaves = struct.unpack_from(f">{count}I", page, 8)
        free.update(leaf for leaf in leaves if 2 <= leaf <= layout.pages)
        entries += 1 + count
        trunk = following
    whole = trunk == 0 and entries == len(free) == layout.free_pages and layout.header_whole
    return frozenset(free), whole
