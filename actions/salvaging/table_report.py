"""What became of each table, in numbers and words: rows that are there, rows that are missing and how we know."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from actions.salvaging.bring_over import TableCount
from actions.salvaging.damaged_file import DamagedFile
from actions.salvaging.schema_rows import DamagedSchema
from actions.salvaging.trees import Forest, WalkedTree, count_cells

# Rows in a page of a table of which no page could be read; only an estimate needs it.
_TYPICAL_ROWS = 10


@dataclass(frozen=True, slots=True)
class TableReport:
    """One table. `missing`: rows that it lacks; `exact`: they were counted in `counted_by`, an index that is whole.

    `apart`: rows in pages of its tree that were kept apart. `in_backup`: its rows in the newest verified backup, if any.
    `problem`: why the table itself could not be created, empty when it was.
    """

    name: str
    rows: int
    missing: int
    exact: bool
    counted_by: str
    apart: int
    in_backup: int | None = None
    problem: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether it lacks nothing, for certain."""
        return self.exact and not self.missing and not self.apart

    def in_words(self) -> str:
        """One sentence for people."""
        if self.problem:
            return f"could not be created again ({self.problem}); rows kept apart: {self.apart}"
        about = "" if self.exact or not self.missing else "about "
        how = f" (counted in its index {self.counted_by})" if self.counted_by and self.exact else ""
        words = f"{self.rows} rows kept, {about}{self.missing} lost{how}"
        if not self.exact and self.missing:
            words += " (estimated from its unreadable pages)"
        if self.apart:
            words += f", {self.apart} kept apart"
        if self.in_backup is not None:
            words += f"; the newest verified backup has {self.in_backup}"
        return words


def report_table(
    file: DamagedFile, schema: DamagedSchema, forest: Forest, name: str, tree: WalkedTree, count: TableCount
) -> TableReport:
    """Count or estimate what a table lacks. Raises OSError."""
    counted, index = _count_by_index(file, schema, forest, name)
    unread = sum(1 for slot in tree.slots if slot == 0)
    exact = bool(index) or (unread == 0 and count.broken == 0 and count.apart == 0)
    per_page = -(-count.inserted // count.pages) if count.pages else _TYPICAL_ROWS
    missing = max(0, counted - count.inserted) if index else unread * per_page + count.broken + count.apart
    return TableReport(name, count.inserted, missing, exact, index, count.apart)


def _count_by_index(file: DamagedFile, schema: DamagedSchema, forest: Forest, name: str) -> tuple[int, str]:
    """The most entries in a whole index of the table, and its name."""
    counts = [(count_cells(file, tree), index) for index, tree in whole_indexes(schema, forest, name).items()]
    return max(counts, default=(0, ""))


def whole_indexes(schema: DamagedSchema, forest: Forest, name: str) -> Mapping[str, WalkedTree]:
    """The indexes of a table of which no page is missing or contested, by name: they have an entry for each row.

    Partial ones do not.
    """
    whole = {}
    for entry in schema.indexes():
        tree = forest.trees.get(entry.root)
        if tree is None or tree.missing or entry.table.lower() != name.lower():
            continue
        contested = any(number in forest.contested for number in tree.slots)
        if not contested and not re.search(r"\bWHERE\b", entry.sql, re.IGNORECASE):
            whole[entry.name] = tree
    return whole


def richer_in_backup(reports: Sequence[TableReport], in_backup: Mapping[str, int]) -> Mapping[str, int]:
    """The tables of which the newest verified backup has more rows than were kept, with the number of rows more."""
    kept_rows = {report.name: report.rows for report in reports if not report.problem}
    more = {name: rows - kept_rows.get(name, 0) for name, rows in in_backup.items() if not name.startswith("sqlite_")}
    return {name: rows for name, rows in more.items() if rows > 0}


def describe_damage(file: DamagedFile, schema_broken: int) -> Iterator[str]:
    """What is damaged beside rows, a sentence each."""
    if not file.layout.header_whole:
        yield "the header of the file is damaged: page size and encoding were worked out from its pages"
    if schema_broken:
        yield "a part of the schema is unreadable: the rows of its tables are kept apart in lost_and_found"
    if file.wal.unused:
        yield f"{file.wal.unused} frames of the WAL are damaged or follow a damaged one: their changes are lost"
    if file.journal.offsets:
        yield f"an interrupted transaction is undone from the journal: {len(file.journal.offsets)} pages"
