"""A WAL database whose application committed and was killed, with its folder mounted read-only for the test."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

_COMMIT_AND_WAIT = """
import apsw, sys, time
path, sql = sys.argv[1:]
connection = apsw.Connection(path)
connection.wal_autocheckpoint(0)
connection.execute(sql).fetchall()
print("committed", flush=True)
time.sleep(3600)
"""


def commit_and_die(path: Path, sql: str) -> None:
    """Have another process execute `sql` without a checkpoint, and kill it: its -wal and -shm stay."""
    process = subprocess.Popen([sys.executable, "-c", _COMMIT_AND_WAIT, path, sql], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "committed\n"
        process.send_signal(signal.SIGKILL)
        process.wait()


def read_only_folder(folder: Path) -> AbstractContextManager[None]:
    """The folder is a read-only mount of itself, as a container or a backup host sees it."""
    return read_only_view(folder, folder)


@contextmanager
def read_only_view(folder: Path, view: Path) -> Iterator[None]:
    """The folder is mounted read-only at `view`, too."""
    if os.geteuid() != 0:
        if os.environ.get("QK_REQUIRE_REAL") or os.environ.get("CI"):
            pytest.fail("only root can mount a folder read-only")
        pytest.skip("only root can mount a folder read-only")
    view.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", str(folder), str(view)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(view)], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(view)], check=True)
