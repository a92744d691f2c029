"""A real pair of Alertmanagers, clustered and cut apart: however often it sends, each trouble has one effect.

What is counted is what was done to the queue: `attempts` of each task grows with every requeue.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.real.real_parts import until
from tests.support.scenes.alertmanagers import Alertmanager, SlowWay, alertmanagers, slow_way
from tests.support.scenes.webhook_site import Site, config, fill, full, site

pytestmark = pytest.mark.real


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, config(cooldown="0s")) as made:
        made.stale(3)
        yield made


@pytest.fixture
def way(there: Site) -> Iterator[SlowWay]:
    with slow_way(there.agent.url) as made:
        yield made


@pytest.fixture
def pair(tmp_path: Path, way: SlowWay) -> Iterator[Callable[..., list[Alertmanager]]]:
    """Makes a pair that calls the agent by the slow way."""
    with ExitStack() as stack:
        yield lambda **how: stack.enter_context(alertmanagers(tmp_path / "pair", way.url, **how))


def tell_both(both: list[Alertmanager], since: float = 0.0, **labels: str) -> None:
    for one in both:
        one.tell(since=since, **labels)


def attempts(there: Site) -> list[int]:
    return [number for (number,) in there.queue.owner.execute("SELECT attempts FROM task_queue ORDER BY id")]


def duplicates(there: Site) -> float:
    return there.counted("duplicate") or 0.0


def test_a_pair_that_is_cut_apart_sends_everything_twice_and_it_is_done_once(
    there: Site, pair: Callable[..., list[Alertmanager]]
) -> None:
    both = pair(clustered=False)
    tell_both(both)
    there.agent.ended()
    until(lambda: all(one.sent() >= 3 for one in both) and duplicates(there) >= 5, "both to repeat themselves")
    assert attempts(there) == [1, 1, 1]
    assert [run.trigger for run in there.agent.runs()] == ["alert"]
    assert there.counted("accepted") == 1


def test_a_clustered_pair_with_a_slow_answer_sends_twice_and_it_is_done_once(
    there: Site, way: SlowWay, pair: Callable[..., list[Alertmanager]]
) -> None:
    """Slower than the time one waits for the other's word that it has sent."""
    both = pair(clustered=True, peer_timeout="300ms", interval="1s")
    way.delay = 2.0
    tell_both(both)
    until(lambda: way.passed >= 2, "both to send")
    there.agent.ended()
    until(lambda: duplicates(there) >= 1, "the second to be the same news")
    assert attempts(there) == [1, 1, 1]
    assert len(there.agent.runs()) == 1


def test_answers_that_get_lost_are_asked_for_again_and_it_is_done_once(
    there: Site, way: SlowWay, pair: Callable[..., list[Alertmanager]]
) -> None:
    way.lost = True
    (alone,) = pair(clustered=False, number=1)
    alone.tell()
    until(lambda: way.passed >= 3, "it to try again and again")
    there.agent.ended()
    way.lost = False
    until(lambda: duplicates(there) >= 3, "every further try to be the same news")
    assert attempts(there) == [1, 1, 1]
    assert len(there.agent.runs()) == 1


def test_while_nothing_can_be_stored_it_tries_again_and_then_it_is_done_once(tmp_path: Path) -> None:
    with full(tmp_path / "state") as ballast, site(tmp_path, config(cooldown="0s")) as there:
        there.stale(3)
        fill(ballast)
        with alertmanagers(tmp_path / "pair", there.agent.url, clustered=False) as both:
            tell_both(both)
            until(lambda: answered(there, "503") >= 4, "both to be told to come again")
            assert there.agent.runs() == []
            ballast.unlink()
            there.agent.ended()
            until(lambda: duplicates(there) >= 3, "both to repeat themselves")
        assert attempts(there) == [1, 1, 1]
        assert len(there.agent.runs()) == 1


def answered(there: Site, code: str) -> float:
    name = "queuekeeper_webhook_requests_total"
    return there.agent.scrape(name).value(name, code=code) or 0.0


def test_a_start_that_moves_back_and_forth_is_the_same_trouble(
    there: Site, pair: Callable[..., list[Alertmanager]]
) -> None:
    """Two Prometheus replicas report the same alert with a start of their own."""
    both = pair(clustered=False)
    for since in (10.0, 14.0, 3.0, 60.0):
        tell_both(both, since)
        before = duplicates(there)
        until(lambda before=before: duplicates(there) >= before + 2, "both to send it on")  # type: ignore[misc]
    there.agent.ended()
    assert attempts(there) == [1, 1, 1]
    assert len(there.agent.runs()) == 1


def test_resolved_and_wrong_again_is_done_once_more(there: Site, pair: Callable[..., list[Alertmanager]]) -> None:
    both = pair(clustered=False)
    tell_both(both)
    there.agent.ended()
    for one in both:
        one.tell(firing=False)
    until(lambda: firing(there) == 0, "the resolution to arrive")
    there.stale(2)
    tell_both(both)
    there.agent.ended(2)
    until(lambda: firing(there) == 1, "it to fire again")
    assert attempts(there) == [1, 1, 1, 1, 1]


def firing(there: Site) -> int:
    return len(there.agent.read_history("SELECT 1 FROM alert_episode WHERE state = 'firing'"))


def test_kill_9_again_and_again_while_a_pair_repeats_itself_gives_every_task_back_once(
    there: Site, pair: Callable[..., list[Alertmanager]]
) -> None:
    """Between storing and acting, while acting, before the answer: wherever it hits."""
    there.stale(400)
    both = pair(clustered=False)
    rng, stop = random.Random(4), threading.Event()

    def repeat() -> None:
        while not stop.wait(0.3):
            tell_both(both)

    teller = threading.Thread(target=repeat)
    teller.start()
    try:
        for _ in range(6):
            time.sleep(rng.random())  # the instant is what is tested
            there.agent.kill()
            there.agent.start(ready=False)
        until(lambda: there.running() == 0, "every task to be given back")
        there.agent.wait(lambda: all(run.state == "ended" for run in there.agent.runs()), "every run to end")
    finally:
        stop.set()
        teller.join()
    assert set(attempts(there)) == {1}
    assert len(attempts(there)) == 403
