"""The messages of integrity_check by what is wrong, from SQLite's source; names that a user chose cannot mislead it.

Each pattern is anchored at the start of a message, before any name. Pages are reported in one row that begins with
`*** in database NAME ***`, a line for each problem, which names no table (checkTreePage, checkList in src/btree.c). All other
rows are of src/pragma.c, or of a virtual table's own check. https://sqlite.org/src/file/src/pragma.c
"""

import re
from collections.abc import Iterable
from typing import Literal

# `pages`: trees of pages; `accounting`: free pages and the map of pages, no content; `order`: keys of a table WITHOUT ROWID;
# `index`: an index differs from its table; `unique`: two rows have a key that may exist once; `rows`: rows break a declared
# rule (NOT NULL, CHECK, the type in a STRICT table); `virtual`: the index of a virtual table; `other`: not known here.
ProblemKind = Literal["pages", "accounting", "order", "index", "unique", "rows", "virtual", "other"]

_HEADING = re.compile(r"\*\*\* in database .* \*\*\*\n?")
_ROW_KINDS: tuple[tuple[ProblemKind, re.Pattern[str]], ...] = (
    (
        "index",
        re.compile(r"row -?\d+ missing from index |row -?\d+ values differ from index |wrong # of entries in index "),
    ),
    ("index", re.compile(r"rowid not at end-of-record for row -?\d+ of index ")),
    ("unique", re.compile(r"non-unique entry in index ")),
    ("pages", re.compile(r"database disk image is malformed$")),
    ("order", re.compile(r"row not in PRIMARY KEY order for ")),
    ("rows", re.compile(r"NULL value in |CHECK constraint failed in |(non-[A-Z]+|NUMERIC|TEXT) value in ")),
    ("virtual", re.compile(r"(malformed|unable to validate the) inverted index for FTS\d+ table |fts\d: ")),
    (
        "virtual",
        re.compile(r"In RTree |In GeoPoly "),
    ),
)
_PAGE_KINDS: tuple[tuple[ProblemKind, re.Pattern[str]], ...] = (
    ("accounting", re.compile(r"Freelist: |Page \d+: (never used|pointer map referenced)")),
    ("accounting", re.compile(r"max rootpage |incremental_vacuum enabled")),
    ("accounting", re.compile(r"(Tree \d+ page \d+[^:]*: )?(Failed to read ptrmap key|Bad ptr map entry key)")),
    ("pages", re.compile(r"")),
)
# A second reference to a page in the list of free pages: a page is free and used, so the next write damages what uses it.
_SHARED_FREE_PAGE = re.compile(r"Freelist: 2nd reference to page ")
_MISSING_TOKENIZER = re.compile(
    r"unable to validate the inverted index for FTS\d+ table .*: (no such tokenizer|SQL logic error)"
)


def classify_message(message: str) -> frozenset[ProblemKind]:
    """What is wrong by one row of integrity_check or quick_check, as SQLite gave it; nothing for `ok`."""
    if message == "ok":
        return frozenset()
    heading = _HEADING.match(message)
    if heading is None:
        return frozenset({_first_kind(message, _ROW_KINDS)})
    return frozenset(_page_kind(line) for line in message[heading.end() :].splitlines() if line)


def classify_messages(messages: Iterable[str]) -> frozenset[ProblemKind]:
    """What is wrong by all rows together."""
    return frozenset().union(*map(classify_message, messages))


def is_about_rows(message: str) -> bool:
    """Whether only rows break a rule: no page is damaged, and a copy has them too."""
    return classify_message(message) == {"rows"}


def is_missing_extension(message: str) -> bool:
    """Whether a virtual table could not be checked here, because a tokenizer is not known."""
    return _MISSING_TOKENIZER.match(message) is not None


def _page_kind(line: str) -> ProblemKind:
    return "pages" if _SHARED_FREE_PAGE.match(line) else _first_kind(line, _PAGE_KINDS)


def _first_kind(text: str, kinds: tuple[tuple[ProblemKind, re.Pattern[str]], ...]) -> ProblemKind:
    return next((kind for kind, pattern in kinds if pattern.match(text)), "other")


RESTORE_STEP = (
    "keep all backups; restore the newest good one: `queuekeeper backups verify`, `queuekeeper restore`; without one: "
    "`queuekeeper salvage`"
)
_ROWS_STEP = (
    "no page is damaged: rows break a rule that the schema declares; have the application's owner correct these rows, then "
    "check with --full"
)
_INDEX_STEP = "only indexes are damaged: have the application's owner run REINDEX, then check with --full"
_UNIQUE_STEP = (
    "only indexes are damaged, and rows have the same unique key: have the application's owner remove one of each two, run "
    "REINDEX, then check with --full"
)
_VIRTUAL_STEP = (
    "only the index of a virtual table is damaged: have the application's owner rebuild it (FTS: INSERT INTO t(t) "
    "VALUES('rebuild')), then check with --full"
)
_ACCOUNTING_STEP = (
    "no content is damaged, but pages are counted wrongly: stop the application, take a backup, have its owner run VACUUM, "
    "then check with --full"
)
# The first whose kinds contain all that is wrong.
_STEPS: tuple[tuple[frozenset[ProblemKind], str], ...] = (
    (frozenset({"rows"}), _ROWS_STEP),
    (frozenset({"index"}), _INDEX_STEP),
    (frozenset({"index", "unique"}), _UNIQUE_STEP),
    (frozenset({"virtual"}), _VIRTUAL_STEP),
    (frozenset({"accounting", "index", "unique"}), _ACCOUNTING_STEP),
)


def cure_of(kinds: frozenset[ProblemKind]) -> str:
    """The next step that helps against all of these."""
    rest = kinds - {"rows"} or kinds
    return next((step for cured, step in _STEPS if rest <= cured), RESTORE_STEP)
