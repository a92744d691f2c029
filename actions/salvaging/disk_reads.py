"""Reads what a failing disk still gives: sectors with an I/O error are zeros, and the rest of the file is there."""

import errno
import os

_SECTORS = 4096


def read_or_zeros(descriptor: int, length: int, offset: int) -> bytes:
    """`length` bytes, fewer only at the end of the file. Raises OSError of any other kind than EIO."""
    return read_counting_lost(descriptor, length, offset)[0]


def read_counting_lost(descriptor: int, length: int, offset: int) -> tuple[bytes, int]:
    """One block, with zeros for the sectors that cannot be read, and how many bytes those are. Raises OSError."""
    try:
        return os.pread(descriptor, length, offset), 0
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    length = min(length, max(0, os.fstat(descriptor).st_size - offset))
    parts, lost = [], 0
    for start in range(offset, offset + length, _SECTORS):
        wanted = min(_SECTORS, offset + length - start)
        try:
            parts.append(os.pread(descriptor, wanted, start))
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            parts.append(bytes(wanted))
            lost += wanted
    return b"".join(parts), lost
