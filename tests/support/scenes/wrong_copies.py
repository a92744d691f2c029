"""Copies that are wrong and whose pages, schema, row counts and integrity are right: made of images of the same database."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import apsw

PAGE, ROWS = 4096, 600


@dataclass(frozen=True)
class Images:
    """The database as one file: as its file alone has it, one commit before the newest, now, and one commit later."""

    base: bytes
    earlier: bytes
    now: bytes
    later: bytes
    left_leaf: int
    right_leaf: int
    overflow: int
    quiet_leaf: int


def create_database(path: Path, journal_mode: str) -> apsw.Connection:
    """Two tables of the same shape with the same rowids, one with long rows, and one that is not written again."""
    owner = apsw.Connection(str(path))
    owner.execute(f"PRAGMA page_size={PAGE}; PRAGMA journal_mode={journal_mode}").fetchall()
    owner.wal_autocheckpoint(0)
    series = f"WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {ROWS})"
    for table in ("left", "right", "quiet"):
        owner.execute(f'CREATE TABLE "{table}" (id INTEGER PRIMARY KEY, state INT, pad BLOB)')
        owner.execute(f'{series} INSERT INTO "{table}" SELECT i, 100, randomblob(200) FROM s')
    owner.execute("CREATE TABLE long (id INTEGER PRIMARY KEY, pad BLOB); INSERT INTO long VALUES (1, randomblob(9000))")
    if journal_mode == "wal":
        owner.pragma("wal_checkpoint", "truncate")
    return owner


def take_images(owner: apsw.Connection, folder: Path) -> Images:
    """Commit what makes the images differ, and leave the database at `now`; `later` is of a copy alone."""
    base = _image(owner, folder)
    owner.execute('UPDATE "left" SET state = 101; UPDATE "right" SET state = 101')
    earlier = _image(owner, folder)
    owner.execute('BEGIN; UPDATE "left" SET state = 102; UPDATE "right" SET state = 102; COMMIT')
    now = _image(owner, folder)
    copy = folder / "later.db"
    copy.write_bytes(now)
    with closing(apsw.Connection(str(copy))) as later:
        commit_later(later)
        leaves = {
            table: later.execute(_LEAF, (table, kind)).get
            for table, kind in (("left", "leaf"), ("right", "leaf"), ("quiet", "leaf"), ("long", "overflow"))
        }
    return Images(base, earlier, now, copy.read_bytes(), *(int(leaves[t]) for t in ("left", "right", "long", "quiet")))


def commit_later(database: apsw.Connection) -> None:
    """The commit after `now`."""
    database.execute('UPDATE "left" SET state = 103')


_LEAF = "SELECT max(pageno) FROM dbstat WHERE name = ? AND pagetype = ?"


def _image(owner: apsw.Connection, folder: Path) -> bytes:
    path = folder / "image.db"
    path.unlink(missing_ok=True)
    with closing(apsw.Connection(str(path))) as copy:
        with copy.backup("main", owner, "main") as backup:
            backup.step(-1)
        copy.execute("PRAGMA journal_mode=DELETE").fetchall()
    return path.read_bytes()


def _page(image: bytes, number: int) -> bytes:
    return image[(number - 1) * PAGE : number * PAGE]


def _with_page(image: bytes, number: int, page: bytes) -> bytes:
    return image[: (number - 1) * PAGE] + page + image[number * PAGE :]


def _swapped(images: Images) -> bytes:
    swapped = _with_page(images.now, images.left_leaf, _page(images.now, images.right_leaf))
    return _with_page(swapped, images.right_leaf, _page(images.now, images.left_leaf))


def _zeroed_overflow(images: Images) -> bytes:
    """The content of a row's last overflow page is gone; its chain ends as before."""
    return _with_page(images.now, images.overflow, bytes(PAGE))


def _old_byte(images: Images) -> bytes:
    """One byte of a row that the WAL does not hold, as a disk or a cache may give it."""
    page = bytearray(_page(images.now, images.quiet_leaf))
    page[-1] ^= 1
    return _with_page(images.now, images.quiet_leaf, bytes(page))


def _half_transaction(images: Images) -> bytes:
    """Of the newest transaction the pages of the first table alone."""
    half = images.earlier
    for number in range(1, len(half) // PAGE + 1):
        if number <= images.left_leaf:
            half = _with_page(half, number, _page(images.now, number))
    return half


WRONG_COPIES: dict[str, Callable[[Images], bytes]] = {
    "the file without its WAL": lambda images: images.base,
    "a stale page": lambda images: _with_page(images.now, images.left_leaf, _page(images.base, images.left_leaf)),
    "one lost frame": lambda images: _with_page(images.now, images.left_leaf, _page(images.earlier, images.left_leaf)),
    "half a transaction": _half_transaction,
    "an earlier snapshot": lambda images: images.earlier,
    "a later snapshot": lambda images: images.later,
    "swapped pages": _swapped,
    "a page of another table": lambda images: _with_page(
        images.now, images.left_leaf, _page(images.now, images.right_leaf)
    ),
    "a zeroed overflow page": _zeroed_overflow,
    "a changed byte outside the WAL": _old_byte,
}
