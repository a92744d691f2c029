"""Compressed backups: zstd frames, read and written as streams. https://www.rfc-editor.org/rfc/rfc8878"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard

from actions.backups.publish import partial_file, remove_leftovers
from actions.model.context import Work
from actions.model.errors import Unverified
from actions.sqlite.disk_space import require_free, writing_to

LEVEL = 3
SUFFIX = ".zst"
_BLOCK = 1024 * 1024


def compress(work: Work, plain: Path, compressed: Path) -> None:
    """Write `plain` into the empty private file `compressed`, and prove that it reads back the same. Raises Unverified."""
    size = plain.stat().st_size
    digest = hashlib.sha256()
    with plain.open("rb") as source, compressed.open("wb") as destination:
        writer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).stream_writer(destination, size=size)
        with writer:
            done = 0
            while block := source.read(_BLOCK):
                digest.update(block)
                writer.write(block)
                done += len(block)
                if done % (16 * _BLOCK) == 0:
                    work.progress("compressed bytes", done, size)
                    work.stop.check()
    again = hashlib.sha256()
    for block in decompressed(compressed):
        again.update(block)
    if again.digest() != digest.digest():
        raise Unverified(
            f"{compressed.name} does not read back", reason="compression", next_step="run it again; check the disk"
        )


def decompressed(path: Path) -> Iterator[bytes]:
    """The plain content in blocks. Raises Unverified when it is damaged."""
    try:
        with path.open("rb") as file:
            yield from zstandard.ZstdDecompressor().read_to_iter(file, write_size=_BLOCK)
    except zstandard.ZstdError as error:
        raise Unverified(
            f"{path.name} cannot be decompressed: {error}",
            reason="compression",
            next_step="do not restore it; take a new backup",
        ) from error


@contextmanager
def plain_file(work: Work, backup: Path, plain_bytes: int, place: Path) -> Iterator[Path]:
    """The backup as a plain database file: itself, or decompressed into a private file in `place` meanwhile.

    Raises Unverified, Refused when it does not fit.
    """
    if not backup.name.endswith(SUFFIX):
        yield backup
        return
    remove_leftovers(place)
    require_free(place, plain_bytes, work.target.limits.disk_reserve, "the decompressed copy")
    with partial_file(place, backup.name) as plain:
        with writing_to(place, plain_bytes, "the decompressed copy"), plain.open("wb") as destination:
            for block in decompressed(backup):
                destination.write(block)
                work.stop.check()
        yield plain
