"""kill -9 of the child and of the agent at random instants of each action, beside a worker that never rests.

The instants cover the whole life of a process evenly; half of the child's lie in the time in which it acts. Whether a task
was lost or doubled is decided by counting in the database, against what the worker says it did.
The seed of each test is printed; QK_SEED=N repeats it.
"""

import json
import os
import random
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import apsw
import door_child
import prismq
import pytest
from acting import by_hand, target_of
from agent_process import AgentProcess

from actions.door.job import Job
from actions.history import runs
from actions.history.recovery import end_lost
from actions.history.runs import Run
from actions.history.store import history
from actions.run.request import Request
from actions.writing.publish import PARTIAL
from collectors.manifest import manifest_path
from collectors.raw_reader.ask import RawReader
from collectors.target import BackupPlace, Limits, Target

ACTIONS = ("checkpoint", "backup", "requeue")
MARK = "QK_TEST_MARK"
LONG_AGO = 100_000.0
STALE = 100
INSTANTS = [10, pytest.param(30, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
pytestmark = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="needs the kernel's table of locks")

CONFIG = """\
databases:
  - {name: checkpoint, path: FOLDER/checkpoint.db, owner_sqlite: 3.51.3}
  - {name: backup, path: FOLDER/backup.db, backup: {directory: FOLDER/backups}}
  - {name: requeue, path: FOLDER/requeue.db}
poll: {interval: 1s}
limits: {disk_reserve: 1MiB, write_lock: 0.001ms}
actions: {enabled: true, quota_per_hour: 100000}
rules:
  - name: backlog
    when: {sqlite_wal_backlog_bytes: {above: 1MiB}}
    on: {threshold: {for: 0s}}
    do: checkpoint
    cooldown: 0s
    databases: [checkpoint]
  - name: old
    when: {sqlite_backup_age_seconds: {above: 0.3}}
    on: {threshold: {for: 0s}}
    do: backup
    cooldown: 0s
    databases: [backup]
  - name: stale
    when: {sqlite_queue_stale_leases: {above: 0}}
    on: {threshold: {for: 0s}}
    do: requeue
    options: {guarded: true, limit: 1000}
    cooldown: 0s
    databases: [requeue]
state: FOLDER/state
"""


@dataclass
class Scene:
    """A queue at work, and what is known of it from outside: `put` tasks by the test, the rest by the worker."""

    action: str
    queue: prismq.Queue
    target: Target
    raw: RawReader
    worker: subprocess.Popen[str]
    mark: str
    put: int = 0
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
        folder = self.target.backup.folder(self.target.name)
        return sorted(folder.iterdir()) if folder.exists() else []

    def give_work(self) -> None:
        """Make the action have something to do that takes a while."""
        if self.action == "checkpoint":
            with self.queue.owner:
                self.queue.owner.execute("UPDATE ballast SET bytes = zeroblob(?) WHERE rowid <= 3", (1 << 23,))
        if self.action == "requeue":
            self.queue.leased(time.time() - LONG_AGO, STALE)
            self.put += STALE

    def processes(self) -> list[int]:
        """Every living process that inherited this test's mark."""
        wanted = f"{MARK}={self.mark}".encode()
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _has(pid, wanted)]


def _has(pid: int, wanted: bytes) -> bool:
    try:
        return pid != os.getpid() and wanted in Path(f"/proc/{pid}/environ").read_bytes() and door_child.lives(pid)
    except OSError:
        return False


@pytest.fixture
def set_up(
    make_queue: Callable[..., prismq.Queue], tmp_path: Path, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Scene]]:
    """Makes scenes: set_up(action, milliseconds between the worker's tasks)."""
    made: list[Scene] = []
    mark = tmp_path.name + str(random.random())
    raw.locks()  # its own process is started now, without the mark
    with ExitStack() as stack:

        def make(action: str, interval: int = 2) -> Scene:
            queue = _loaded(make_queue(f"{action}.db"), 1 << 23 if action != "requeue" else 1 << 13)
            place = BackupPlace(tmp_path / "backups")
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


def _loaded(queue: prismq.Queue, ballast: int) -> prismq.Queue:
    queue.owner.set_busy_timeout(1000)
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
    door_child.eventually(
        lambda: not scene.processes() and not _holders(scene), "no process of ours lives or holds a lock"
    )
    scene.queue.put("queued", 1)
    scene.put += 1


def _holders(scene: Scene) -> set[int]:
    """Who else than the application holds a lock of any kind on its files."""
    return {holder.row.pid for holder in scene.raw.holders(scene.target.path)} - {scene.worker.pid, os.getpid()}


def check_database(scene: Scene) -> None:
    assert scene.queue.value("PRAGMA integrity_check(1)") == "ok"
    assert scene.queue.value("SELECT count(*) = max(id) FROM task_queue")
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
    print(scene.seen, did)
    assert did["lost"] == 0
    assert count("SELECT count(*) FROM task_queue") == did["enqueued"] + scene.put
    assert count("SELECT count(*) FROM task_queue WHERE status = 'completed'") == did["completed"]
    assert count("SELECT count(*) FROM task_logs") == did["completed"]
    assert count("SELECT count(DISTINCT task_id) FROM task_logs") == did["completed"]
    assert did["completed"] > 100


# The child


def claimed(scene: Scene) -> Job:
    target = door_child.slow(scene.target) if scene.action == "requeue" else scene.target
    return door_child.claimed(target, scene.action)


def undisturbed(scene: Scene) -> tuple[float, float]:
    """How long the action takes as a process, and how long from its plan on, in seconds."""
    scene.give_work()
    job = claimed(scene)
    started = time.monotonic()
    child = door_child.start(job)
    door_child.wait_for(child, "planned")
    planned = time.monotonic()
    door_child.finish(child)
    ended = time.monotonic()
    assert door_child.record(job).outcome == "done"
    return ended - started, ended - planned


def after_the_kill(scene: Scene, job: Job) -> Run:
    """Everything that must hold, before and after somebody ends what was lost.

    We are the claimer and live: a run that its child never began is ours to end, as commands and the agent do.
    """
    found = door_child.record(job)
    scene.seen[found.state] += 1
    check_nothing_is_held(scene)
    with history(scene.state) as store:
        if found.state == "claimed":
            end_lost(store, found, time.time())
    door_child.recovered(scene.state, scene.raw)
    assert door_child.left_unfinished(scene.state) == []
    told = door_child.record(job)
    check_record(scene, told)
    check_backups(scene)
    return told


@pytest.mark.parametrize("instants", INSTANTS)
@pytest.mark.parametrize("action", ACTIONS)
def test_killing_the_child_at_any_instant_loses_nothing_and_leaves_nothing(
    set_up: Callable[..., Scene], action: str, instants: int
) -> None:
    scene, rng = set_up(action), seeded()
    whole, acting = undisturbed(scene)
    for number, instant in enumerate(spread(rng, instants, 1.0)):
        scene.give_work()
        job = claimed(scene)
        child = door_child.start(job)
        if number % 2:  # every other one while it acts: most of a short action's life is its start-up
            door_child.wait_for(child, "planned")
        time.sleep(instant * (acting if number % 2 else whole))  # the instant is what is tested
        door_child.close(child)
        after_the_kill(scene, job)
    undisturbed(scene)
    check_database(scene)
    assert not [path for path in scene.backups if PARTIAL in path.name]
    check_tasks(scene)


def test_a_child_killed_in_the_middle_of_a_backup_leaves_a_partial_file_that_the_next_one_removes(
    set_up: Callable[..., Scene],
) -> None:
    scene = set_up("backup")
    job = claimed(scene)
    child = door_child.start(job)
    door_child.wait_for(child, "progress")
    door_child.close(child)
    assert door_child.record(job).state == "running"
    told = after_the_kill(scene, job)
    assert (told.outcome, told.reason) == ("interrupted", "process_gone")
    assert [PARTIAL in path.name for path in scene.backups] == [True]
    again = by_hand(scene.target, "backup")
    assert again.figures["leftovers_removed"] == 1
    assert len(scene.backups) == 2
    assert scene.queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0] == 0


def test_a_child_killed_in_the_middle_of_a_requeue_keeps_what_was_committed(set_up: Callable[..., Scene]) -> None:
    scene = set_up("requeue")
    scene.give_work()
    job = claimed(scene)
    child = door_child.start(job)
    door_child.wait_for(child, "progress")
    door_child.close(child)
    assert after_the_kill(scene, job).outcome == "interrupted"
    left = scene.queue.value("SELECT count(*) FROM task_queue WHERE locked_by = 'worker-1' AND status = 'leased'")
    assert 0 < left < STALE
    assert by_hand(scene.target, "requeue").figures["requeued"] == left
    check_database(scene)
    check_tasks(scene)


def test_a_child_killed_while_its_checkpoint_holds_the_write_lock_frees_it(
    set_up: Callable[..., Scene],
    held_reader: Callable[[Path], AbstractContextManager[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A TRUNCATE that waits for a reader holds the write lock: here for up to a minute."""
    scene = set_up("checkpoint")
    patient = replace(scene.target, limits=Limits(checkpoint_wait=60.0))
    monkeypatch.delenv(MARK)
    with held_reader(scene.target.path):
        monkeypatch.setenv(MARK, scene.mark)
        scene.give_work()
        job = door_child.claimed(patient, "checkpoint", mode="truncate")
        child = door_child.start(job)
        door_child.wait_for(child, "planned")
        scene.queue.owner.set_busy_timeout(0)
        door_child.eventually(lambda: not can_write(scene), "the checkpoint takes the write lock and keeps it")
        assert child.pid in {
            holder.row.pid for holder in scene.raw.holders(scene.target.path) if holder.row.mode == "WRITE"
        }
        door_child.close(child)
        scene.queue.owner.set_busy_timeout(1000)
        assert can_write(scene)
    assert after_the_kill(scene, job).outcome == "interrupted"
    check_database(scene)
    check_tasks(scene)


def can_write(scene: Scene) -> bool:
    """Whether a second long try, as short as the worker's transactions allow, meets nobody."""
    for _ in range(200):
        try:
            scene.queue.owner.execute("BEGIN IMMEDIATE; ROLLBACK")
        except apsw.BusyError:
            time.sleep(0.001)
        else:
            return True
    return False


# The agent


def agent_of(folder: Path) -> AgentProcess:
    """An agent whose rules start the three actions at once, whenever there is something to do. Not started yet."""
    made = AgentProcess(folder)
    made.config.write_text(CONFIG.replace("FOLDER", str(folder)))
    made.config.chmod(0o600)
    return made


def all_acted(made: AgentProcess, known: int, outcome: str | None = None) -> bool:
    ended = {run.action for run in made.runs()[known:] if run.state == "ended" and outcome in (None, run.outcome)}
    return ended == set(ACTIONS)


def settled(state: Path, lost: list[Run]) -> bool:
    """Whether none of these is as it was at the kill."""
    with history(state) as store:
        return all(is_other(runs.run(store, run.id), run) for run in lost)


def is_other(now: Run, then: Run) -> bool:
    return now.state in ("pending", "ended") or now.token != then.token


@pytest.mark.parametrize("instants", INSTANTS)
def test_killing_the_agent_at_any_instant_loses_nothing_and_the_next_one_ends_what_was_lost(
    set_up: Callable[..., Scene], tmp_path: Path, instants: int
) -> None:
    """One agent, three databases, an action on each: every kill hits whatever the three are just doing."""
    scenes, rng = [set_up(action, 10) for action in ACTIONS], seeded()
    by_hand(scenes[1].target, "backup")  # an age to judge
    made = agent_of(tmp_path)
    give_work(scenes)
    made.start(ready=False)
    started = time.monotonic()
    made.wait(lambda: all_acted(made, 1), "all rules' actions to end")
    for number, instant in enumerate(spread(rng, instants, time.monotonic() - started)):
        made.kill()
        lost = door_child.left_unfinished(made.state)
        scenes[0].seen.update(f"{run.action} {run.state}" for run in lost)
        if number % 2:  # else the next agent comes while the orphans may still be at work
            check_all(scenes)
        give_work(scenes)
        made.start(ready=False)
        door_child.eventually(lambda lost=lost: settled(made.state, lost), "what the killed agent left is settled")
        time.sleep(instant)  # the instant is what is tested
    made.kill()
    check_all(scenes)
    give_work(scenes)
    known = len(made.runs())
    made.start(ready=False)
    made.wait(lambda: all_acted(made, known, "done"), "one more success of each")
    assert made.stop() == 0
    assert door_child.left_unfinished(made.state) == []
    for told in made.runs():
        check_record(scenes[1], told)
    check_all(scenes)
    for scene in scenes:
        check_database(scene)
        check_tasks(scene)


def give_work(scenes: list[Scene]) -> None:
    for scene in scenes:
        scene.give_work()


def check_all(scenes: list[Scene]) -> None:
    for scene in scenes:
        check_nothing_is_held(scene)
    check_backups(scenes[1])


def test_a_claim_that_begins_while_it_is_given_up_is_not_ended(tmp_path: Path) -> None:
    """Between finding a lost claim and ending it, its child may have begun: ending it then would be a false record."""
    for wish in (Request("backup", "jobs"), Request("backup", "jobs", "threshold", rule="r")):
        with history(tmp_path / wish.trigger) as store:
            claim = runs.ask_and_claim(store, wish, "/jobs.db", 1.0)
            found = runs.run(store, claim.run_id)
            assert runs.begin(store, claim, 2.0)
            end_lost(store, found, 3.0)
            assert runs.run(store, claim.run_id).state == "running"
