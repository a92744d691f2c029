"""How often Alertmanager's deliveries make a real agent act: once for each episode, also after repeats and restarts.

Whether it acted is counted in the queue itself (`attempts` grows with every requeue) and in our history.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from time import time
from typing import Any

import pytest

from actions.store.database import state_store
from actions.store.pause import clear_pause, set_pause
from tests.support.scenes.webhook_site import Site, acted_once, alert, config, delivery, fill, full, site

WRITABLE = "queuekeeper_state_writable"


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Return a function that makes a site of a configuration text."""
    with ExitStack() as stack:
        yield lambda text: stack.enter_context(site(tmp_path, text))


def test_delivered_four_times_it_acts_once(make_site: Callable[..., Site]) -> None:
    there = make_site(config())
    there.stale(3)
    assert there.decisions(delivery()) == ["accepted"]
    acted_once(there)
    there.stale(2)  # what a second act would give back
    earlier = alert(startsAt="2026-01-01T00:00:40.897Z")
    assert there.decisions(delivery()) == ["duplicate"]
    assert there.decisions(delivery(earlier, externalURL="http://the-other-alertmanager:9093")) == ["duplicate"]
    assert there.decisions(delivery(earlier, alert(startsAt=""))) == ["duplicate", "duplicate"]
    acted_once(there)
    assert there.running() == 2
    assert there.counted("accepted") == 1
    assert there.counted("duplicate") == 4


def test_what_the_sender_left_out_is_counted(make_site: Callable[..., Site]) -> None:
    there = make_site(config())
    assert there.decisions(delivery(alert("resolved"), truncatedAlerts=3)) == ["resolved"]
    assert there.decisions(delivery(alert("resolved"), truncatedAlerts=2)) == ["resolved"]
    assert there.agent.scrape().value("queuekeeper_webhook_truncated_alerts_total") == 5


def test_delivered_by_four_at_once_it_acts_once(make_site: Callable[..., Site]) -> None:
    there = make_site(config())
    there.stale(3)
    with ThreadPoolExecutor(4) as pool:
        answers = [decision for decisions in pool.map(there.decisions, [delivery()] * 4) for decision in decisions]
    assert sorted(answers) == ["accepted", "duplicate", "duplicate", "duplicate"]
    acted_once(there)


def test_a_resolution_that_comes_first_is_no_episode(make_site: Callable[..., Site]) -> None:
    there = make_site(config())
    there.stale(3)
    assert there.decisions(delivery(alert("resolved"))) == ["resolved"]
    assert there.agent.runs() == []
    assert [there.decisions(delivery()) for _ in range(4)] == [["accepted"], *[["duplicate"]] * 3]
    acted_once(there)


def test_a_restart_between_deliveries_changes_nothing(make_site: Callable[..., Site]) -> None:
    there = make_site(config())
    there.stale(3)
    assert there.decisions(delivery()) == ["accepted"]
    acted_once(there)
    for end in (there.agent.stop, there.agent.kill):
        end()
        there.agent.start()
        there.stale(1)
        assert there.decisions(delivery()) == ["duplicate"]
    acted_once(there)
    assert there.running() == 2


def test_what_was_answered_202_and_not_begun_is_done_once_by_the_next_agent(make_site: Callable[..., Site]) -> None:
    there = make_site(config())
    there.stale(3)
    with state_store(there.agent.state) as store:
        set_pause(store, "the test holds it between the answer and the act")
    assert there.decisions(delivery()) == ["accepted"]
    there.agent.kill()
    assert [run.state for run in there.agent.runs()] == ["pending"]
    with state_store(there.agent.state) as store:
        clear_pause(store)
    there.agent.start()
    assert there.decisions(delivery()) == ["duplicate"]
    acted_once(there)


def test_what_waits_is_not_claimed_before_the_databases_are_known(
    make_site: Callable[..., Site], tmp_path: Path
) -> None:
    there = make_site(config().replace("databases:\n", "databases:\n  - {path: FOLDER/tree/*/*/*.db}\n", 1))
    there.stale(3)
    with state_store(there.agent.state) as store:
        set_pause(store, "the test holds it until the next start")
    assert there.decisions(delivery()) == ["accepted"]
    there.agent.kill()
    for number in range(3000):  # looking for databases takes a while now
        (tmp_path / "tree" / str(number) / "sub").mkdir(parents=True)
    with state_store(there.agent.state) as store:
        clear_pause(store)
    there.agent.start()
    acted_once(there)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_what_was_begun_when_the_agent_ended_is_done_once_in_the_end(make_site: Callable[..., Site], how: str) -> None:
    there = make_site(config())
    there.stale(3)
    there.queue.owner.execute("BEGIN IMMEDIATE")  # the application writes: the child waits for the write lock
    assert there.decisions(delivery()) == ["accepted"]
    there.agent.wait(lambda: there.agent.runs()[0].plan, "the plan to be recorded")
    getattr(there.agent, how)()
    there.queue.owner.execute("COMMIT")
    there.agent.start()
    there.agent.wait(lambda: there.decisions(delivery()) and there.requeues(), "the tasks to be given back")
    there.agent.ended()
    assert there.requeues() == 3
    assert there.running() == 0
    runs = [(run.outcome, run.reason, run.figures.get("requeued", 0)) for run in there.agent.runs()]
    assert sum(int(requeued or 0) for *_, requeued in runs) == 3, runs
    assert there.decisions(delivery()) == ["duplicate"]


def test_an_alert_whose_run_was_blocked_is_acted_upon_when_the_way_is_free(
    make_site: Callable[..., Site], held_reader: Callable[[Path], Any]
) -> None:
    there = make_site(config())
    there.queue.put()
    there.queue.fill_wal(300)
    backlog = delivery(alert(labels={"alertname": "QueueWalBacklog", "queue": ""}, fingerprint="beef"))
    with held_reader(there.queue.path):
        there.queue.fill_wal(300)
        assert there.decisions(backlog) == ["accepted"]
        (run,) = there.agent.ended()
        assert (run.outcome, run.effect) == ("blocked", "blocked"), run
    assert there.agent.scrape().total("queuekeeper_action_last_failure_timestamp_seconds") == 0  # nothing failed
    assert there.decisions(backlog) == ["accepted"]
    assert [run.outcome for run in there.agent.ended(2)] == ["blocked", "done"]
    assert there.decisions(backlog) == ["duplicate"]


def test_resolved_and_firing_again_is_a_new_episode_that_acts_after_the_cooldown(
    make_site: Callable[..., Site],
) -> None:
    there = make_site(config(cooldown="3s"))
    there.stale(3)
    assert there.decisions(delivery()) == ["accepted"]
    acted_once(there)
    assert there.decisions(delivery(alert("resolved"))) == ["resolved"]
    there.stale(2)
    assert there.decisions(delivery()) == ["cooldown"]
    acted_once(there)
    there.agent.wait(lambda: there.decisions(delivery()) == ["accepted"], "the cooldown to be over")
    there.agent.ended(2)
    assert there.decisions(delivery()) == ["duplicate"]
    assert len(there.agent.runs()) == 2
    assert there.requeues() == 5


def test_the_condition_is_the_queues_and_not_the_alerts(make_site: Callable[..., Site]) -> None:
    there = make_site(config())
    there.queue.leased(time() + 600, 3)  # live workers, although the alert is firing
    assert there.decisions(delivery()) == ["accepted"]
    (run,) = there.agent.ended()
    assert run.outcome == "nothing_to_do"
    assert there.running() == 3


def test_with_a_full_state_directory_it_answers_503_and_acts_when_there_is_room_again(tmp_path: Path) -> None:
    with full(tmp_path / "state") as ballast, site(tmp_path, config()) as there:
        there.stale(3)
        fill(ballast)
        answers = [there.post(delivery()) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [503] * 3
        assert "free space" in answers[0].json()["error"]
        assert there.running() == 3
        assert there.agent.scrape().value("queuekeeper_webhook_requests_total", code="503") == 3
        assert there.counted("accepted") is None
        there.agent.wait(lambda: there.agent.scrape().value(WRITABLE) == 0, "the page to say that it cannot write")
        ballast.unlink()
        there.agent.wait(lambda: there.agent.scrape().value(WRITABLE) == 1, "the page to say that it can write again")
        assert there.agent.runs() == []
        assert there.decisions(delivery()) == ["accepted"]
        acted_once(there)
        there.agent.stop()


def test_with_a_read_only_state_directory_it_answers_503_and_acts_when_it_is_writable_again(tmp_path: Path) -> None:
    with site(tmp_path, config(), bound_by_permissions()) as there:
        there.stale(3)
        copy = there.agent.state / "kept"
        files = [*there.agent.state.iterdir()]
        assert copy not in files
        for place in (*files, there.agent.state):
            place.chmod(0o500 if place.is_dir() else 0o400)
        answers = [there.post(delivery()) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [503] * 3
        assert "make it writable" in answers[0].json()["error"]
        assert there.running() == 3
        for place in (there.agent.state, *files):
            place.chmod(0o700 if place.is_dir() else 0o600)
        assert there.agent.runs() == []
        assert there.decisions(delivery()) == ["accepted"]
        acted_once(there)


def bound_by_permissions() -> tuple[str, ...]:
    """Return the command that makes root obey the permissions of files."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not there, and root ignores permissions")
    return ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")
