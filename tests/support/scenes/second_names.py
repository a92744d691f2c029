"""One database file under two names: an application works by the first, and the tests look at it by the second."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import apsw
import pytest

from tests.support.scenes import prismq

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
APPLICATION = prismq.HERE / "application.py"


def mount(*arguments: str | Path) -> None:
    """Mount, or skip the test where this machine does not let root."""
    if subprocess.run(["mount", *map(str, arguments)], capture_output=True, check=False).returncode:
        pytest.skip("no permission to mount on this machine")


@contextmanager
def hard_link(first: Path, second: Path) -> Iterator[None]:
    """The second name is a hard link."""
    os.link(first, second)
    yield


@contextmanager
def single_mount(first: Path, second: Path) -> Iterator[None]:
    """The second name is a mount of the single file."""
    second.touch()
    mount("--bind", first, second)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(second)], check=True)


def at_rest(path: Path, journal_mode: str, tasks: int = 50) -> None:
    """A queue whose owner has closed it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    queue = prismq.create(path, journal_mode)
    queue.put(number=tasks)
    queue.owner.close()


def application_at(path: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    """An application that commits a task every 20 ms by this name."""
    return prismq.process("application.py", path, "20")


@contextmanager
def application_in_container(first: Path, inside: Path) -> Iterator[subprocess.Popen[str]]:
    """An application in a mount namespace of its own, to which only the single file is given, as `inside`."""
    inside.touch()
    command = f'mount --bind "{first}" "{inside}" && exec "{sys.executable}" "{APPLICATION}" "{inside}" 20'
    child = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            pytest.skip("no mount namespaces on this machine")
        try:
            yield child
        finally:
            child.kill()


def end_application(child: subprocess.Popen[str]) -> int:
    """Let it end in the regular way; how many tasks it has committed."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.close()
    commits = int(child.stdout.readline())
    child.wait()
    return commits


def count_tasks(path: Path) -> int:
    """The tasks in a database that is whole, read and checked by the name of its application."""
    with apsw.Connection(str(path)) as database:
        assert database.execute("PRAGMA integrity_check").get == "ok"
        return int(database.execute("SELECT count(*) FROM task_queue").get)


@contextmanager
def read_only_view(folder: Path, view: Path) -> Iterator[None]:
    """A folder once more as `view`, where nothing can be written; in `folder` an application still can."""
    view.mkdir()
    mount("--bind", folder, view)
    try:
        mount("-o", "remount,bind,ro", view)
        yield
    finally:
        subprocess.run(["umount", "-l", str(view)], check=True)
