"""A completion that races a requeue wins: random schedules of workers and requeues, judged by the database alone.

Each step is a transaction; between any two of them anybody may act. Workers are slow, renew, crash, come back late. At
the end a worker drains the queue. A failing schedule is printed with its seed; QK_SEED=N repeats a run.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest

from actions.batches.apply_rows import AppliedRows, apply_range_steps, apply_steps
from actions.batches.select_rows import FIRST_ROW, LAST_ROW, SelectedRow, fetch_rows
from collectors.queue_profiles.authorizer import SchemaEffects, read_schema_effects
from collectors.queue_profiles.detection import detect_profile
from collectors.queue_profiles.row_selection import RowSelection
from collectors.target import Target
from tests.support.scenes import prismq, queue_files
from tests.support.scenes.crash_scene import seeded

START = 1_790_000_000
SCHEDULES = 10_000
GRACE = 60


@dataclass
class Queue:
    """One queue system: how its workers claim, renew and complete. `note`: rows that completions leave behind."""

    owner: apsw.Connection
    fill: Callable[[apsw.Connection, int], None]
    claim: str
    renew: str
    complete: str
    stamp: Callable[[float], Any]
    unfinished: str
    has_token: bool


PRISMQ = {
    "claim": "UPDATE task_queue SET status = 'leased', locked_by = :who, lease_until_utc = :until, reserved_at_utc = :now "
    "WHERE id = (SELECT id FROM task_queue WHERE status = 'queued' ORDER BY id LIMIT 1) RETURNING id",
    "renew": "UPDATE task_queue SET lease_until_utc = :until WHERE id = :id AND status = 'leased' AND locked_by = :who",
    # as the queue's own code does: any worker that finds it leased may complete it
    "complete": "UPDATE task_queue SET status = 'completed', finished_at_utc = :now WHERE id = :id AND status = 'leased'",
    "unfinished": "SELECT count(*) FROM task_queue WHERE status <> 'completed'",
}
LITEQUE = {
    "claim": "UPDATE tasks SET status = 'running', allocationId = :who || random(), expireAt = :until WHERE id = (SELECT id "
    "FROM tasks WHERE status IN ('pending', 'pending_retry') ORDER BY id LIMIT 1) RETURNING id, allocationId",
    "renew": "UPDATE tasks SET expireAt = :until WHERE id = :id AND status = 'running' AND allocationId = :token",
    "complete": "UPDATE tasks SET status = 'done' WHERE id = :id AND status = 'running' AND allocationId = :token",
    "unfinished": "SELECT count(*) FROM tasks WHERE status <> 'done'",
}


def fill_prismq(owner: apsw.Connection, number: int) -> None:
    owner.execute("DELETE FROM note; DELETE FROM task_queue")
    owner.executemany("INSERT INTO task_queue (type, max_attempts) VALUES (?, 1000)", [("mail",)] * number)


def fill_liteque(owner: apsw.Connection, number: int) -> None:
    owner.execute("DELETE FROM note; DELETE FROM tasks")
    sql = "INSERT INTO tasks (queue, payload, createdAt, allocationId, numRunsLeft, maxNumRuns) VALUES ('q', ?, 1, '', 9, 9)"
    owner.executemany(sql, [("{}",)] * number)


@pytest.fixture(params=["prismq", "liteque"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Queue]:
    words, fill, stamp = {
        "prismq": (PRISMQ, fill_prismq, prismq.stamp),
        "liteque": (LITEQUE, fill_liteque, int),
    }[request.param]
    with queue_files.owned(tmp_path / "q.db", queue_files.SCHEMAS[request.param]) as owner:
        owner.execute("CREATE TABLE note (task, who)")
        yield Queue(owner, fill, stamp=stamp, has_token=request.param == "liteque", **words)


@dataclass
class Worker:
    """What one worker believes to hold: the task and the fencing token, until when."""

    name: str
    task: int | None = None
    token: str = ""
    until: float = 0.0


@dataclass
class Schedule:
    """One random schedule and everything that happened in it."""

    queue: Queue
    ours: apsw.Connection
    selection: RowSelection
    own: SchemaEffects
    draw: random.Random
    now: float = START
    seen: list[SelectedRow] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def play(self) -> None:
        tasks = self.draw.randint(1, 4)
        self.queue.fill(self.queue.owner, tasks)
        self.workers = [Worker(f"w{number}") for number in range(self.draw.randint(1, 3))]
        steps = [
            self.claim,
            self.complete,
            self.complete,
            self.renew,
            self.crash,
            self.wait,
            self.look,
            self.look,
            self.take,
        ]
        for _ in range(self.draw.randint(5, 25)):
            self.draw.choice(steps)()
        self.drain()
        self.check_done(tasks)

    def check_living(self) -> None:
        """No task was requeued while its lease is valid."""
        for worker in self.workers:
            if worker.task is not None and worker.until > self.now:
                token = "allocationId" if self.queue.has_token else "locked_by"
                table = "tasks" if self.queue.has_token else "task_queue"
                held = self.queue.owner.execute(f"SELECT {token} FROM {table} WHERE id = ?", (worker.task,)).get
                assert held == (worker.token if self.queue.has_token else worker.name), self.log

    def check_done(self, tasks: int) -> None:
        """Every task is done, once, by what the database says."""
        owner = self.queue.owner
        assert owner.execute(self.queue.unfinished).get == 0, self.log
        assert owner.execute("SELECT count(*), count(DISTINCT task) FROM note").get == (tasks, tasks), self.log

    # what may happen

    def some(self) -> Worker:
        return self.draw.choice(self.workers)

    def claim(self, worker: Worker | None = None, lease: float | None = None) -> bool:
        worker = worker or self.some()
        if worker.task is not None:
            return False
        length = self.draw.choice((30, 300)) if lease is None else lease
        worker.until = self.now + length
        values = {"who": worker.name, "until": self.queue.stamp(worker.until), "now": self.queue.stamp(self.now)}
        claimed = self.queue.owner.execute(self.queue.claim, _named(self.queue.claim, values)).fetchall()
        if not claimed:
            return False
        worker.task, worker.token = claimed[0][0], str(claimed[0][-1])
        self.log.append(f"{worker.name} claims {worker.task} for {length}")
        return True

    def complete(self, worker: Worker | None = None) -> None:
        worker = worker or self.some()
        if worker.task is None:
            return
        values = {"id": worker.task, "token": worker.token, "now": self.queue.stamp(self.now)}
        with self.queue.owner as owner:
            owner.execute(self.queue.complete, _named(self.queue.complete, values))
            accepted = owner.changes() == 1
            if accepted:
                owner.execute("INSERT INTO note VALUES (?, ?)", (worker.task, worker.name))
        self.log.append(f"{worker.name} completes {worker.task}: {accepted}")
        worker.task = None

    def renew(self) -> None:
        worker = self.some()
        if worker.task is None:
            return
        until = self.now + self.draw.choice((-100, 40, 300))  # the first: a clock that is wrong
        values = {"id": worker.task, "token": worker.token, "who": worker.name, "until": self.queue.stamp(until)}
        self.queue.owner.execute(self.queue.renew, _named(self.queue.renew, values))
        worker.until = until if self.queue.owner.changes() else 0.0
        self.log.append(f"{worker.name} renews {worker.task}: {worker.until - self.now:+.0f}")

    def crash(self) -> None:
        worker = self.some()
        self.log.append(f"{worker.name} crashes with {worker.task}")
        worker.task = None

    def wait(self) -> None:
        self.now += self.draw.choice((1, 50, 100, 400))
        self.log.append(f"now {self.now - START}")

    def look(self) -> None:
        if self.draw.random() < 0.5:
            self.seen = fetch_rows(self.ours, self.selection.search_statement(self.now), limit=100)
        else:
            self.seen = fetch_rows(self.ours, self.selection.walk_statement(self.now), after=FIRST_ROW, upto=LAST_ROW)
        self.log.append(f"look: {[row[:3] for row in self.seen]}")

    def take(self) -> None:
        pending, applied = deque(self.seen), AppliedRows()
        ranges = self.seen and len(self.seen[0]) > 4 and self.draw.random() < 0.5
        with self.ours:
            if ranges:
                apply_range_steps(
                    self.ours, self.selection.bind_range_steps(self.now), pending, applied, self.own, lambda _rows: True
                )
            else:
                apply_steps(self.ours, self.selection.bind_row_steps(self.now), pending, applied, self.own)
        self.log.append(f"take: {dict(applied.destinations)}")
        self.seen = []
        self.check_living()

    def drain(self) -> None:
        """All leases end; slow workers answer last; then one worker does the remaining tasks."""
        late = [worker for worker in self.workers if worker.task is not None and self.draw.random() < 0.5]
        self.now += 1000
        self.look()
        self.take()
        last = Worker("last")
        while self.claim(last, 300):
            for worker in late:
                self.complete(worker)  # of a task that another worker may hold by now
            self.complete(last)


def _named(sql: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if f":{name}" in sql}


@pytest.mark.timeout(600)
def test_every_task_is_done_exactly_once_in_every_schedule(queue: Queue, tmp_path: Path) -> None:
    ours = apsw.Connection(str(tmp_path / "q.db"))
    ours.transaction_mode = "IMMEDIATE"
    ours.pragma("synchronous", "off")
    profile = detect_profile(ours, Target("q", tmp_path / "q.db", settings={"grace": float(GRACE)}))
    assert profile is not None
    assert profile.requeue is not None
    seed, own = seeded().randrange(1 << 30), read_schema_effects(ours)
    happened: set[str] = set()
    for number in range(SCHEDULES if queue.has_token is False else SCHEDULES // 4):
        schedule = Schedule(queue, ours, profile.requeue.selections[0], own, random.Random(seed + number))
        schedule.play()
        happened |= {line.partition(":")[0].rstrip("0123456789 ") for line in schedule.log}
    ours.close()
    assert {"take", "look", "w0 crashes with", "w0 renews", "last completes"} <= happened
