"""A delivery is stored before its answer, together with others of the same time; none fails because of another."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest

from actions.model.condition import Condition
from actions.policy.alerts import DeliveredAlert, Delivery
from actions.policy.matchers import parse_matchers
from actions.policy.rules import Rule
from actions.store import runs
from actions.store.database import StoreUnavailable, state_store
from collectors.target import Target
from exporter.triggers.alerts import AlertInbox
from tests.support.real.real_parts import until

RULE = Rule(
    "stale",
    Condition("sqlite_queue_stale_leases", above=0),
    "requeue",
    alerts=(parse_matchers('alertname="Stale"'),),
    databases=(),
)
TARGETS = {f"q{number}": Target(f"q{number}", Path(f"/q{number}.db")) for number in range(20)}


@dataclass
class Boxed:
    """An inbox and its state store."""

    store: apsw.Connection
    state: Path
    woken: int = 0
    box: AlertInbox = field(init=False)

    def __post_init__(self) -> None:
        self.box = AlertInbox(self.state, lambda: (RULE,), lambda: TARGETS, lambda: None, self.wake, lambda: 1000.0)

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
def boxed(tmp_path: Path) -> Iterator[Boxed]:
    with state_store(tmp_path) as store:
        yield Boxed(store, tmp_path)


def delivery(database: str, fingerprint: str = "", truncated: int = 0) -> Delivery:
    labels = {"alertname": "Stale", "database": database}
    return Delivery((DeliveredAlert("firing", labels, fingerprint or database, receiver="r"),), truncated)


def test_a_delivery_is_stored_when_it_is_answered(boxed: Boxed) -> None:
    receipt = boxed.box.receive_delivery(delivery("q1", truncated=3))
    assert receipt.run_ids == (1,)
    assert [run.database for run in runs.pending_runs(boxed.store)] == ["q1"]
    assert (boxed.box.counts["accepted", "q1"], boxed.box.truncated, boxed.woken) == (1, 3, 1)


def test_what_asks_for_nothing_new_wakes_nobody_and_names_the_run_that_serves_it(boxed: Boxed) -> None:
    boxed.box.receive_delivery(delivery("q1"))
    receipt = boxed.box.receive_delivery(delivery("q1", "another"))
    assert (receipt.run_ids, receipt.has_accepted) == ((1,), False)
    assert boxed.woken == 1


def test_many_at_once_are_each_stored_and_answered_with_their_own(boxed: Boxed) -> None:
    deliveries = [delivery(f"q{number % 20}", f"{number:x}") for number in range(400)]
    with ThreadPoolExecutor(16) as pool:
        receipts = list(pool.map(boxed.box.receive_delivery, deliveries))
    for sent, receipt in zip(deliveries, receipts, strict=True):
        (decided,) = receipt.decisions
        assert decided.database == sent.alerts[0].labels["database"]
        assert decided.run_id is not None
        assert runs.load_run(boxed.store, decided.run_id).database == decided.database
    assert boxed.store.execute("SELECT count(*) FROM alert_episode").get == 400
    assert sum(boxed.box.counts.values()) == 400
    assert len(runs.pending_runs(boxed.store)) == 20


def test_those_that_wait_for_the_disk_are_stored_with_one_commit(boxed: Boxed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process locks the state store while ten arrive: the first waits alone, the other nine are one commit."""
    boxed.box.receive_delivery(delivery("q0"))
    sizes: list[int] = []
    store = boxed.box._store_deliveries

    def counted(tickets: Sequence[Any]) -> None:
        sizes.append(len(tickets))
        store(tickets)

    monkeypatch.setattr(boxed.box, "_store_deliveries", counted)
    boxed.store.execute("BEGIN IMMEDIATE")
    threads = [threading.Thread(target=boxed.box.receive_delivery, args=(delivery(f"q{n}"),)) for n in range(1, 11)]
    for thread in threads:
        thread.start()
    until(lambda: len(boxed.box._waiting) + sum(sizes) == 10, "all of them to wait")
    boxed.store.execute("COMMIT")
    for thread in threads:
        thread.join()
    assert len(runs.pending_runs(boxed.store)) == 11
    assert sum(sizes) == 10
    assert len(sizes) == 2


def test_one_that_cannot_be_stored_does_not_take_the_others_with_it(boxed: Boxed) -> None:
    boxed.box.receive_delivery(delivery("q0"))
    boxed.store.execute(
        "CREATE TRIGGER full BEFORE INSERT ON alert_episode WHEN new.fingerprint = 'poison'"
        " BEGIN SELECT raise(ABORT, 'no room for this one'); END"
    )
    boxed.store.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(8) as pool:
        good = [pool.submit(boxed.box.receive_delivery, delivery(f"q{number}")) for number in range(1, 6)]
        bad = pool.submit(boxed.box.receive_delivery, delivery("q9", "poison"))
        until(lambda: len(boxed.box._waiting) >= 1, "some of them to wait")
        boxed.store.execute("COMMIT")
        assert all(receipt.result().has_accepted for receipt in good)
        with pytest.raises(StoreUnavailable, match="no room for this one"):
            bad.result()
    assert boxed.box.receive_delivery(delivery("q9")).has_accepted


def test_without_a_usable_history_it_says_so_and_recovers(boxed: Boxed, tmp_path: Path) -> None:
    broken = tmp_path / "file"
    broken.touch()
    box = AlertInbox(broken, lambda: (RULE,), lambda: TARGETS, lambda: None, boxed.wake)
    with pytest.raises(StoreUnavailable, match="cannot use the history"):
        box.receive_delivery(delivery("q1"))
    assert box.counts == {}
    broken.unlink()
    assert box.receive_delivery(delivery("q1")).has_accepted
