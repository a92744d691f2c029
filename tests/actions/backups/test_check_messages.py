"""The classes of SQLite's messages, on real damage of each kind, and on names that try to mislead."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from actions.backups.check_messages import (
    RESTORE_STEP,
    ProblemKind,
    classify_message,
    classify_messages,
    cure_of,
)

PAGE = 1024
MANY = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) "
# Names that contain what other messages begin with.
TRICKY = (
    '"index"',
    '"row 1 missing from index x"',
    '"Freelist: x"',
    '"a\nTree 2 page 3: x"',
    '"*** in database main ***"',
)


def _make(path: Path, sql: str, table: str = "t") -> apsw.Connection:
    owner = apsw.Connection(str(path))
    owner.pragma("page_size", PAGE)
    owner.execute(sql)
    return owner


@contextmanager
def _schema_edit(owner: apsw.Connection) -> Iterator[None]:
    """The schema can be written as a text: what is declared then differs from what was stored."""
    owner.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    owner.pragma("writable_schema", "on")
    yield
    owner.execute(f"PRAGMA schema_version = {int(owner.pragma('schema_version')) + 1}")
    owner.close()


def _redeclare(path: Path, made: str, filled: str, name: str, declared: str) -> None:
    owner = _make(path, f"{made}; {filled}")
    with _schema_edit(owner):
        owner.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (declared, name))


def _patch(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def _root(path: Path, name: str) -> int:
    owner = apsw.Connection(str(path))
    root = int(owner.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).get)
    owner.close()
    return root


def _index_without_rows(path: Path) -> None:
    """Rows are written while the index is hidden."""
    owner = _make(path, f"CREATE TABLE t (a); CREATE INDEX i ON t (a); INSERT INTO t {MANY} SELECT i FROM n")
    with _schema_edit(owner):
        (row,) = owner.execute(
            "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema WHERE name = 'i'"
        ).fetchall()
        owner.execute("DELETE FROM sqlite_schema WHERE name = 'i'")
    hidden = apsw.Connection(str(path))
    hidden.execute("INSERT INTO t VALUES ('new'); DELETE FROM t WHERE a = 5; UPDATE t SET a = 'x' WHERE a = 7")
    with _schema_edit(hidden):
        hidden.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", row)


def _not_null(path: Path) -> None:
    _redeclare(path, "CREATE TABLE t (a, b)", "INSERT INTO t VALUES (NULL, 1)", "t", "CREATE TABLE t (a NOT NULL, b)")


def _check(path: Path) -> None:
    owner = _make(
        path, "CREATE TABLE t (a CHECK (a > 0)); PRAGMA ignore_check_constraints = ON; INSERT INTO t VALUES (-1)"
    )
    owner.close()


def _strict(path: Path) -> None:
    _redeclare(
        path, "CREATE TABLE t (a, b)", "INSERT INTO t VALUES ('x', 1)", "t", "CREATE TABLE t (a INT, b ANY) STRICT"
    )


def _affinity(path: Path) -> None:
    _redeclare(path, "CREATE TABLE t (a BLOB)", "INSERT INTO t VALUES ('5')", "t", "CREATE TABLE t (a INTEGER)")


def _unique(path: Path) -> None:
    made = "CREATE TABLE t (a); CREATE INDEX i ON t (a)"
    _redeclare(path, made, "INSERT INTO t VALUES (1), (1)", "i", "CREATE UNIQUE INDEX i ON t (a)")


def _order(path: Path) -> None:
    made = "CREATE TABLE t (a TEXT PRIMARY KEY, b) WITHOUT ROWID"
    filled = "INSERT INTO t VALUES ('B', 1), ('a', 2), ('C', 3)"
    _redeclare(path, made, filled, "t", "CREATE TABLE t (a TEXT COLLATE NOCASE PRIMARY KEY, b) WITHOUT ROWID")


def _fts(path: Path) -> None:
    owner = _make(path, "CREATE VIRTUAL TABLE f USING fts5 (x); INSERT INTO f VALUES ('one two'), ('three')")
    owner.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    owner.execute("UPDATE f_content SET c0 = 'other words' WHERE id = 1")
    owner.close()


def _leaf(path: Path) -> None:
    _make(path, f"CREATE TABLE t (a); INSERT INTO t {MANY} SELECT 'some text ' || i FROM n").close()
    _patch(path, 5 * PAGE + 8, bytes(range(100, 200)))


def _leaked_page(path: Path) -> None:
    """The list of free pages is forgotten: pages that nothing uses."""
    _make(path, f"CREATE TABLE t (a); INSERT INTO t {MANY} SELECT 'some text ' || i FROM n; DELETE FROM t").close()
    _patch(path, 32, struct.pack(">2I", 0, 0))


def _free_count(path: Path) -> None:
    _make(path, f"CREATE TABLE t (a); INSERT INTO t {MANY} SELECT 'some text ' || i FROM n; DELETE FROM t").close()
    _patch(path, 36, struct.pack(">I", 3))


def _free_and_used(path: Path) -> None:
    """A page of the table is in the list of free pages."""
    _make(path, f"CREATE TABLE t (a); CREATE TABLE u (a); INSERT INTO t {MANY} SELECT 'some text ' || i FROM n").close()
    owner = apsw.Connection(str(path))
    owner.execute("CREATE TABLE w (a); INSERT INTO w SELECT zeroblob(3000); DROP TABLE w")
    owner.close()
    (trunk,) = struct.unpack(">I", path.read_bytes()[32:36])
    _patch(path, (trunk - 1) * PAGE + 8, struct.pack(">I", _root(path, "t")))


REAL: dict[str, tuple[Callable[[Path], None], set[ProblemKind]]] = {
    "index without rows": (_index_without_rows, {"index"}),
    "NOT NULL": (_not_null, {"rows"}),
    "CHECK": (_check, {"rows"}),
    "type in a STRICT table": (_strict, {"rows"}),
    "type by affinity": (_affinity, {"rows"}),
    "two equal unique keys": (_unique, {"unique"}),
    "keys out of order": (_order, {"order"}),
    "inverted index": (_fts, {"virtual"}),
    "page of a table": (_leaf, {"pages"}),
    "leaked pages": (_leaked_page, {"accounting"}),
    "number of free pages": (_free_count, {"accounting"}),
    "free and used": (_free_and_used, {"pages"}),
}


def _messages(path: Path) -> list[str]:
    """As an application gets them: a read-only connection does not evaluate CHECK constraints."""
    damaged = apsw.Connection(str(path))
    try:
        return [str(line) for (line,) in damaged.execute("PRAGMA integrity_check")]
    finally:
        damaged.close()


@pytest.mark.parametrize("case", REAL)
def test_real_damage_has_its_class(tmp_path: Path, case: str) -> None:
    path = tmp_path / "damaged.db"
    make, kinds = REAL[case]
    make(path)
    lines = _messages(path)
    assert lines != ["ok"]
    assert kinds <= classify_messages(lines), lines
    assert "other" not in classify_messages(lines), lines
    if "pages" in kinds:
        assert cure_of(classify_messages(lines)) == RESTORE_STEP
    if kinds == {"rows"}:
        assert classify_messages(lines) == {"rows"}
        assert "correct these rows" in cure_of(classify_messages(lines))


@pytest.mark.parametrize("name", TRICKY)
def test_names_cannot_mislead(tmp_path: Path, name: str) -> None:
    path = tmp_path / "tricky.db"
    owner = _make(path, f"CREATE TABLE {name} ({name} CHECK ({name} > 0), b)")
    owner.execute(f"PRAGMA ignore_check_constraints = ON; INSERT INTO {name} VALUES (-1, 2)")
    owner.close()
    assert classify_messages(_messages(path)) == {"rows"}
    page = tmp_path / "pages.db"
    _make(page, f"CREATE TABLE {name} (a); INSERT INTO {name} {MANY} SELECT 'some text ' || i FROM n").close()
    _patch(page, 5 * PAGE + 8, bytes(range(100, 200)))
    assert "pages" in classify_messages(_messages(page))
    assert "index" not in classify_messages(_messages(page))


def test_what_is_not_known_is_damage() -> None:
    assert classify_message("ok") == frozenset()
    assert classify_message("something new") == {"other"}
    assert cure_of(frozenset({"other"})) == RESTORE_STEP
    assert cure_of(frozenset({"index", "pages"})) == RESTORE_STEP
    assert "REINDEX" in cure_of(frozenset({"index"}))
    assert "REINDEX" in cure_of(frozenset({"index", "rows"}))
    assert "VACUUM" in cure_of(frozenset({"accounting"}))
