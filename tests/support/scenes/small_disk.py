"""A file system of its own that is soon full: a real one, mounted for the test."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """A file system of its own that is soon full."""
    if os.geteuid() != 0:
        if os.environ.get("QK_REQUIRE_REAL") or os.environ.get("CI"):
            pytest.fail("only root can mount a small file system")
        pytest.skip("only root can mount a small file system")
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=700", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int) -> None:
    """Fill a file system but for `leave` bytes."""
    found = os.statvfs(folder)
    with (folder / "filler").open("wb") as file:
        file.write(b"x" * (found.f_bavail * found.f_frsize - leave))
