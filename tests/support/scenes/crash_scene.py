"""A queue at work beside which processes of ours are killed, and what must hold after every kill.

Whether a task was lost or doubled is decided by counting in the database, against what the worker says it did.
"""

import json
import os
import random
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest

from actions.backups.publish import PARTIAL
from actions.store.runs import Run
from collectors.backup_catalog.local_directory import manifest_path
from collectors.raw_reader.client import RawReader
from collectors.target import BackupSettings, Limits, Target
from tests.support.scenes import prismq, runner_child
from tests.support.scenes.run_actions import target_of

ACTIONS = ("checkpoint", "backup", "requeue", "purge")
HEALING = ("vacuum", "slices", "analyze", "optimize", "integrity")
# What the door is asked for, where it is not the scene's own word: (action, options).
WISHES: dict[str, tuple[str, dict[str, Any]]] = {
    "vacuum": ("vacuum", {"free_for": 0.0, "rowids_unused": True}),
    "slices": ("vacuum", {"free_for": 0.0, "incremental": True}),
    "integrity": ("integrity", {"full": True, "longest_read": 60.0}),
}
MARK = "QK_TEST_MARK"
LONG_AGO = 100_000.0
VERY_LONG_AGO = 9_000_000.0
STALE = FINISHED = 100


@dataclass
class Scene:
    """A queue at work, and what is known of it from outside: `put` tasks by the test, the rest by the worker.

    `finished`: those of them that ended long ago, each with a log.
    """

    action: str
    queue: prismq.Queue
    target: Target
    raw: RawReader
    worker: subprocess.Popen[str]
    mark: str
    put: int = 0
    finished: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    whole: set[Path] = field(default_factory=set)

    @property
    def state(self) -> Path:
        assert self.target.state is not None
        return self.target.state

    @property
    def backups(self) -> list[Path]:
        """Everything that lies where the backups go."""
        assert self.target.backup is not None
        folder = self.target.backup.directory / self.target.name
        return sorted(folder.iterdir()) if folder.exists() else []

    def give_work(self) -> None:
        """Make the action have something to do that takes a while."""
        if self.action == "checkpoint":
            with self.queue.owner:
                self.queue.owner.execute("UPDATE ballast SET bytes = zeroblob(?) WHERE rowid <= 3", (1 << 23,))
        if self.action in ("vacuum", "slices"):
            self.queue.owner.execute(
                "PRAGMA wal_checkpoint(TRUNCATE)"
            ).fetchall()  # each vacuum leaves all of it in the WAL
            with self.queue.owner:
                spare = 1 << 22 if self.action == "vacuum" else 1 << 19
                self.queue.owner.execute("INSERT INTO ballast SELECT zeroblob(?) FROM json_each('[1,2]')", (spare,))
                self.queue.owner.execute("DELETE FROM ballast WHERE rowid > 4")
        if self.action == "optimize":
            self.queue.owner.execute("DROP TABLE IF EXISTS sqlite_stat1")
        if self.action == "requeue":
            missing = STALE - self.stale()
            self.queue.leased(time.time() - LONG_AGO, missing)
            self.put += missing
        if self.action == "purge":
            self._finish(FINISHED - self.left())

    def _finish(self, number: int) -> None:
        with self.queue.owner:
            for _ in range(number):
                ended = prismq.stamp(time.time() - VERY_LONG_AGO)
                self.queue.owner.execute(
                    "INSERT INTO task_queue (type, status, finished_at_utc) VALUES ('old', 'completed', ?)", (ended,)
                )
                task = self.queue.owner.last_insert_rowid()
                self.queue.owner.execute("INSERT INTO task_logs (task_id, level) VALUES (?, 'info')", (task,))
        self.put += number
        self.finished += number

    def left(self) -> int:
        """Tasks that ended long ago and are still there; each has its log, and no log is without its task."""
        tasks = self.queue.value("SELECT count(*) FROM task_queue WHERE type = 'old'")
        orphans = "SELECT count(*) FROM task_logs WHERE task_id NOT IN (SELECT id FROM task_queue)"
        assert self.queue.value(orphans) == 0
        return int(tasks)

    def purged(self) -> int:
        """How many of them are gone."""
        return self.finished - self.left()

    def stale(self) -> int:
        """Tasks of workers that are gone."""
        count = "SELECT count(*) FROM task_queue WHERE locked_by = 'worker-1' AND status = 'leased'"
        return int(self.queue.value(count))

    def processes(self) -> list[int]:
        """Every living process that inherited this test's mark."""
        wanted = f"{MARK}={self.mark}".encode()
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _has(pid, wanted)]


def _has(pid: int, wanted: bytes) -> bool:
    try:
        return pid != os.getpid() and wanted in Path(f"/proc/{pid}/environ").read_bytes() and runner_child.lives(pid)
    except OSError:
        return False


@contextmanager
def stage(
    make_queue: Callable[..., prismq.Queue], folder: Path, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Scene]]:
    """Makes scenes: set_up(action, milliseconds between the worker's tasks). Ends every process that inherited the mark."""
    made: list[Scene] = []
    mark = folder.name + str(random.random())
    raw.read_lock_table()  # its own process is started now, without the mark
    with ExitStack() as stack:

        def make(action: str, interval: int = 2) -> Scene:
            small = action in ("requeue", "purge", "slices", "analyze", "optimize")
            queue = _loaded(make_queue(f"{action}.db"), 1 << 13 if small else 1 << 23, incremental=action == "slices")
            place = BackupSettings(folder / "backups")
            target = target_of(queue.path, owner_sqlite="3.51.3", backup=place, limits=Limits(disk_reserve=1 << 20))
            with monkeypatch.context() as unmarked:
                unmarked.delenv(MARK, raising=False)
                worker = stack.enter_context(prismq.process("worker.py", queue.path, str(interval)))
            monkeypatch.setenv(MARK, mark)
            made.append(Scene(action, queue, target, raw, worker, mark))
            return made[-1]

        yield make
        for pid in made[0].processes():
            os.kill(pid, 9)


def _loaded(queue: prismq.Queue, ballast: int, *, incremental: bool) -> prismq.Queue:
    queue.owner.set_busy_timeout(1000)
    if incremental:
        queue.owner.execute("PRAGMA auto_vacuum=INCREMENTAL; VACUUM").fetchall()
    queue.owner.wal_autocheckpoint(0)
    queue.owner.execute("CREATE TABLE ballast (bytes)")
    queue.owner.execute("INSERT INTO ballast SELECT zeroblob(?) FROM json_each('[1,2,3,4]')", (ballast,))
    queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return queue


def seeded() -> random.Random:
    seed = int(os.environ.get("QK_SEED") or random.randrange(1 << 32))
    print(f"QK_SEED={seed}")
    return random.Random(seed)


def spread(rng: random.Random, number: int, length: float) -> list[float]:
    """Random instants (seconds) that cover the whole length evenly, in random order."""
    instants = [(place + rng.random()) / number * length for place in range(number)]
    rng.shuffle(instants)
    return instants


# What must hold after every kill


def check_nothing_is_held(scene: Scene) -> None:
    """No process of ours lives, the kernel knows no lock of one, and the application commits at its first try.

    A process that dies can be missing from one view and not yet from the other: both must be empty in the end.
    """
    runner_child.eventually(
        lambda: not scene.processes() and not _holders(scene), "no process of ours lives or holds a lock"
    )
    scene.queue.put("queued", 1)
    scene.put += 1


def _holders(scene: Scene) -> set[int]:
    """Who else than the application holds a lock of any kind on its files."""
    return {holder.row.pid for holder in scene.raw.find_held_locks(scene.target.path)} - {scene.worker.pid, os.getpid()}


def check_database(scene: Scene) -> None:
    assert scene.queue.value("PRAGMA integrity_check(1)") == "ok"
    # In one snapshot: the writers go on meanwhile.
    missing = (
        "SELECT seq - (SELECT count(*) FROM task_queue WHERE type <> 'old') - ? "
        "FROM sqlite_sequence WHERE name = 'task_queue'"
    )
    assert scene.queue.value(missing, scene.finished) == 0
    assert scene.left() <= scene.finished
    assert scene.queue.value("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'sqlite_stat%'") in (0, 1)
    assert (
        scene.queue.value("SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%'")
        == 4
    )


def check_backups(scene: Scene) -> None:
    """What has a final name is whole and private; what is not whole has a partial name and is private too."""
    for path in scene.backups:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        if path.suffix == ".db" and PARTIAL not in path.name and path not in scene.whole:
            check_whole(path)
            scene.whole.add(path)


def check_whole(path: Path) -> None:
    copy = apsw.Connection(f"file:{path}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    assert copy.execute("PRAGMA integrity_check(1)").get == "ok"
    assert copy.pragma("page_count") * copy.pragma("page_size") == path.stat().st_size
    assert copy.execute("SELECT count(*) FROM ballast").get == 4
    assert copy.execute("SELECT count(*) = max(id) AND count(*) > 0 FROM task_queue").get
    copy.close()


def check_record(scene: Scene, told: Run) -> None:
    """A success is told only of what was done."""
    if told.outcome == "done" and told.action == "backup":
        final = Path(str(told.figures["path"]))
        assert manifest_path(final).exists()
    assert told.state == "pending" or told.outcome in ("done", "nothing_to_do", "interrupted", "cancelled"), told


def check_tasks(scene: Scene) -> None:
    """No task is lost, none doubled, none taken from its living worker."""
    assert scene.worker.stdin is not None
    assert scene.worker.stdout is not None
    scene.worker.stdin.close()
    did = json.loads(scene.worker.stdout.readline())
    count = scene.queue.value
    left = scene.left()
    print(scene.seen, did, scene.purged())
    assert did["lost"] == 0
    assert count("SELECT count(*) FROM task_queue") == did["enqueued"] + scene.put - scene.purged()
    assert count("SELECT count(*) FROM task_queue WHERE status = 'completed'") == did["completed"] + left
    assert count("SELECT count(*) FROM task_logs") == did["completed"] + left
    assert count("SELECT count(DISTINCT task_id) FROM task_logs") == did["completed"] + left
    assert did["completed"] > 100
