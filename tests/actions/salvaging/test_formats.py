"""A database that is not damaged at all comes over exactly, whatever its format: then nothing is lost by the reading itself."""

import ctypes
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from actions.salvaging.damaged_file import open_damaged_file
from actions.salvaging.prove_result import ResultProof, prove_result
from actions.salvaging.rebuild import Rebuilt, rebuild_database
from actions.salvaging.schema_rows import detect_encoding
from collectors.queue_profiles.quoting import quote_identifier

SCHEMA = """
CREATE TABLE jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, due REAL, body BLOB,
  state TEXT DEFAULT 'new');
CREATE INDEX by_state ON jobs (state) WHERE state <> 'done';
CREATE INDEX by_length ON jobs (length(body));
CREATE TABLE bare (a, "b c", UNIQUE (a));
CREATE TABLE rowid_taken (rowid TEXT, n INT);
CREATE TABLE pairs (x INT, y TEXT, z, PRIMARY KEY (y, x)) WITHOUT ROWID;
CREATE TABLE made (id INTEGER PRIMARY KEY, v INT, twice INT GENERATED ALWAYS AS (v * 2) STORED, thrice AS (v * 3) VIRTUAL, w);
CREATE TABLE exact (id INTEGER PRIMARY KEY, t TEXT, n INT, v ANY) STRICT;
CREATE TABLE checked (n INT CHECK (n > 0), m NOT NULL);
CREATE VIEW waiting AS SELECT * FROM jobs WHERE state = 'new';
CREATE TRIGGER counted AFTER INSERT ON jobs BEGIN UPDATE bare SET a = a WHERE 0; END;
CREATE VIRTUAL TABLE words USING fts5(text);
"""
TEXTS = ("", "plain", "nul\0inside", "größer", "雪" * 400, "x" * 5000)
INTEGERS = (0, 1, -1, 127, -129, 32768, 1 << 23, 1 << 31, -(1 << 40), 1 << 47, (1 << 63) - 1, -(1 << 63))


def fill(owner: apsw.Connection) -> None:
    owner.execute(SCHEMA)
    with owner:
        for number in range(300):
            text = TEXTS[number % len(TEXTS)]
            body = bytes([number % 256]) * (number * 7 % 3000)
            owner.execute("INSERT INTO jobs (name, due, body) VALUES (?, ?, ?)", (f"{number} {text}", number / 3, body))
            owner.execute("INSERT INTO pairs VALUES (?, ?, ?)", (number, text + str(number % 7), body))
            owner.execute("INSERT INTO exact VALUES (?, ?, ?, ?)", (-number, text, number, number / 2))
        owner.executemany("INSERT INTO bare VALUES (?, ?)", [(n, -n / 1.0) for n in INTEGERS])
        owner.executemany("INSERT INTO bare (rowid, a) VALUES (?, ?)", [(1 << 40, None), (-5, b"blob"), (1 << 62, "t")])
        owner.executemany(
            "INSERT INTO rowid_taken (_rowid_, rowid, n) VALUES (?, ?, ?)", [(7, "seven", 1), (900, None, 2)]
        )
        owner.executemany("INSERT INTO made (v, w) VALUES (?, ?)", [(n, float(n)) for n in range(50)])
        owner.execute("INSERT INTO checked VALUES (1, 2)")
        owner.execute("INSERT INTO bare (a) VALUES (CAST(x'ff41' AS TEXT))")
        owner.execute("INSERT INTO words VALUES ('some words to find')")
        owner.execute("DELETE FROM jobs WHERE id > 290 OR id % 3 = 0")
    owner.execute("ALTER TABLE made ADD COLUMN later TEXT NOT NULL DEFAULT 'since then'")
    owner.execute("ALTER TABLE pairs ADD COLUMN more INT DEFAULT 42")
    owner.execute("INSERT INTO made (v, later) VALUES (1, 'own'); ANALYZE")
    owner.execute("PRAGMA user_version=-7; PRAGMA application_id=123456")


def salvage(source: Path, target: Path) -> Rebuilt:
    target.touch(mode=0o600)
    with open_damaged_file(source) as file:
        return rebuild_database(detect_encoding(file), target, lambda _pages: None)


def content(path: Path) -> dict[str, object]:
    """Everything that an application can see: schema, settings, rows with their rowids; texts as bytes."""
    database = apsw.Connection(str(path))
    try:
        schema = database.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").fetchall()
        settings = ("encoding", "page_size", "auto_vacuum", "user_version", "application_id", "journal_mode")
        seen: dict[str, object] = {name: database.pragma(name) for name in settings}
        for kind, name, _table, sql in schema:
            if kind == "table" and "VIRTUAL TABLE" not in str(sql):
                seen[str(name)] = table_rows(database, str(name))
        return {**seen, "schema": schema}
    finally:
        database.close()


def table_rows(database: apsw.Connection, name: str) -> list[tuple[object, ...]]:
    columns = [str(row[0]) for row in database.execute("SELECT name FROM pragma_table_xinfo(?)", (name,)).fetchall()]
    exact = [f"typeof({quote_identifier(c)}), CAST({quote_identifier(c)} AS BLOB)" for c in columns]
    without_rowid = database.execute("SELECT wr FROM pragma_table_list WHERE name = ?", (name,)).get
    if not without_rowid:
        exact.insert(0, "_rowid_")
    return sorted(database.execute(f"SELECT {', '.join(exact)} FROM {quote_identifier(name)}").fetchall(), key=repr)


def with_reserved_bytes(owner: apsw.Connection) -> None:
    size = ctypes.c_int(24)
    owner.file_control("main", apsw.SQLITE_FCNTL_RESERVE_BYTES, ctypes.addressof(size))


@pytest.mark.parametrize("page_size", [512, 1024, 4096, 65536])
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_every_row_of_every_kind_comes_over(page_size: int, encoding: str, tmp_path: Path) -> None:
    make(tmp_path / "a.db", f"PRAGMA page_size={page_size}; PRAGMA encoding='{encoding}'")
    compare(tmp_path)


@pytest.mark.parametrize("mode", ["FULL", "INCREMENTAL"])
def test_an_auto_vacuum_database_stays_one(mode: str, tmp_path: Path) -> None:
    make(tmp_path / "a.db", f"PRAGMA page_size=1024; PRAGMA auto_vacuum={mode}")
    compare(tmp_path)


def test_bytes_reserved_in_each_page_are_not_read(tmp_path: Path) -> None:
    make(tmp_path / "a.db", "PRAGMA page_size=1024", with_reserved_bytes)
    assert (tmp_path / "a.db").read_bytes()[20] == 24
    compare(tmp_path)


def make(path: Path, settings: str, prepare: Callable[[apsw.Connection], None] = lambda _owner: None) -> None:
    owner = apsw.Connection(str(path))
    owner.execute(settings).fetchall()
    prepare(owner)
    fill(owner)
    owner.close()


def compare(folder: Path) -> None:
    rebuilt = salvage(folder / "a.db", folder / "b.db")
    assert prove_result(folder / "b.db") == ResultProof("")
    assert (rebuilt.problems, rebuilt.apart) == ((), 0)
    assert all(table.exact and table.missing == 0 for table in rebuilt.tables)
    assert content(folder / "b.db") == content(folder / "a.db")


def test_commits_that_are_only_in_the_wal_come_over(tmp_path: Path) -> None:
    owner = apsw.Connection(str(tmp_path / "live.db"))
    owner.execute("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0").fetchall()
    fill(owner)
    owner.execute("BEGIN; DELETE FROM exact").fetchall()  # not committed
    for suffix in ("", "-wal"):
        shutil.copyfile(tmp_path / f"live.db{suffix}", tmp_path / f"a.db{suffix}")
    owner.execute("ROLLBACK")
    owner.close()
    salvage(tmp_path / "a.db", tmp_path / "b.db")
    assert content(tmp_path / "b.db") == content(tmp_path / "live.db")


def test_an_interrupted_transaction_is_undone_from_its_journal(tmp_path: Path) -> None:
    make(tmp_path / "live.db", "PRAGMA page_size=1024")
    before = content(tmp_path / "live.db")
    owner = apsw.Connection(str(tmp_path / "live.db"))
    owner.execute("PRAGMA cache_size=5; BEGIN; UPDATE jobs SET body = zeroblob(4000), name = name || 'x'").fetchall()
    for suffix in ("", "-journal"):
        shutil.copyfile(tmp_path / f"live.db{suffix}", tmp_path / f"a.db{suffix}")
    owner.execute("ROLLBACK")
    owner.close()
    salvage(tmp_path / "a.db", tmp_path / "b.db")
    assert content(tmp_path / "b.db") == before


def test_a_key_is_not_given_out_twice(tmp_path: Path) -> None:
    make(tmp_path / "a.db", "")
    salvage(tmp_path / "a.db", tmp_path / "b.db")
    database = apsw.Connection(str(tmp_path / "b.db"))
    database.execute("INSERT INTO jobs (name) VALUES ('next')")
    assert database.last_insert_rowid() == 301
    database.close()
