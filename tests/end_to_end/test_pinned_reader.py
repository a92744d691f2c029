"""A reader that pins the WAL: named, tried twice, then suspended, and checkpointed once it is gone. On a real agent."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import agent_process, prismq
from tests.support.scenes.agent_process import AgentProcess, command

CONFIG = """\
databases: [{name: jobs, path: FOLDER/jobs.db, owner_sqlite: 3.51.3}]
poll: {interval: 1s}
actions: {enabled: true}
rules:
  - name: wal-backlog
    when: {sqlite_wal_backlog_bytes: {above: 1MiB, clear: 64KiB}}
    on: {threshold: {for: 0s}}
    do: checkpoint
    cooldown: 1s
state: FOLDER/state
"""
LAST_READ = "queuekeeper_poll_last_success_timestamp_seconds"
SUSPENDED = "queuekeeper_remediation_suspended"


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[prismq.Queue]:
    made = prismq.create(tmp_path / "jobs.db")
    yield made
    made.owner.close()


def polls(agent: AgentProcess, number: int) -> None:
    """Wait until the database was polled so many more times."""
    for _ in range(number):
        before = last_read(agent)
        agent.wait(lambda before=before: last_read(agent) != before, "another reading")  # type: ignore[misc]


def last_read(agent: AgentProcess) -> float | None:
    return agent.scrape(LAST_READ).value(LAST_READ, database="jobs")


def is_suspended(agent: AgentProcess) -> bool:
    return agent.scrape(SUSPENDED).value(SUSPENDED, database="jobs", action="checkpoint") == 1


def test_it_is_blocked_by_name_twice_then_suspended_and_healed_when_the_reader_is_gone(
    tmp_path: Path, queue: prismq.Queue
) -> None:
    queue.put()
    with prismq.process("held_reader.py", queue.path) as reader:
        queue.fill_wal(1500)
        with agent_process.agent(tmp_path, CONFIG) as agent:
            agent.wait(lambda: is_suspended(agent), "it to be suspended")
            first, second = agent.runs("jobs")
            for run in (first, second):
                assert (run.outcome, run.effect) == ("blocked", "blocked")
                assert f"pid {reader.pid}" in run.message
                assert "held_reader.py" in run.message
            polls(agent, 3)
            agent.kill()
            agent.start()
            polls(agent, 2)
            assert is_suspended(agent), "also after a restart"
            assert len(agent.runs()) == 2, "no retry storm"
            explained = command(agent, "config", "explain").stdout
            assert "does not act: suspended since" in explained
            assert f"pid {reader.pid}" in explained
            (suspension,) = agent.events("suspended")
            assert suspension["next_step"].endswith("then: queuekeeper resume")
            page = agent.scrape()
            assert (
                page.value(
                    "queuekeeper_remediation_effect_total", database="jobs", rule="wal-backlog", effect="blocked"
                )
                == 2
            )
            assert reader.stdin is not None
            reader.stdin.close()
            reader.wait(LONGEST_WAIT)
            *_, third = agent.ended(3)
            assert (third.outcome, third.effect) == ("done", "fixed")
            agent.wait(lambda: not is_suspended(agent), "the page to say that it may run again")
            assert len(agent.events("no longer suspended")) == 1
            polls(agent, 2)
            assert len(agent.runs()) == 3


def test_a_person_is_not_bound_by_it_and_lifts_it_and_so_does_what_the_person_healed(
    tmp_path: Path, queue: prismq.Queue
) -> None:
    queue.put()
    with prismq.process("held_reader.py", queue.path) as reader:
        queue.fill_wal(1500)
        with agent_process.agent(tmp_path, CONFIG) as agent:
            agent.wait(lambda: is_suspended(agent), "it to be suspended")
            assert "1 suspensions are lifted" in command(agent, "resume").stdout
            agent.ended(4)
            agent.wait(lambda: is_suspended(agent), "it to be suspended again, after two more tries")
            assert [run.effect for run in agent.runs()] == ["blocked"] * 4
            assert command(agent, "checkpoint", "jobs").returncode == 4
            assert is_suspended(agent)
            reader.kill()
            reader.wait(LONGEST_WAIT)
            agent.wait(lambda: not is_suspended(agent), "what is read then to lift it")
