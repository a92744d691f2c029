"""Reads the tokens of callers that may act. Only their SHA-256 digests are held; the text is never stored or logged."""

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

MAX_TOKEN_FILE_BYTES = 64 * 1024


def read_digests(path: Path) -> tuple[bytes, ...]:
    """One digest for each line of a private file (several lines: rotation), without blank lines and `#` comments.

    Raises ValueError, without the token, when the file is missing, not private, owned by another user than the agent or
    root, or has no token.
    """
    text = _read_private_file(path)
    lines = (line.strip() for line in text.splitlines())
    digests = tuple(token_digest(line.encode()) for line in lines if line and not line.startswith("#"))
    if not digests:
        raise ValueError(f"{path} has no token in it; write one on a line of its own, e.g. from `openssl rand -hex 32`")
    return digests


def token_file_label(path: Path, files: Sequence[Path]) -> str:
    """What the history calls the bearer of this file's tokens: its name, or its path where another file has that name."""
    label = str(path) if sum(other.name == path.name for other in files) > 1 else path.name
    return label.encode("unicode_escape").decode("ascii")


def token_digest(token: bytes) -> bytes:
    """The SHA-256 of a token; all have the same length, so that the time of a comparison reveals nothing."""
    return hashlib.sha256(token).digest()


def _read_private_file(path: Path) -> str:
    try:
        # O_NONBLOCK: a fifo put there by mistake must not block the start
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read: {error.strerror}; create it, mode 0600, owned by the agent"
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        _check_private(path, os.fstat(file.fileno()))
        content = file.read(MAX_TOKEN_FILE_BYTES + 1)
    if len(content) > MAX_TOKEN_FILE_BYTES:
        raise ValueError(f"{path} is larger than {MAX_TOKEN_FILE_BYTES} bytes; is it a token file?")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text; write tokens as lines of ASCII") from error


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is not a regular file; point token_files to a private file")
    geteuid: Callable[[], int] | None = getattr(os, "geteuid", None)
    if geteuid is None:
        return  # not POSIX: access control lists are not visible to stat
    if status.st_mode & 0o077:
        raise ValueError(f"{path} is open to others (mode {status.st_mode & 0o777:04o}); run: chmod 600 {path}")
    if status.st_uid not in (0, geteuid()):
        raise ValueError(
            f"{path} belongs to uid {status.st_uid}; it must belong to root or the agent (uid {geteuid()})"
        )
