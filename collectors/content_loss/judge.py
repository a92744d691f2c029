"""Judges whether a database lost most of its content, by what it held before. Pure: the rule is in docs/safety.md.

Queues drain, and that is no loss: a task table may be empty every night. So what counts is what no drain does: tables
that are gone, tables empty that hold no tasks, AUTOINCREMENT numbers that went back with their rows, and a file that
became smaller in a way that SQLite never makes one smaller.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

# Above this share of its content a database lost most of it. The alert has the same number (exporter/alert_rules).
MOST = 0.5
# A table is as good as empty with a tenth of its rows.
EMPTIED = 0.1
# A poll counts so many rows of a table and no more; then the number is a lower bound.
COUNTED_ROWS = 100
_MOST_NAMES = 5


@dataclass(frozen=True, slots=True)
class ContentFacts:
    """What a database held at `time` (seconds since the epoch). `rows` by table, without SQLite's own and virtual tables.

    `exact`: the rows were counted to the end, not to COUNTED_ROWS. `numbers`: the last AUTOINCREMENT number by table.
    `draining`: the tables, in lower
    case, that the queue profile names: their rows come and go. `pages`, `schema_version`: None where not
    known; `shrinks_itself`: auto_vacuum, so its pages may become fewer without a VACUUM.
    """

    time: float
    rows: Mapping[str, int] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)
    draining: frozenset[str] = frozenset()
    pages: int | None = None
    schema_version: int | None = None
    shrinks_itself: bool = False
    exact: bool = False


@dataclass(frozen=True, slots=True)
class ContentLoss:
    """The share of the content that is gone, from 0 to 1, since when it was there, and what that is, in words."""

    share: float
    since: float
    words: str

    @property
    def is_most(self) -> bool:
        """Whether it is so much that nothing automatic may go on as if nothing had happened."""
        return self.share > MOST


def lost_most_content(before: ContentFacts, now: ContentFacts) -> ContentLoss | None:
    """The loss where most of what `before` holds is gone; None where it is not, or where there was nothing to lose."""
    loss = measure_content_loss(before, now)
    return loss if loss.is_most else None


def measure_content_loss(before: ContentFacts, now: ContentFacts) -> ContentLoss:
    """How much of what `before` holds is gone: the largest of the shares of tables, of their rows, and of filled tables."""
    gone = _gone_tables(before, now)
    filled = {table: count for table, count in before.rows.items() if count > 0}
    emptied = [table for table in filled if table in now.rows and _is_emptied(before, now, table)]
    excused = _excused_tables(before, now, gone, emptied)
    lost = [table for table in emptied if table not in excused]
    judged = len(filled) - len(excused)
    shares = (
        len(gone) / len(before.rows) if before.rows else 0.0,
        sum(before.rows[table] for table in gone) / (sum(filled.values()) or 1),
        (len(lost) + sum(table in filled for table in gone)) / judged if judged else 0.0,
    )
    return ContentLoss(max(shares), before.time, "; ".join(_describe_loss(before, now, gone, lost)))


def _gone_tables(before: ContentFacts, now: ContentFacts) -> list[str]:
    """The tables that are gone. Where new ones have their rows, they were renamed."""
    gone = [table for table in before.rows if table not in now.rows]
    new = [table for table in now.rows if table not in before.rows]
    moved = sum(min(now.rows[table], COUNTED_ROWS) for table in new)
    former = sum(min(before.rows[table], COUNTED_ROWS) for table in gone)
    return [] if len(new) >= len(gone) and moved > former * (1 - MOST) else gone


def _is_emptied(before: ContentFacts, now: ContentFacts, table: str) -> bool:
    few = now.rows[table] <= before.rows[table] * EMPTIED
    return few and (now.exact or now.rows[table] < COUNTED_ROWS)


def _excused_tables(before: ContentFacts, now: ContentFacts, gone: list[str], emptied: list[str]) -> frozenset[str]:
    """The emptied tables whose rows come and go: the profile's, and alone those that went on numbering their rows."""
    if is_another_file(before, now):
        return frozenset()
    draining = now.draining or before.draining
    others = [table for table in before.rows if before.rows[table] and table.lower() not in draining]
    whole = len(others) > 1 and all(table in emptied or table in gone for table in others)
    return frozenset(
        table
        for table in emptied
        if not _number_went_back(before, now, table)
        and (table.lower() in draining or (before.numbers.get(table, 0) > 0 and not whole))
    )


def _number_went_back(before: ContentFacts, now: ContentFacts, table: str) -> bool:
    return now.numbers.get(table, 0) < before.numbers.get(table, 0)


def is_another_file(before: ContentFacts, now: ContentFacts) -> bool:
    """Whether it cannot be the file that it was: fewer pages, and no VACUUM since, which counts the schema version up.

    A file without auto_vacuum becomes smaller by VACUUM alone (https://sqlite.org/pragma.html#pragma_schema_version).
    """
    if before.pages is None or now.pages is None or before.schema_version is None or now.schema_version is None:
        return False
    smaller = now.pages < before.pages and not (before.shrinks_itself or now.shrinks_itself)
    return smaller and now.schema_version <= before.schema_version


def _describe_loss(before: ContentFacts, now: ContentFacts, gone: list[str], lost: list[str]) -> Iterator[str]:
    if gone and not now.rows:
        yield f"all {len(before.rows)} tables are gone"
    elif gone:
        yield f"{len(gone)} of {len(before.rows)} tables are gone ({_join_names(gone)})"
    if lost:
        yield f"{len(lost)} tables lost their rows ({_join_names(lost)})"
    if any(_number_went_back(before, now, table) for table in lost):
        yield "their AUTOINCREMENT numbers went back"
    if (gone or lost) and is_another_file(before, now):
        yield f"the file has {now.pages} pages instead of {before.pages}, without a VACUUM: it was replaced or cut"


def _join_names(names: list[str]) -> str:
    more = f", {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
