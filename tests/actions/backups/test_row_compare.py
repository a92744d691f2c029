"""Rows on the pages of the WAL are compared whatever the tables look like; what cannot be is told, and compared otherwise."""

import random
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest

from actions.backups.copy_proof import prove_copy
from actions.backups.file_compare import read_wal_pages
from actions.backups.row_compare import compare_rows
from actions.backups.snapshot_pin import SnapshotPin, pin_snapshot
from actions.model.context import ActionContext
from actions.model.errors import Unverified
from actions.model.stop import StopSignal
from collectors.raw_reader.client import RawReader
from collectors.target import Limits
from tests.support.scenes.run_actions import target_of

ROWS = 3000
_SERIES = f"WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {ROWS})"

# Statements that fill a table `t`, a change of what it holds, and whether its rows can be compared by rowid.
SHAPES = {
    "small rows": (
        "CREATE TABLE t (a INT, b TEXT)",
        "SELECT i, 'queued' FROM s",
        "UPDATE t SET a = -a WHERE a % 7 = 0",
        True,
    ),
    "an index": (
        "CREATE TABLE t (a INT, b TEXT); CREATE INDEX ti ON t (b, a); CREATE UNIQUE INDEX tj ON t (a)",
        "SELECT i, 'queued' FROM s",
        "UPDATE t SET b = 'done' WHERE a % 500 = 0",
        True,
    ),
    "negative rowids": (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, b TEXT)",
        "SELECT (i - 1500) * 3000000000000000, 'queued' FROM s",
        "UPDATE t SET b = 'QUEUED' WHERE id % 70 = 0",
        True,
    ),
    "rows gone and come": (
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, b BLOB)",
        "SELECT i, randomblob(300) FROM s",
        "DELETE FROM t WHERE id BETWEEN 100 AND 900; INSERT INTO t (b) SELECT randomblob(90) FROM t LIMIT 801",
        True,
    ),
    "long rows rewritten whole": (
        "CREATE TABLE t (a INT, b BLOB)",
        "SELECT i, randomblob(CASE WHEN i % 300 THEN 20 ELSE 9000 END) FROM s",
        "UPDATE t SET b = randomblob(9100) WHERE a % 600 = 0",
        True,
    ),
    "the end of a long row": (
        "CREATE TABLE t (a INT, b BLOB)",
        "SELECT i, zeroblob(CASE WHEN i % 300 THEN 20 ELSE 9000 END) FROM s",
        "UPDATE t SET b = CAST(zeroblob(8999) || x'01' AS BLOB) WHERE a % 600 = 0",
        False,
    ),
    "no rowid": (
        "CREATE TABLE t (a INT PRIMARY KEY, b TEXT) WITHOUT ROWID",
        "SELECT i, 'queued' FROM s",
        "UPDATE t SET b = 'QUEUED' WHERE a % 500 = 0",
        False,
    ),
    "columns named rowid and oid": (
        "CREATE TABLE t (rowid TEXT, OID INT)",
        "SELECT 'queued', i FROM s",
        "UPDATE t SET oid = -oid WHERE oid % 500 = 0",
        True,
    ),
    "every name of the rowid is a column's": (
        "CREATE TABLE t (rowid TEXT, oid INT, _rowid_ INT)",
        "SELECT 'queued', i, i FROM s",
        "UPDATE t SET oid = -oid WHERE oid % 500 = 0",
        False,
    ),
    "text that is none": (
        "CREATE TABLE t (a INT, b TEXT)",
        "SELECT i, CAST(x'ff00fe' AS TEXT) FROM s",
        "UPDATE t SET b = CAST(x'ff00fd' AS TEXT) WHERE a % 500 = 0",
        False,
    ),
    "1 is not 1.0": ("CREATE TABLE t (a INT, b)", "SELECT i, 1 FROM s", "UPDATE t SET b = 1.0 WHERE a % 500 = 0", True),
    "case that a collation does not see": (
        "CREATE TABLE t (a INT, b TEXT COLLATE NOCASE)",
        "SELECT i, 'queued' FROM s",
        "UPDATE t SET b = 'QUEUED' WHERE a % 500 = 0",
        True,
    ),
    "generated columns": (
        'CREATE TABLE t (a INT, "b ""c" TEXT, d AS (a * 2), e AS (a + 1) STORED)',
        "SELECT i, 'queued' FROM s",
        "UPDATE t SET a = -a WHERE a % 500 = 0",
        True,
    ),
    "full text search": (
        "CREATE VIRTUAL TABLE t USING fts5 (b)",
        "SELECT 'the task number ' || i FROM s",
        "UPDATE t SET b = 'THE OTHER TASK' WHERE rowid % 500 = 0",
        None,
    ),
}


@pytest.fixture
def context(tmp_path: Path, raw: RawReader) -> ActionContext:
    return ActionContext(
        target=target_of(tmp_path / "q.db", limits=Limits(disk_reserve=0)),
        options={},
        automatic=False,
        trust_owner=False,
        last_attempt=None,
        source_failure="",
        raw=raw,
        stop=StopSignal(),
        now=time.time,
        emit=lambda _event: None,
    )


@contextmanager
def changed_database(
    context: ActionContext, shape: str, page_size: int, auto_vacuum: int
) -> Iterator[tuple[SnapshotPin, Path, Path]]:
    """A pin on the database after the change, whose WAL holds the change alone; the right copy, and that of before it."""
    create, rows, change, _ = SHAPES[shape]
    folder = context.target.path.parent
    before, right = folder / "before.db", folder / "right.db"
    with closing(apsw.Connection(str(context.target.path))) as owner:
        owner.execute(
            f"PRAGMA page_size={page_size}; PRAGMA auto_vacuum={auto_vacuum}; PRAGMA journal_mode=WAL"
        ).fetchall()
        columns = '(a, "b ""c")' if shape == "generated columns" else ""
        owner.execute(f"{create}; CREATE TABLE idle (x); {_SERIES} INSERT INTO t {columns} {rows}")
        owner.pragma("wal_checkpoint", "truncate")
        owner.wal_autocheckpoint(0)
        copy_to(owner, before)
        owner.execute(change)
        copy_to(owner, right)
        with pin_snapshot(context) as pin:
            yield pin, right, before


def tells_or_finds(context: ActionContext, pin: SnapshotPin, copy: Path, pages: set[int]) -> bool:
    """Whether the rows are said to differ, or some pages not to be compared."""
    try:
        return compare_rows(context, pin, copy, pages) != set()
    except (Unverified, apsw.CorruptError):
        return True


def copy_to(owner: apsw.Connection, path: Path) -> None:
    with closing(apsw.Connection(str(path))) as copy:
        with copy.backup("main", owner, "main") as backup:
            backup.step(-1)
        copy.execute("PRAGMA journal_mode=DELETE").fetchall()


@pytest.mark.parametrize(("page_size", "auto_vacuum"), [(4096, 0), (512, 1), (65536, 2)])
@pytest.mark.parametrize("shape", SHAPES)
def test_right_rows_pass_and_stale_ones_do_not(
    context: ActionContext, shape: str, page_size: int, auto_vacuum: int
) -> None:
    by_rowid = SHAPES[shape][3]
    with changed_database(context, shape, page_size, auto_vacuum) as (pin, right, before):
        pages = read_wal_pages(pin)
        assert pages
        uncompared = compare_rows(context, pin, right, pages)
        if page_size == 4096 and by_rowid is not None:
            assert (uncompared == set()) == by_rowid
        prove_copy(context, pin, right, "pages")
        if pin.pages * page_size == before.stat().st_size:
            assert tells_or_finds(context, pin, before, pages)
        with pytest.raises(Unverified):
            prove_copy(context, pin, before, "pages")


def test_many_rows_are_compared_by_the_pages_of_the_wal_alone(context: ActionContext) -> None:
    """A large database of which the WAL holds little is not read whole through SQLite."""
    with changed_database(context, "small rows", 512, 0) as (pin, right, _before):
        pages = read_wal_pages(pin)
        assert compare_rows(context, pin, right, set(list(pages)[:2])) == set()


def test_damage_of_a_tree_is_told_and_nothing_runs_away(context: ActionContext) -> None:
    chance = random.Random(7)
    with changed_database(context, "an index", 4096, 1) as (pin, right, _before):
        pages, whole = read_wal_pages(pin), right.read_bytes()
        for _ in range(60):
            damaged = bytearray(whole)
            for _ in range(4):
                damaged[chance.randrange(100, len(damaged))] = chance.randrange(256)
            right.write_bytes(damaged)
            tells_or_finds(context, pin, right, pages)
            with pytest.raises(Unverified):
                prove_copy(context, pin, right, "pages")
