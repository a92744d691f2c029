"""Makes one consistent copy of a database while its application writes to it.

The method follows from the file system and the journal. `file`: the snapshot is pinned and a process without SQLite copies
the files. `pages`: the snapshot is pinned and copied through the backup API. `one_step`: a rollback-journal database is
copied in one step of the backup API and compared under the same read lock.
"""

import shlex
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import apsw

from actions.backups.content_proof import DamagedContents, DatabaseContents, prove_whole_file, read_shape
from actions.backups.copy_files import FileCopyImpossible, copy_snapshot_files, start_copy_process
from actions.backups.copy_pages import copy_pages
from actions.backups.copy_proof import CopyProof, ProofLevel, prove_copy, read_content_sha256
from actions.backups.file_compare import read_held_frames
from actions.backups.page_checksum import CHECKSUM_BYTES, renew_checksums
from actions.backups.publish import sync_file
from actions.backups.snapshot_pin import SnapshotPin, pin_snapshot
from actions.model.context import ActionContext
from actions.model.errors import Unverified
from actions.sqlite.wal_budget import wal_growth
from collectors.backup_catalog.store import backup_location

CopyMethod = Literal["file", "pages", "one_step"]


@dataclass(frozen=True, slots=True)
class CopyTimes:
    """Seconds that the parts of a copy took: copying, comparing with the source, verifying the copy by itself."""

    copy: float
    compare: float
    verify: float


@dataclass(frozen=True, slots=True)
class ProvedCopy:
    """A copy that was proved. `snapshot_time`: seconds since the epoch; `wal_growth` in bytes.

    `expected`: counted in the copy, after `proof` had shown that it is the pinned transaction. `note`: why a faster method was
    not used. `schema_version`: the source's count of schema changes, which the backup API does not copy.
    """

    method: CopyMethod
    snapshot_time: float
    expected: DatabaseContents
    proof: CopyProof
    restarts: int
    wal_growth: int
    times: CopyTimes
    note: str = ""
    schema_version: int | None = None


def copy_and_prove(context: ActionContext, destination: Path, level: ProofLevel = "pages") -> ProvedCopy:
    """Copy the target into the empty private file `destination` and prove it. Raises ActionError, apsw.Error, OSError.

    The copy is a single file in rollback-journal mode that any SQLite opens.
    """
    note = ""
    try:
        with ThreadPoolExecutor(2) as beside:
            return _copy_snapshot(context, destination, level, beside, by_file=True)
    except FileCopyImpossible as error:
        note = str(error)
    except (Unverified, apsw.CorruptError) as error:
        note = f"a copy of the files could not be proved ({error})"
    destination.write_bytes(b"")
    try:
        with ThreadPoolExecutor(2) as beside:
            return _copy_snapshot(context, destination, level, beside, by_file=False, note=note)
    except (apsw.CorruptError, apsw.NotADBError, DamagedContents) as error:
        raise _damaged_source_error(context, error) from error


def _copy_snapshot(
    context: ActionContext,
    destination: Path,
    level: ProofLevel,
    beside: ThreadPoolExecutor,
    *,
    by_file: bool,
    note: str = "",
) -> ProvedCopy:
    """Copy and prove; while the copy is compared it is verified and goes to the disk, in the threads of `beside`."""
    context.emit_phase("pin")
    with start_copy_process() as process, pin_snapshot(context) as pin:
        started = time.monotonic()
        with _read_transaction(pin if by_file else replace(pin, mark=None)) as held:
            context.emit_phase("copy")
            method, restarts = _copy_pinned(context, held, process, destination)
            _make_single_file(destination)
            copied_at = time.monotonic()
            context.emit_phase("compare")
            shape = read_shape(held.source)
            verified = beside.submit(prove_whole_file, destination, shape, lambda: context.stop.is_requested)
            synced = beside.submit(sync_file, destination)
            proof = prove_copy(context, held, destination, level)
            incomplete = _incomplete_pages(held, destination)
        grown = wal_growth(context, pin.wal_before)
    compared_at = time.monotonic()
    context.stop.raise_if_requested()
    context.emit_phase("verify")
    expected = _wait_for_proof(context, verified)
    synced.result()
    proof = _complete_pages(destination, pin.page_size, incomplete, proof)
    times = CopyTimes(copied_at - started, compared_at - copied_at, time.monotonic() - compared_at)
    note = note or pin.mark_note
    return ProvedCopy(method, pin.taken_at, expected, proof, restarts, grown, times, note, shape.schema_version)


def _incomplete_pages(pin: SnapshotPin, destination: Path) -> frozenset[int]:
    """The pages that the application's SQLite has not completed yet, where it ends pages with a checksum."""
    if pin.source.reserve_bytes("main") != CHECKSUM_BYTES:
        return frozenset()
    return frozenset({1, *(() if pin.mark is None else read_held_frames(pin, pin.mark, destination))})


def _complete_pages(destination: Path, page_size: int, pages: frozenset[int], proof: CopyProof) -> CopyProof:
    """Give these pages of the proved copy their checksums; its proof, with the digest of what it holds now."""
    if not pages or not renew_checksums(destination, pages):
        return proof
    sync_file(destination)
    return replace(proof, content_sha256=proof.content_sha256 and read_content_sha256(destination, page_size))


def _wait_for_proof(context: ActionContext, verified: "Future[DatabaseContents]") -> DatabaseContents:
    """What the copy holds. Raises Unverified, Cancelled, Interrupted."""
    try:
        return verified.result()
    except apsw.InterruptError:
        context.stop.raise_if_requested()
        raise


def _copy_pinned(
    context: ActionContext, pin: SnapshotPin, process: "subprocess.Popen[bytes]", destination: Path
) -> tuple[CopyMethod, int]:
    """Copy by the fastest method that the pin allows; the method, and how often the copy had to start again."""
    if pin.mark is not None:
        copy_snapshot_files(context, pin, pin.mark, process, destination)
        return "file", 0
    return "pages" if pin.held else "one_step", copy_pages(context, pin, destination).restarts


@contextmanager
def _read_transaction(pin: SnapshotPin) -> Iterator[SnapshotPin]:
    """The pin itself; a rollback-journal database is read-locked until its copy has been compared: commits wait for both."""
    if pin.held:
        yield pin
        return
    pin.source.execute("BEGIN")
    pin.source.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
    try:
        yield replace(pin, pages=int(pin.source.pragma("page_count")))
    finally:
        pin.source.execute("ROLLBACK")


def _damaged_source_error(context: ActionContext, error: apsw.Error | DamagedContents) -> Unverified:
    """The error of a source that is damaged: unverified, not failed, so that none of its backups is pruned now.

    It names the source: what SQLite's backup API gave is as damaged as that is, and the copy is gone.
    """
    why = error.why if isinstance(error, DamagedContents) else f"SQLite says: {error}"
    return Unverified(
        f"{context.target.path} is damaged and cannot be copied whole, {why}",
        reason="source",
        next_step=_damaged_source_step(context),
    )


def _damaged_source_step(context: ActionContext) -> str:
    """What helps with a damaged source: what can be read of the file itself, and its newest verified backup."""
    path, place = shlex.quote(str(context.target.path)), backup_location(context.target)
    directory = "" if place is None else f" --from {shlex.quote(place)}"
    return (
        f"stop the application; bring over what is readable: queuekeeper salvage {path} --to NEW_FILE, compare it with the "
        f"newest verified backup, and restore the better one: queuekeeper restore {path}{directory} --in-place "
        "--application-stopped"
    )


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
