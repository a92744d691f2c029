"""Proves, while the snapshot is pinned, that a copy is the pinned transaction: no wrong copy with the right row counts passes.

At the level `pages` every page is compared with the files that the pinned connection reads, and what lies on the pages of the
WAL with what SQLite reads; at the level `content` every page is compared with what SQLite reads, and the digest of all content
is recorded. docs/safety.md tells which wrong copies each level finds.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from actions.backups.file_compare import compare_with_files, plain_page, read_held_frames, read_wal_pages
from actions.backups.page_sink import compare_all_pages
from actions.backups.row_compare import compare_rows
from actions.backups.snapshot_pin import SnapshotMark, SnapshotPin
from actions.model.context import ActionContext

ProofLevel = Literal["pages", "content"]

# A page costs about that many times more when its rows are compared than when it is compared among all pages.
_ROWS_COST = 20
_BLOCK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class CopyProof:
    """How a copy was proved: the level, the same in words, and at the level `content` the digest of all content."""

    level: ProofLevel
    words: str
    content_sha256: str | None = None


def prove_copy(context: ActionContext, pin: SnapshotPin, destination: Path, level: ProofLevel) -> CopyProof:
    """Compare the copy with the pinned snapshot. Raises Unverified when they differ, ActionError, apsw.Error, OSError."""
    if not pin.held:
        words = _compare_files(context, pin, {}, destination)
    elif level == "content" or pin.mark is None:
        words = _compare_content(context, pin, destination)
    else:
        words = _compare_pages(context, pin, pin.mark, destination)
    digest = read_content_sha256(destination, pin.page_size) if level == "content" else None
    return CopyProof(level, words, digest)


def read_content_sha256(path: Path, page_size: int) -> str:
    """The digest of all pages of a file that no process writes, without what a copy's header may differ in."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(plain_page(1, file.read(page_size)))
        block = memoryview(bytearray(_BLOCK_BYTES))
        while amount := file.readinto(block):
            digest.update(block[:amount])
    return digest.hexdigest()


def _compare_content(context: ActionContext, pin: SnapshotPin, destination: Path) -> str:
    compared = compare_all_pages(context, pin, destination)
    return f"every page ({compared}) was compared with what SQLite reads in the pinned transaction"


def _compare_pages(context: ActionContext, pin: SnapshotPin, mark: SnapshotMark, destination: Path) -> str:
    """Frames beyond the mark, and copied ones, are compared as well: they need no belief in the mark."""
    words = _compare_files(context, pin, read_held_frames(pin, mark, destination), destination)
    pages = read_wal_pages(pin) if mark.salt else set()  # a database at rest has no WAL
    if not pages:
        return f"{words}; the WAL is empty"
    if len(pages) * _ROWS_COST > pin.pages or compare_rows(context, pin, destination, pages):
        return _compare_content(context, pin, destination)
    return f"{words}, and the rows on those of the WAL ({len(pages)}) with what SQLite reads in it"


def _compare_files(context: ActionContext, pin: SnapshotPin, frames: dict[int, int], destination: Path) -> str:
    """In rollback-journal mode the file alone is what SQLite reads while its read lock is held."""
    compare_with_files(context, pin, frames, destination)
    return f"every page ({pin.pages}) was compared with the files that the pinned transaction reads"
