"""Everything that a user of the command line can do wrong, as files and as circumstances: what the table of errors uses."""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import apsw
import pytest

from actions.store.database import state_store
from actions.store.pause import clear_pause, set_pause
from collectors.backup_catalog.local_directory import manifest_path
from tests.support.scenes import prismq, queue_files

NOBODY = 65534
CONFIG = """
databases:
  - {name: jobs, path: jobs.db, owner_sqlite: 3.51.3, backup: {directory: backups}}
  - {name: gone, path: gone.db, backup: {directory: backups}}
  - {name: folder, path: folder, backup: {directory: backups}}
limits: {disk_reserve: 0B}
state: state
"""


@dataclass
class World:
    """A folder full of trouble. `queue` lives; its owner is connected."""

    folder: Path
    queue: prismq.Queue
    taken: str = ""

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)

    @property
    def state(self) -> Path:
        """Where the history of the table's runs lives."""
        return self.folder / "state"


During = Callable[[World], AbstractContextManager[object]]


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Make it, readable by everybody: some of the table is done as another user."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    (folder / "folder").mkdir()
    (folder / "empty").mkdir()
    (folder / "text.db").write_text("this is a text and no database, but it is longer than a header\n" * 10)
    (folder / "encrypted.db").write_bytes(os.urandom(8192))
    (folder / "short.db").write_bytes(b"SQLite format 3\0" + bytes(50))
    os.mkfifo(folder / "pipe.db")
    (folder / "broken-state").mkdir()
    (folder / "broken-state" / "history.db").write_text(
        "no history, only words, though more than a header of them\n" * 9
    )
    _configurations(folder)
    with ExitStack() as stack:
        queue = prismq.create(folder / "jobs.db")
        stack.callback(queue.owner.close)
        queue.leased(time.time() - 100_000, 3)
        queue.fill_wal(50)
        (folder / "foreign.db").symlink_to(queue.path)
        for name, schema in (("gated.db", queue_files.PERSIST_ACK), ("huey.db", queue_files.HUEY), ("plain.db", "")):
            stack.enter_context(queue_files.owned(folder / name, schema + "CREATE TABLE other (x);"))
        apsw.Connection(str(folder / "journal.db")).execute("CREATE TABLE other (x)")
        yield World(folder, queue)


def _configurations(folder: Path) -> None:
    (folder / "good.yaml").write_text(CONFIG)
    (folder / "typo.yaml").write_text(CONFIG.replace("limits:", "limts:"))
    (folder / "bad.yaml").write_text("databases: [\n")
    (folder / "list.yaml").write_text("- databases\n")
    (folder / "binary.yaml").write_bytes(b"databases: \xff\xfe\n")
    (folder / "none.yaml").write_text("databases:\n  - path: nothing-*.db\nstate: state\n")
    (folder / "web.yaml").write_text("basic_auth_users: {ann: plain}\n")
    (folder / "enabled.yaml").write_text(CONFIG + "actions: {enabled: true, allow: {token_files: [no-token]}}\n")
    (folder / "greedy.yaml").write_text(CONFIG.replace("0B", "8000000TiB"))
    (folder / "profile.yaml").write_text("name: mine\n")
    (folder / "shipped.yaml").write_text(files("collectors.queue_profiles.shipped").joinpath("prismq.yaml").read_text())


@contextmanager
def nothing(_world: World) -> Iterator[None]:
    """No circumstance."""
    yield


@contextmanager
def paused(world: World) -> Iterator[None]:
    """All actions are paused."""
    with state_store(world.state) as store:
        set_pause(store, "by ann: migration")
        yield
        clear_pause(store)


ACTION_LOCK = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(world: World) -> Iterator[None]:
    """Somebody else's action works on the database."""
    script = world.folder / "action_lock.py"
    script.write_text(ACTION_LOCK)
    with prismq.process(str(script), world.queue.path):
        yield


@contextmanager
def held(world: World) -> Iterator[None]:
    """An application keeps `journal.db`, which has no write-ahead log, to itself in a transaction that does not end."""
    script = world.folder / "holds_all.py"
    script.write_text(HOLDS_ALL)
    with prismq.process(str(script), world.folder / "journal.db"):
        yield


HOLDS_ALL = """
import apsw, sys
connection = apsw.Connection(sys.argv[1])
connection.execute("CREATE TABLE IF NOT EXISTS other (x); BEGIN EXCLUSIVE; INSERT INTO other VALUES (1)")
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def pinned(world: World) -> Iterator[None]:
    """A reader holds the write-ahead log back."""
    with prismq.process("held_reader.py", world.queue.path):
        world.queue.put()
        yield


AS_NOBODY = """#!{python}
import encodings.ascii, os, sys
sys.path[:0] = {path}
from actions.runner.child import main
os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
sys.exit(main())
"""


@contextmanager
def foreign(world: World) -> Iterator[None]:
    """The child is neither root's nor the database's owner's. (Who runs the tests without root has a file of root's.)"""
    if os.geteuid() != 0:
        with owned_by_root(world):
            yield
        return
    nobody = world.folder / "as-nobody"
    nobody.write_text(AS_NOBODY.format(python=sys.executable, path=sys.path, nobody=NOBODY))
    nobody.chmod(0o755)
    with state_store(world.folder / "nobodys"), pytest.MonkeyPatch.context() as changed:
        for path in (world.folder / "nobodys", *(world.folder / "nobodys").iterdir()):
            os.chown(path, NOBODY, NOBODY)
        changed.setattr(sys, "executable", str(nobody))
        yield


@contextmanager
def owned_by_root(world: World) -> Iterator[None]:
    """The database's name leads to a file of root's."""
    path = world.folder / "foreign.db"
    path.unlink()
    path.symlink_to("/etc/passwd")
    yield


@contextmanager
def port_taken(world: World) -> Iterator[None]:
    """Another program listens on the port of `world.taken`."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        world.taken = f"127.0.0.1:{other.getsockname()[1]}"
        yield


def backup_of(world: World) -> Path:
    """The newest backup of the world's queue."""
    return max((world.folder / "backups" / "jobs").glob("*.db"))


@contextmanager
def damaged_backup(world: World) -> Iterator[None]:
    """The only backup is not what was written."""
    backup = backup_of(world)
    kept, said = backup.read_bytes(), manifest_path(backup).read_bytes()
    backup.write_bytes(kept[:5000] + b"damage" + kept[5006:])
    yield
    backup.write_bytes(kept)
    manifest_path(backup).write_bytes(said)
