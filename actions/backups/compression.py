"""Compressed backups: zstd frames, read and written as streams. https://www.rfc-editor.org/rfc/rfc8878"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard

from actions.backups.publish import create_partial_file, remove_orphaned_partials
from actions.model.context import ActionContext
from actions.model.errors import Unverified
from actions.sqlite.disk_space import explain_full_disk, require_free_space
from collectors.backup_catalog.names import is_compressed_name

ZSTD_LEVEL = 3
_BLOCK = 1024 * 1024


def compress_file(context: ActionContext, plain: Path, compressed: Path) -> None:
    """Write `plain` into the empty private file `compressed`, and prove that it reads back the same. Raises Unverified."""
    size = plain.stat().st_size
    digest = hashlib.sha256()
    with plain.open("rb") as source, compressed.open("wb") as destination:
        writer = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True).stream_writer(destination, size=size)
        with writer:
            done = 0
            while block := source.read(_BLOCK):
                digest.update(block)
                writer.write(block)
                done += len(block)
                if done % (16 * _BLOCK) == 0:
                    context.emit_progress("compressed bytes", done, size)
                    context.stop.raise_if_requested()
    read_back = hashlib.sha256()
    for block in read_decompressed(compressed):
        read_back.update(block)
    if read_back.digest() != digest.digest():
        raise Unverified(
            f"{compressed.name} does not read back", reason="compression", next_step="run it again; check the disk"
        )


def read_decompressed(path: Path) -> Iterator[bytes]:
    """Read the plain content in blocks. Raises Unverified when the file is damaged."""
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
def open_plain_file(context: ActionContext, stored: Path, plain_bytes: int, directory: Path) -> Iterator[Path]:
    """Give a stored backup as a plain database file: itself, or decompressed into a private file in `directory`.

    Raises Unverified, Refused when it does not fit.
    """
    if not is_compressed_name(stored.name):
        yield stored
        return
    remove_orphaned_partials(directory)
    require_free_space(directory, plain_bytes, context.target.limits.disk_reserve, "the decompressed copy")
    with create_partial_file(directory, stored.name) as plain:
        with explain_full_disk(directory, plain_bytes, "the decompressed copy"), plain.open("wb") as destination:
            for block in read_decompressed(stored):
                destination.write(block)
                context.stop.raise_if_requested()
        yield plain
