"""Makes one consistent copy of a database while its application writes to it.

The method follows from the file system and the journal. `file`: the snapshot is pinned and a process without SQLite copies
the files. `pages`: the snapshot is pinned and copied through the backup API. `one_step`: a rollback-journal database is
copied in one step of the backup API and compared under the same read lock.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import apsw

from actions.backups.content_proof import DatabaseContents, prove_contents, read_contents
from actions.backups.copy_files import FileCopyImpossible, copy_snapshot_files, start_copy_process
from actions.backups.copy_pages import copy_pages
from actions.backups.copy_proof import CopyProof, ProofLevel, prove_copy
from actions.backups.snapshot_pin import SnapshotPin, pin_snapshot
from actions.model.context import ActionContext
from actions.model.errors import Unverified
from actions.sqlite.wal_budget import limit_wal_growth, wal_growth
from collectors.access.connection import open_immutable

CopyMethod = Literal["file", "pages", "one_step"]


@dataclass(frozen=True, slots=True)
class ProvedCopy:
    """A copy that was proved. `snapshot_time`: seconds since the epoch; `wal_growth` in bytes; the other times in seconds.

    `expected` was read from the pinned source, and the copy was compared with it; for a rollback-journal database, whose
    commits must not wait for a count, the rows were counted in the copy. `proof`: how it was compared with the source.
    `note`: why a faster method was not used.
    """

    method: CopyMethod
    snapshot_time: float
    expected: DatabaseContents
    proof: CopyProof
    restarts: int
    wal_growth: int
    copy_seconds: float
    prove_seconds: float
    note: str = ""


def copy_and_prove(context: ActionContext, destination: Path, level: ProofLevel = "pages") -> ProvedCopy:
    """Copy the target into the empty private file `destination` and prove it. Raises ActionError, apsw.Error, OSError.

    The copy is a single file in rollback-journal mode that any SQLite opens; it is not synced yet.
    """
    note = ""
    try:
        return _copy_snapshot(context, destination, level, by_file=True)
    except FileCopyImpossible as error:
        note = str(error)
    except (Unverified, apsw.CorruptError) as error:
        note = f"a copy of the files could not be proved ({error})"
    destination.write_bytes(b"")
    try:
        return _copy_snapshot(context, destination, level, by_file=False, note=note)
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise _damaged_source_error(context, error) from error


def _copy_snapshot(
    context: ActionContext, destination: Path, level: ProofLevel, *, by_file: bool, note: str = ""
) -> ProvedCopy:
    context.emit_phase("pin")
    with start_copy_process() as process, pin_snapshot(context) as pin:
        pin = pin if by_file else replace(pin, mark=None)
        started = time.monotonic()
        with _read_transaction(pin):
            context.emit_phase("copy")
            method, restarts = _copy_pinned(context, pin, process, destination)
            copied_at = time.monotonic()
            _make_single_file(destination)
            context.emit_phase("compare")
            proof = prove_copy(context, pin, destination, level)
        expected = _read_pinned_contents(context, pin) if pin.held else None
        grown = wal_growth(context, pin.wal_before)
        taken_at, note = pin.taken_at, note or pin.mark_note
    expected = expected if expected is not None else _read_file_contents(destination)
    context.stop.raise_if_requested()
    context.emit_phase("verify")
    prove_contents(destination, expected)
    proved_at = time.monotonic()
    return ProvedCopy(
        method, taken_at, expected, proof, restarts, grown, copied_at - started, proved_at - copied_at, note
    )


def _copy_pinned(
    context: ActionContext, pin: SnapshotPin, process: "subprocess.Popen[bytes]", destination: Path
) -> tuple[CopyMethod, int]:
    """Copy by the fastest method that the pin allows; the method, and how often the copy had to start again."""
    if pin.mark is not None:
        copy_snapshot_files(context, pin, pin.mark, process, destination)
        return "file", 0
    return "pages" if pin.held else "one_step", copy_pages(context, pin, destination).restarts


@contextmanager
def _read_transaction(pin: SnapshotPin) -> Iterator[None]:
    """A rollback-journal database is read-locked until its copy has been compared: commits wait for both."""
    if pin.held:
        yield
        return
    pin.source.execute("BEGIN")
    pin.source.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
    try:
        yield
    finally:
        pin.source.execute("ROLLBACK")


def _read_pinned_contents(context: ActionContext, pin: SnapshotPin) -> DatabaseContents:
    """Read the expected contents from the pinned source; counting rows takes time, in which the WAL grows."""
    with limit_wal_growth(context, pin.wal_before, pin.source):
        return read_contents(pin.source)


def _damaged_source_error(context: ActionContext, error: apsw.Error) -> Unverified:
    """The error of a source that is damaged: unverified, not failed, so that none of its backups is pruned now."""
    return Unverified(
        f"{context.target.path} cannot be copied whole, SQLite says: {error}",
        reason="source",
        next_step="restore the newest verified backup with `queuekeeper restore`, or repair the database",
    )


def _read_file_contents(path: Path) -> DatabaseContents:
    with open_immutable(path) as copy:
        return read_contents(copy)


def _make_single_file(destination: Path) -> None:
    copy = apsw.Connection(str(destination), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        # Before anything else, so that no WAL-index file is made: on a full disk that is an I/O error.
        copy.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
        copy.execute("PRAGMA synchronous=OFF")
        # The copied header says WAL; this changes it to a rollback journal.
        copy.execute("PRAGMA journal_mode=MEMORY").fetchall()
    finally:
        copy.close()
