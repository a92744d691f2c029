"""Databases of several kinds with everything that was ever in them, and damage at random, as disks and people make it.

`make_scene` returns the rows of each table by commit; `damage_files` changes the files and says how.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import apsw

from tests.support.scenes import queue_files

Rows = dict[str, Counter[tuple[object, ...]]]
SUFFIXES = ("", "-wal", "-journal")
# Changes that leave bytes of rows as they were, or take them away whole: no key that never was can come out of them.
WHOLE_PAGES = ("zeroed pages", "cut", "freelist", "swapped pages", "copied page", "header")
BYTES = ("bits", "random pages", "zeroed run", "random bytes", "schema page", "page headers", "wal")

_JOBS = """
CREATE TABLE jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, body BLOB, prio REAL DEFAULT 1.5, state TEXT);
CREATE INDEX jobs_state ON jobs (state);
CREATE UNIQUE INDEX jobs_kind ON jobs (kind, id);
CREATE TABLE settings (k TEXT, v, PRIMARY KEY (k)) WITHOUT ROWID;
CREATE TABLE plain (a, b);
CREATE TABLE logs (id INTEGER PRIMARY KEY, job INT, line TEXT);
CREATE VIEW waiting AS SELECT id FROM jobs WHERE state = 'waiting';
CREATE TRIGGER done AFTER DELETE ON jobs BEGIN DELETE FROM logs WHERE job = old.id; END;
"""
_TEXTS = """
CREATE TABLE jobs (id TEXT PRIMARY KEY, state TEXT, n INT, payload TEXT);
CREATE INDEX jobs_state ON jobs (state, n);
CREATE TABLE events (id INTEGER PRIMARY KEY, job TEXT, at REAL, c INT NOT NULL DEFAULT 3);
CREATE TABLE made (id INTEGER PRIMARY KEY, v TEXT, u AS (v || 'y') VIRTUAL, s TEXT NOT NULL AS (v || 'z') STORED);
"""


@dataclass(frozen=True)
class Scene:
    """A database before its damage. `last`: its rows; `ever`: all rows that any commit of it held."""

    path: Path
    last: Rows
    ever: Rows

    @property
    def total(self) -> int:
        return sum(sum(rows.values()) for rows in self.last.values())


@dataclass(frozen=True)
class SceneKind:
    page_size: int
    settings: tuple[str, ...]
    fill: Callable[[apsw.Connection, random.Random], None]
    schema: str


def _fill_jobs(owner: apsw.Connection, chance: random.Random) -> None:
    sizes = (5, 10, 60, 200, 2500)
    jobs = [
        (f"k{chance.random()}", chance.randbytes(chance.choice(sizes)), float(chance.randrange(9))) for _ in range(60)
    ]
    owner.executemany("INSERT INTO jobs (kind, body, prio, state) VALUES (?, ?, ?, 'waiting')", jobs)
    owner.executemany("INSERT INTO settings VALUES (?, ?)", [(f"key{chance.random()}", n) for n in range(60)])
    owner.executemany("INSERT INTO plain VALUES (?, ?)", [(f"key{n}", chance.random()) for n in range(60)])
    owner.executemany(
        "INSERT INTO logs (job, line) VALUES (?, ?)", [(n, f"line {chance.random()}") for n in range(200)]
    )
    owner.execute("DELETE FROM jobs WHERE id < (SELECT max(id) FROM jobs) - 200")
    owner.execute("UPDATE jobs SET state = 'done' WHERE id % 7 = 3")


def _fill_texts(owner: apsw.Connection, chance: random.Random) -> None:
    jobs = [(f"{chance.getrandbits(128):032x}", "ab"[n % 2], n, "é" * chance.randrange(60)) for n in range(100)]
    jobs[7] = (*jobs[7][:3], "".join(chance.choices("abcdefghij", k=3000)))
    owner.executemany("INSERT INTO jobs VALUES (?, ?, ?, ?)", jobs)
    events = [(f"{chance.getrandbits(60):x}", chance.random() * 1e9) for _ in range(150)]
    owner.executemany("INSERT INTO events (job, at) VALUES (?, ?)", events)
    owner.executemany("INSERT INTO made (v) VALUES (?)", [(f"v{chance.random()}",) for _ in range(60)])
    owner.execute("DELETE FROM events WHERE id % 50 < 20 AND id < (SELECT max(id) FROM events) - 200")


def _fill_laravel(owner: apsw.Connection, chance: random.Random) -> None:
    jobs = [("default", f'{{"job": "{chance.getrandbits(200):x}"}}', n, n) for n in range(120)]
    owner.executemany(
        "INSERT INTO jobs (queue, payload, attempts, available_at, created_at) VALUES (?, ?, 0, ?, ?)", jobs
    )
    failed = [
        (f"{chance.getrandbits(128):x}", "sqlite", "default", "{}", "E" * chance.randrange(3000)) for _ in range(10)
    ]
    owner.executemany(
        'INSERT INTO failed_jobs (uuid, "connection", queue, payload, exception) VALUES (?, ?, ?, ?, ?)', failed
    )
    owner.execute("DELETE FROM jobs WHERE id < (SELECT max(id) FROM jobs) - 300")


KINDS: dict[str, SceneKind] = {
    "jobs in a WAL": SceneKind(1024, ("journal_mode=WAL", "wal_autocheckpoint=60"), _fill_jobs, _JOBS),
    "jobs, auto-vacuum": SceneKind(4096, ("auto_vacuum=FULL",), _fill_jobs, _JOBS),
    "texts, UTF-16, small pages": SceneKind(512, ("encoding='UTF-16le'",), _fill_texts, _TEXTS),
    "texts all in a WAL": SceneKind(1024, ("journal_mode=WAL", "wal_autocheckpoint=0"), _fill_texts, _TEXTS),
    "a queue of Laravel's": SceneKind(4096, ("journal_mode=WAL",), _fill_laravel, queue_files.LARAVEL),
    "texts, incremental": SceneKind(2048, ("auto_vacuum=INCREMENTAL",), _fill_texts, _TEXTS),
}


def make_scene(name: str, folder: Path) -> Scene:
    """Make a database of this kind and leave its files as a crash would: the WAL is there, without its index."""
    kind, chance = KINDS[name], random.Random(name)
    folder.mkdir(parents=True)
    work, path = folder / "work.db", folder / "queue.db"
    owner = apsw.Connection(str(work))
    for setting in (f"page_size={kind.page_size}", *kind.settings):
        owner.execute(f"PRAGMA {setting}").fetchall()
    owner.execute(kind.schema)
    ever: Rows = {}
    for _ in range(6):
        with owner:
            kind.fill(owner, chance)
        for table, rows in read_rows(work, owner).items():
            ever[table] = ever.get(table, Counter()) | rows
    copy_database(work, path)
    last = read_rows(work, owner)
    owner.close()
    return Scene(path, last, ever)


def copy_database(source: Path, target: Path) -> None:
    """Copy a database with what lies beside it, without the WAL-index."""
    for suffix in SUFFIXES:
        part = source.with_name(source.name + suffix)
        if part.exists():
            shutil.copyfile(part, target.with_name(target.name + suffix))


def read_rows(path: Path, connection: apsw.Connection | None = None) -> Rows:
    """All rows of an application's tables: (key, values); texts as bytes, since they may be no texts any more."""
    database = connection or apsw.Connection(str(path))
    try:
        names = [str(name) for (name,) in database.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
            "AND name NOT LIKE 'lost_and_found%'"
        ).fetchall()]  # fmt: skip
        return {name: _read_table(database, name) for name in names}
    finally:
        if connection is None:
            database.close()


def _read_table(database: apsw.Connection, name: str) -> Counter[tuple[object, ...]]:
    columns = [
        str(row[0])
        for row in database.execute("SELECT name FROM pragma_table_xinfo(?) WHERE hidden IN (0, 3)", (name,)).fetchall()
    ]
    exact = ", ".join(f'CASE typeof("{c}") WHEN \'text\' THEN CAST("{c}" AS BLOB) ELSE "{c}" END' for c in columns)
    without_rowid = database.execute("SELECT wr FROM pragma_table_list WHERE name = ?", (name,)).get
    key = f'CAST("{columns[0]}" AS BLOB)' if without_rowid else "rowid"
    return Counter(tuple(row) for row in database.execute(f'SELECT {key}, {exact} FROM "{name}" NOT INDEXED'))


def read_rows_apart(path: Path) -> Counter[tuple[object, ...]]:
    """The rows in the tables lost_and_found of a salvaged database, in the form of `stored_form`."""
    database = apsw.Connection(str(path))
    try:
        names = database.execute(
            "SELECT name FROM sqlite_schema WHERE name LIKE 'lost\\_and\\_found%' ESCAPE '\\'"
        ).fetchall()
        apart: Counter[tuple[object, ...]] = Counter()
        for (name,) in names:
            columns = [
                str(row[0]) for row in database.execute("SELECT name FROM pragma_table_info(?)", (name,)).fetchall()
            ]
            values = [column for column in columns if column.startswith("c")]
            exact = ", ".join(f"CASE typeof({c}) WHEN 'text' THEN CAST({c} AS BLOB) ELSE {c} END" for c in values)
            for fields, *row in database.execute(f"SELECT nfield, id, {exact} FROM {name}"):
                apart[tuple(row[: int(fields) + 1])] += 1
        return apart
    finally:
        database.close()


def stored_form(row: tuple[object, ...]) -> tuple[object, ...]:
    """A row as its record holds it: the INTEGER PRIMARY KEY, which comes first here, is the rowid and is stored as NULL."""
    key, first, *others = row
    if isinstance(key, bytes):
        return (None, first, *others)
    return (key, None if first == key else first, *others)


def damage_files(path: Path, seed: int) -> str:
    """Damage a database's files at random; returns what was done."""
    chance = random.Random(seed)
    how = chance.choice((*WHOLE_PAGES, *BYTES, "bits", "zeroed pages"))
    target = path
    if how == "wal":
        wal = path.with_name(path.name + "-wal")
        target = wal if wal.exists() and wal.stat().st_size > 100 else path
    content = bytearray(target.read_bytes())
    page_size = int.from_bytes(path.read_bytes()[16:18], "big")
    _DAMAGES[how](content, page_size, chance)
    target.write_bytes(content)
    return how


def _flip_bits(content: bytearray, _page_size: int, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 3, 20, 200))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def _page_offset(content: bytearray, page_size: int, chance: random.Random) -> int:
    return chance.randrange(len(content) // page_size) * page_size


def _zero_pages(content: bytearray, page_size: int, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 2, 5))):
        start = _page_offset(content, page_size, chance)
        content[start : start + page_size] = bytes(page_size)


def _randomize_pages(content: bytearray, page_size: int, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 2, 5))):
        start = _page_offset(content, page_size, chance)
        content[start : start + page_size] = chance.randbytes(page_size)


def _cut_end(content: bytearray, page_size: int, chance: random.Random) -> None:
    del content[chance.randrange(min(page_size, len(content) - 1), len(content)) :]


def _zero_run(content: bytearray, _page_size: int, chance: random.Random) -> None:
    start = chance.randrange(len(content))
    end = min(len(content), start + chance.choice((100, 1000, 5000, 20000)))
    content[start:end] = bytes(end - start)


def _randomize_run(content: bytearray, _page_size: int, chance: random.Random) -> None:
    size = chance.choice((4, 40, 400))
    start = chance.randrange(len(content) - size)
    content[start : start + size] = chance.randbytes(size)


def _lose_free_list(content: bytearray, page_size: int, chance: random.Random) -> None:
    trunk = int.from_bytes(content[32:36], "big")
    if trunk and trunk * page_size <= len(content) and chance.random() < 0.5:
        content[(trunk - 1) * page_size : (trunk - 1) * page_size + 8] = chance.randbytes(8)
    else:
        content[32:40] = chance.choice((bytes(8), chance.randbytes(8)))


def _break_schema(content: bytearray, page_size: int, chance: random.Random) -> None:
    size = chance.choice((1, 20, 300))
    start = chance.randrange(100, page_size - size)
    content[start : start + size] = chance.randbytes(size)


def _swap_pages(content: bytearray, page_size: int, chance: random.Random) -> None:
    first, second = (_page_offset(content, page_size, chance) for _ in range(2))
    pages = content[second : second + page_size], content[first : first + page_size]
    content[first : first + page_size], content[second : second + page_size] = pages


def _copy_page(content: bytearray, page_size: int, chance: random.Random) -> None:
    first, second = (_page_offset(content, page_size, chance) for _ in range(2))
    content[first : first + page_size] = content[second : second + page_size]


def _change_header(content: bytearray, _page_size: int, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 4, 30))):
        content[chance.randrange(100)] = chance.randrange(256)


def _change_page_headers(content: bytearray, page_size: int, chance: random.Random) -> None:
    for _ in range(3):
        content[_page_offset(content, page_size, chance) + chance.randrange(12)] ^= 1 << chance.randrange(8)


_DAMAGES = {
    "bits": _flip_bits,
    "zeroed pages": _zero_pages,
    "random pages": _randomize_pages,
    "cut": _cut_end,
    "zeroed run": _zero_run,
    "random bytes": _randomize_run,
    "freelist": _lose_free_list,
    "schema page": _break_schema,
    "swapped pages": _swap_pages,
    "copied page": _copy_page,
    "header": _change_header,
    "page headers": _change_page_headers,
    "wal": _flip_bits,
}
