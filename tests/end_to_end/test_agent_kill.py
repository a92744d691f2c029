"""kill -9 of the agent at random instants of its actions, with workers running all the time; then the next agent.

The seed is printed; QK_SEED=N repeats it.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actions.store import runs
from actions.store.database import state_store
from actions.store.runs import Run
from collectors.raw_reader.client import RawReader
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import prismq, runner_child
from tests.support.scenes.agent_process import AgentProcess
from tests.support.scenes.crash_scene import (
    Scene,
    check_backups,
    check_database,
    check_nothing_is_held,
    check_record,
    check_tasks,
    seeded,
    spread,
    stage,
)
from tests.support.scenes.run_actions import by_hand

# Those that the rules below start.
ACTIONS = ("checkpoint", "backup", "requeue")
INSTANTS = [
    10,
    pytest.param(30, marks=[pytest.mark.soak, pytest.mark.timeout(600)]),
]
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


@pytest.fixture
def set_up(
    make_queue: Callable[..., prismq.Queue], tmp_path: Path, raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Scene]]:
    with stage(make_queue, tmp_path, raw, monkeypatch) as made:
        yield made


def agent_of(folder: Path) -> AgentProcess:
    """Return an agent whose rules start the three actions at once when there is work. It is not started yet.

    The wrapper has it started, not forked: the instants of the kills cover the start-up, and the mark is in its environment.
    """
    made = AgentProcess(folder, wrapper=["env"])
    made.config.write_text(CONFIG.replace("FOLDER", str(folder)))
    made.config.chmod(0o600)
    return made


def all_acted(made: AgentProcess, known: int, outcome: str | None = None) -> bool:
    ended = {run.action for run in made.runs()[known:] if run.state == "ended" and outcome in (None, run.outcome)}
    return ended == set(ACTIONS)


def settled(state: Path, lost: list[Run]) -> bool:
    """Return whether all of these runs changed since the kill."""
    with state_store(state) as store:
        return all(is_other(runs.load_run(store, run.id), run) for run in lost)


def is_other(now: Run, then: Run) -> bool:
    return now.state in ("pending", "ended") or now.token != then.token


@pytest.mark.parametrize("instants", INSTANTS)
def test_killing_the_agent_at_any_instant_loses_nothing_and_the_next_one_ends_what_was_lost(
    set_up: Callable[..., Scene], tmp_path: Path, instants: int
) -> None:
    """One agent, three databases, an action on each: every kill hits the three at an arbitrary point."""
    scenes, rng = [set_up(action, 10) for action in ACTIONS], seeded()
    by_hand(scenes[1].target, "backup")  # an age to judge
    made = agent_of(tmp_path)
    give_work(scenes)
    made.start(ready=False)
    started = time.monotonic()
    made.wait(lambda: all_acted(made, 1), "all rules' actions to end", timeout=LONGEST_WAIT)
    for number, instant in enumerate(spread(rng, instants, time.monotonic() - started)):
        made.kill()
        lost = runner_child.left_unfinished(made.state)
        scenes[0].seen.update(f"{run.action} {run.state}" for run in lost)
        if number % 2:  # else the next agent comes while the orphans may still be at work
            check_all(scenes)
        give_work(scenes)
        made.start(ready=False)
        runner_child.eventually(lambda lost=lost: settled(made.state, lost), "what the killed agent left is settled")
        time.sleep(instant)  # the instant is what is tested
    made.kill()
    check_all(scenes)
    give_work(scenes)
    known = len(made.runs())
    made.start(ready=False)
    made.wait(lambda: all_acted(made, known, "done"), "one more success of each", timeout=LONGEST_WAIT)
    assert made.stop() == 0
    assert runner_child.left_unfinished(made.state) == []
    for run in made.runs():
        check_record(scenes[1], run)
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
