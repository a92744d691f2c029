"""Exactly once, as a property: of what is sent twice, late, out of order or not answered, and whenever we die.

A model of the world outside drives the real history: trouble comes, a pair of Alertmanagers tells of it as often and as
late as it likes, the agent claims, begins, acts, ends, and dies between any two of these. What the world counts is what was
done to it, not what history says.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import apsw
from hypothesis import given, settings
from hypothesis import strategies as st

from actions.model.condition import Condition, ConditionVerdict, Measurement
from actions.model.outcome import Outcome
from actions.policy.alerts import DeliveredAlert
from actions.policy.effect import measured_effect
from actions.policy.episodes import DUPLICATE_WITHIN
from actions.policy.rules import Rule
from actions.policy.suspension import CONDITION_GONE, STRIKE_LIMIT
from actions.runner.enqueue import handle_firing, handle_resolved
from actions.store import runs
from actions.store.database import state_store, store_transaction
from actions.store.recovery import recover_lost_runs
from actions.store.runs import Claim, RunEnding

COOLDOWN = 30.0
RULE = Rule("stale", Condition("sqlite_queue_stale_leases", above=0), "requeue", cooldown=COOLDOWN)


@dataclass
class World:
    """`level` is what is wrong now; `acts` when it was acted upon; `on_the_way` what was sent and can arrive at any time."""

    store: apsw.Connection
    heals: bool
    now: float = 1_000_000.0
    level: float = 0.0
    trouble: int = 0
    effects: Counter[int] = field(default_factory=Counter)
    acts: list[float] = field(default_factory=list)
    on_the_way: list[DeliveredAlert] = field(default_factory=list)
    claim: Claim | None = None
    begun: bool = False

    def step(self, word: str, number: int) -> None:
        """One thing happens."""
        getattr(self, word)(number)

    def breaks(self, _: int) -> None:
        if not self.level:
            self.trouble += 1
            self.level = 3.0

    def tells(self, copies: int) -> None:
        """The Alertmanagers send what they see: once, or each of the pair, or again and again."""
        status = "firing" if self.level else "resolved"
        labels = {"alertname": "QueueStaleLeases", "database": "jobs"}
        alert = DeliveredAlert(status, labels, "c0ffee", f"startsAt {self.now - copies}", "queuekeeper")  # type: ignore[arg-type]
        self.on_the_way += [alert] * (1 + copies % 3)

    def arrives(self, which: int) -> None:
        """Any of what was sent arrives, whichever was first; some arrive again later (the answer got lost)."""
        if self.on_the_way:
            place = which % len(self.on_the_way)
            alert = self.on_the_way[place] if which % 4 == 0 else self.on_the_way.pop(place)
            with store_transaction(self.store):
                if alert.status == "firing":
                    handle_firing(self.store, RULE, "jobs", "/jobs.db", alert, self.now)
                else:
                    list(handle_resolved(self.store, alert, self.now))

    def passes(self, seconds: int) -> None:
        self.now += seconds

    def works(self, _: int) -> None:
        """The agent goes one step on with what waits: claim, begin, act and end."""
        if self.claim is None:
            waiting = runs.pending_runs(self.store)
            self.claim = runs.claim_run(self.store, waiting[0].id, self.now) if waiting else None
        elif not self.begun:
            self.begun = runs.start_run(self.store, self.claim, self.now)
            self.claim = self.claim if self.begun else None
        else:
            runs.end_run(self.store, self.claim, self.act(), self.now)
            self.claim, self.begun = None, False

    def act(self) -> RunEnding:
        """What a child does: read, act where it is wrong, read again."""
        before = self.level
        if RULE.condition.judge_measurement(Measurement(before)) is ConditionVerdict.CLEAR:
            return RunEnding(Outcome.NOTHING_TO_DO, "gone", reason=CONDITION_GONE, before=before)
        self.acts.append(self.now)
        if self.heals:
            self.effects[self.trouble] += 1
            self.level = 0.0
        helped = measured_effect(RULE.condition, Measurement(before), Measurement(self.level), blocked=False)
        return RunEnding(Outcome.DONE, "acted", before=before, after=self.level, effect=helped)

    def dies(self, when: int) -> None:
        """kill -9: in the middle of a run (in every second case after it has acted), or between two; then the next agent."""
        if self.begun and when % 2:
            self.act()
        self.claim, self.begun = None, False
        self.store.execute("UPDATE run SET claimer = '0:gone', child = '0:gone' WHERE state <> 'ended'")
        recover_lost_runs(self.store, lambda _path: False, self.now)

    def calms_down(self) -> None:
        """Nothing is lost on the way any more, no process dies, and the pair goes on to repeat what it sees."""
        for _ in range(6):
            self.tells(1)
            while self.on_the_way:
                self.arrives(1)
            for _ in range(4):
                self.works(0)
            self.now += 2 * DUPLICATE_WITHIN + COOLDOWN


@contextmanager
def world(*, heals: bool) -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder, state_store(Path(folder)) as store:
        store.execute("PRAGMA synchronous=OFF")
        yield World(store, heals)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["breaks", "tells", "tells", "arrives", "arrives", "arrives", "passes", "works", "works", "dies"]
        ),
        st.integers(0, 100),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_each_trouble_is_acted_upon_at_most_once_and_in_the_end_none_is_left(steps: list[tuple[str, int]]) -> None:
    with world(heals=True) as outside:
        for word, number in steps:
            outside.step(word, number)
            assert all(count == 1 for count in outside.effects.values()), outside.effects
        outside.calms_down()
        assert outside.level == 0.0
        assert outside.effects == Counter(range(1, outside.trouble + 1))
        assert {run.state for run in runs.newest_runs(outside.store, None, 1000)} <= {"ended"}


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_what_does_not_help_is_tried_a_few_times_with_rests_between_and_then_no_more(
    steps: list[tuple[str, int]],
) -> None:
    """Without healing nothing but the episodes, the cooldown and the suspension keeps it from acting for ever."""
    with world(heals=False) as outside:
        deaths = 0
        for word, number in steps:
            deaths += word == "dies"
            outside.step(word, number)
        outside.calms_down()
        outside.calms_down()
        assert len(outside.acts) <= STRIKE_LIMIT + deaths
        if not deaths:
            rests = [later - earlier for earlier, later in zip(outside.acts, outside.acts[1:], strict=False)]
            assert all(rest >= COOLDOWN for rest in rests)
            assert len(outside.acts) == (STRIKE_LIMIT if outside.trouble else 0)
