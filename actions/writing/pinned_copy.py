"""One consistent copy of a database that others write to, page by page, by SQLite's backup API under a pinned snapshot.

Without the pin each commit of another process restarts the copy from its first page, silently and for ever
(https://sqlite.org/backup.html: a write by another process forces a restart). `BEGIN` alone does not pin: a row must be
read. The price of a pin is that the WAL cannot be reset while it lasts, so the copy hurries when the WAL grows past its
budget, and gives up when it doubles it.
A rollback-journal database is copied in one step: a pin there would stop every commit for as long as the copy takes.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import apsw

from actions.run.errors import Failed
from actions.run.work import Work
from actions.writing.proof import Contents, contents, immutable
from collectors.reading.connection import read_only

PAGES_PER_STEP = 1000
# Rest this share of the time each step took, while the WAL is within its budget: the application's I/O comes first.
REST_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied. `snapshot_time`: when the pin was taken, seconds since the epoch; `wal_growth` in bytes.

    `expected` was read from the pinned source, so the copy can be held against it; for a rollback-journal database,
    whose commits must not wait for a count, the rows are counted in the copy.
    """

    snapshot_time: float
    expected: Contents
    steps: int
    restarts: int
    wal_growth: int


def copy_pinned(work: Work, destination: Path) -> Copied:
    """Copy the target into the empty private file `destination`. Raises ActionError or apsw.Error.

    The copy is a single file in rollback-journal mode that any SQLite opens; it is not yet synced nor proved.
    """
    with read_only(work.target.path) as source:
        pinned = source.pragma("journal_mode") == "wal"
        wal_before = size_or_zero(work.target.wal)
        if pinned:
            source.execute("BEGIN")
        source.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
        snapshot_time = work.now()
        steps, restarts = _copy(work, source, destination, wal_before, pinned=pinned)
        expected = contents(source) if pinned else None
    _make_single_file(destination)
    if expected is None:
        with immutable(destination) as copy:
            expected = contents(copy)
    return Copied(snapshot_time, expected, steps, restarts, max(0, size_or_zero(work.target.wal) - wal_before))


def size_or_zero(path: Path) -> int:
    """The size by stat; 0 when there is no such file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _copy(work: Work, source: apsw.Connection, destination: Path, wal_before: int, *, pinned: bool) -> tuple[int, int]:
    copy = apsw.Connection(str(destination), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        copy.execute("PRAGMA synchronous=OFF")  # publishing syncs the file itself, once
        copy.execute("PRAGMA journal_mode=OFF").fetchall()  # a half copy is thrown away, never rolled back
        backup = copy.backup("main", source, "main")
        try:
            return _step_to_the_end(work, backup, wal_before, PAGES_PER_STEP if pinned else -1)
        finally:
            backup.close(True)  # an error was raised by the step already
    finally:
        copy.close()


def _step_to_the_end(work: Work, backup: apsw.Backup, wal_before: int, pages: int) -> tuple[int, int]:
    budget = work.target.limits.wal_growth(work.target.path.stat().st_size)
    steps = restarts = 0
    remaining = None
    while not backup.done:
        started = time.monotonic()
        backup.step(pages)
        steps += 1
        restarts += remaining is not None and backup.remaining > remaining
        remaining = backup.remaining
        work.progress("copied pages", backup.page_count - remaining, backup.page_count)
        work.stop.check()
        growth = size_or_zero(work.target.wal) - wal_before
        _give_up_beyond(2 * budget, growth)
        if growth < budget:
            work.stop.wait(REST_SHARE * (time.monotonic() - started))
    return steps, restarts


def _give_up_beyond(hard_limit: int, growth: int) -> None:
    if growth > hard_limit:
        raise Failed(
            f"the WAL grew by {growth} bytes while the copy pinned it, {hard_limit} is the limit: the copy was given up",
            reason="wal_growth",
            next_step="back up when less is written, or raise limits.wal_growth",
        )


def _make_single_file(destination: Path) -> None:
    copy = apsw.Connection(str(destination), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        copy.execute("PRAGMA synchronous=OFF")
        copy.execute("PRAGMA journal_mode=DELETE").fetchall()  # the copied header says WAL
    finally:
        copy.close()
