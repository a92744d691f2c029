"""Schedules on a real state store with a clock of the test: enqueued once, made up where configured, counted where missed."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest

from actions.model.outcome import Outcome
from actions.policy.schedules import Schedule
from actions.policy.suspension import SuspensionState
from actions.store import runs
from actions.store.database import StoreUnavailable, state_store
from actions.store.runs import RunEnding
from actions.store.schedules import save_schedule_progress as keep_schedule
from actions.store.suspensions import save_suspension
from actions.store.totals import read_totals
from collectors.target import Target
from exporter.triggers.schedules import LONGEST_CLOCK_WAIT, ScheduleTrigger
from tests.support.scenes import agent_process, prismq

THREE = datetime(2026, 3, 2, 3, 0, tzinfo=UTC).timestamp()
DAY = 86400.0
MISSED = "queuekeeper_schedule_missed_total"
DAILY = Schedule("daily", "0 3 * * *", "backup")
JOBS = Target("jobs", Path("/jobs.db"))


@dataclass
class Clocked:
    """A trigger, its clock, and its state store."""

    store: apsw.Connection
    state: Path
    now: float = THREE - 3600
    schedules: tuple[Schedule, ...] = (DAILY,)
    targets: dict[str, Target] = field(default_factory=lambda: {"jobs": JOBS})
    woken: int = 0
    watch: ScheduleTrigger = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Return another agent on the same state store."""
        self.watch = ScheduleTrigger(
            self.state, lambda: self.schedules, lambda: self.targets, wake=self.wake, clock=lambda: self.now
        )

    def wake(self) -> None:
        self.woken += 1

    def at(self, now: float) -> int:
        """Check the schedules at this time; return how many runs there are."""
        self.now = now
        self.watch.enqueue_due_runs()
        return len(runs.newest_runs(self.store, None, 100))

    def missed(self, schedule: str = "daily", database: str = "jobs") -> int:
        return read_totals(self.store).missed[database, schedule]


@pytest.fixture
def clocked(tmp_path: Path) -> Iterator[Clocked]:
    with state_store(tmp_path) as store:
        yield Clocked(store, tmp_path)


def finish(store: apsw.Connection) -> None:
    for waiting in runs.pending_runs(store):
        claim = runs.claim_run(store, waiting.id, waiting.requested_at)
        assert claim is not None
        runs.end_run(store, claim, RunEnding(Outcome.DONE, "done"), waiting.requested_at + 1)


def test_it_asks_at_its_time_once(clocked: Clocked) -> None:
    assert [clocked.at(THREE + after) for after in (-3600, -1, 0.2, 5, 60)] == [0, 0, 1, 1, 1]
    (run,) = runs.pending_runs(clocked.store)
    assert (run.action, run.trigger, run.rule, run.path) == ("backup", "schedule", "daily", "/jobs.db")
    assert clocked.missed() == 0


def test_it_waits_no_longer_than_until_its_time_and_never_long(clocked: Clocked) -> None:
    assert clocked.watch.enqueue_due_runs() == LONGEST_CLOCK_WAIT
    clocked.now = THREE - 4
    assert clocked.watch.enqueue_due_runs() == 4
    clocked.schedules = ()
    assert clocked.watch.enqueue_due_runs() == LONGEST_CLOCK_WAIT


def test_a_restart_repeats_nothing(clocked: Clocked) -> None:
    clocked.at(THREE - 3600)
    clocked.at(THREE + 1)
    for after in (1.5, 2, 30):
        clocked.restart()
        assert clocked.at(THREE + after) == 1
    assert clocked.missed() == 0


def test_a_new_schedule_makes_nothing_up(clocked: Clocked) -> None:
    clocked.schedules = (Schedule("daily", "0 3 * * *", "backup", catch_up=DAY),)
    assert clocked.at(THREE + 60) == 0
    assert clocked.missed() == 0


def test_what_was_missed_while_nobody_looked_is_counted(clocked: Clocked) -> None:
    clocked.at(THREE - 3600)
    clocked.restart()
    assert clocked.at(THREE + 2 * DAY + 3600) == 0
    assert clocked.missed() == 3


def test_what_is_declared_to_be_made_up_is_made_up_once_by_the_next_agent(clocked: Clocked) -> None:
    clocked.schedules = (Schedule("daily", "0 3 * * *", "backup", catch_up=DAY / 2),)
    clocked.at(THREE - 3600)
    clocked.restart()
    assert clocked.at(THREE + DAY + 7200) == 1
    assert clocked.missed() == 1
    clocked.restart()
    assert clocked.at(THREE + DAY + 7260) == 1


def test_what_waits_or_works_already_serves_the_schedule_too(clocked: Clocked) -> None:
    clocked.at(THREE - 3600)
    clocked.at(THREE + 1)
    assert clocked.at(THREE + DAY + 1) == 1
    assert clocked.missed() == 0
    finish(clocked.store)
    assert clocked.at(THREE + 2 * DAY + 1) == 2


def test_a_suspended_action_is_missed(clocked: Clocked) -> None:
    clocked.at(THREE - 3600)
    save_suspension(clocked.store, "jobs", "backup", SuspensionState(2, since=1.0))
    assert clocked.at(THREE + 1) == 0
    assert clocked.missed() == 1


def test_each_database_has_its_turn_and_new_ones_begin_from_now(clocked: Clocked) -> None:
    clocked.schedules = (Schedule("daily", "0 3 * * *", "backup", jitter=600.0, databases=("a", "b", "c")),)
    clocked.targets = {name: Target(name, Path(f"/{name}.db")) for name in ("a", "b", "other")}
    clocked.at(THREE - 3600)
    counts = {clocked.at(THREE + after) for after in range(0, 601, 5)}
    assert counts == {0, 1, 2}
    assert {run.database for run in runs.pending_runs(clocked.store)} == {"a", "b"}
    clocked.targets["c"] = Target("c", Path("/c.db"))
    assert clocked.at(THREE + 700) == 2
    assert clocked.missed(database="c") == 0


def test_a_changed_schedule_is_looked_at_anew(clocked: Clocked) -> None:
    clocked.at(THREE - 3600)
    clocked.schedules = (Schedule("daily", "30 2 * * *", "backup"),)
    assert clocked.at(THREE - 1800) == 1


def test_a_clock_that_is_set_back_finds_its_next_time_again(clocked: Clocked) -> None:
    clocked.at(THREE - 3600)
    clocked.at(THREE + 1)
    finish(clocked.store)
    assert clocked.at(THREE - 100 * DAY - 5) == 1
    assert clocked.at(THREE - 100 * DAY + 1) == 2


def test_what_could_not_be_stored_is_not_taken_for_done(clocked: Clocked) -> None:
    clocked.at(THREE - 3600)
    clocked.store.execute("CREATE TRIGGER full BEFORE INSERT ON schedule BEGIN SELECT raise(ABORT, 'no room'); END")
    with pytest.raises(apsw.ConstraintError):
        clocked.at(THREE + 1)
    assert runs.pending_runs(clocked.store) == []
    clocked.store.execute("DROP TRIGGER full")
    assert clocked.at(THREE + 2) == 1


def test_a_history_that_cannot_be_opened_is_an_error_of_the_look(clocked: Clocked, tmp_path: Path) -> None:
    clocked.state = tmp_path / "file"
    clocked.state.touch()
    clocked.restart()
    with pytest.raises(StoreUnavailable):
        clocked.watch.enqueue_due_runs()


def test_its_thread_asks_and_ends(clocked: Clocked) -> None:
    clocked.at(THREE - 3600)
    clocked.now = THREE + 1
    clocked.restart()
    clocked.watch.start()
    clocked.watch.stop()
    assert clocked.woken >= 1
    assert len(runs.pending_runs(clocked.store)) == 1


CONFIG = """\
databases: [{name: jobs, path: FOLDER/jobs.db, backup: {directory: FOLDER/backups}}]
actions: {enabled: true}
schedules:
  - {name: nightly, cron: "0 3 * * *", do: backup, catch_up: 25h}
  - {name: never, cron: "0 3 * * *", do: checkpoint}
state: FOLDER/state
"""


def test_a_real_agent_makes_up_what_was_missed_while_it_was_down_where_that_is_declared(tmp_path: Path) -> None:
    queue = prismq.create(tmp_path / "jobs.db")
    queue.put()
    with state_store(tmp_path / "state") as store:
        for name in ("nightly", "never"):
            keep_schedule(store, name, "jobs", time.time() - 2.2 * DAY, 0)
    with agent_process.agent(tmp_path, CONFIG) as agent:
        (run,) = agent.ended()
        assert (run.action, run.trigger, run.rule, run.outcome) == ("backup", "schedule", "nightly", "done")
        missed = agent.wait(lambda: agent.scrape(MISSED).series(MISSED), "the page to tell of it")
        counts = {dict(labels)["schedule"]: count for labels, count in missed.items()}
        assert counts["never"] == counts["nightly"] + 1
        assert counts["never"] in (2, 3), "by the time of day"
        assert agent.scrape().value("queuekeeper_action_triggers_total", action="backup", trigger="schedule") == 1
        agent.kill()
        agent.start()
        agent.wait(lambda: agent.scrape(MISSED).series(MISSED) == missed, "the page to tell the same")
        assert len(agent.runs()) == 1
    queue.owner.close()
