"""Which runs readings enqueue and which suspensions they lift: the trigger on a real state store, with made-up readings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import pytest

from actions.model.condition import Condition
from actions.model.outcome import Outcome
from actions.policy.rules import Rule
from actions.policy.suspension import SuspensionState
from actions.store import runs
from actions.store.database import state_store
from actions.store.runs import RunEnding
from actions.store.suspensions import load_suspension, load_suspensions, save_suspension
from collectors import backups, leases, wal
from collectors.access.snapshot import CollectorResult, Snapshot
from collectors.metric import Sample
from collectors.raw_reader.wal_readers import PinningReader
from collectors.target import Target
from collectors.wal import WalReading
from collectors.wal_state import WalMemory
from exporter.triggers.thresholds import ThresholdTrigger

JOBS = Target("jobs", Path("/jobs.db"))
READ = CollectorResult(success=True, duration=0.0)
UNREAD = CollectorResult(success=False, duration=0.0, reason="busy")
STALE = Condition("sqlite_queue_stale_leases", above=0)
BACKLOG = Condition("sqlite_wal_backlog_bytes", above=100, clear=10)
NO_BACKUP = Condition("sqlite_backup_age_seconds", absent=7200.0)
REQUEUE = Rule("stale", STALE, "requeue", hold=0.0, cooldown=60.0)
CHECKPOINT = Rule("wal", BACKLOG, "checkpoint", hold=60.0, cooldown=60.0)
BACKUP = Rule("never", NO_BACKUP, "backup", hold=0.0)
PINNER = PinningReader(7, "report", "report.py", 124, 1, 99)


def wal_reading(state: str = "idle", pinners: Sequence[PinningReader] = ()) -> WalReading:
    return WalReading(state, 100, 0, 4096, tuple(pinners), {}, WalMemory())


def seen(at: float, *samples: Sample, reading: WalReading | None = None, read: bool = True) -> Snapshot:
    results = dict.fromkeys((leases.NAME, wal.NAME, backups.NAME), READ if read else UNREAD)
    return Snapshot(
        JOBS, at, True, "readable", samples=samples, collectors=results, readings={wal.NAME: reading or wal_reading()}
    )


@dataclass
class Watched:
    """A trigger, its dependencies, and its state store."""

    store: apsw.Connection
    state: Path
    rules: tuple[Rule, ...] = (REQUEUE, CHECKPOINT, BACKUP)
    busy: bool = False
    woken: int = 0
    watch: ThresholdTrigger = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.watch = ThresholdTrigger(
            self.state,
            lambda: self.rules,
            busy_with=lambda _: self.busy,
            suspensions=lambda: load_suspensions(self.store),
            wake=self.wake,
        )
        self.watch.recover_waits()

    def wake(self) -> None:
        self.woken += 1

    def look(self, *snapshots: Snapshot) -> list[str]:
        """Return the pending actions after these readings."""
        for snapshot in snapshots:
            self.watch.on_snapshot(snapshot)
        return [run.action for run in runs.pending_runs(self.store)]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with state_store(tmp_path) as store:
        yield Watched(store, tmp_path)


def test_a_rule_without_a_wait_asks_at_the_first_reading_once(watched: Watched) -> None:
    assert watched.look(seen(1000.0, leases.STALE(2, "mail"))) == ["requeue"]
    assert watched.woken == 1
    assert watched.look(seen(1015.0, leases.STALE(2, "mail"))) == ["requeue"]
    (run,) = runs.pending_runs(watched.store)
    assert (run.trigger, run.rule, run.path, run.requested_at) == ("threshold", "stale", "/jobs.db", 1000.0)


def test_a_rule_with_a_wait_asks_when_it_held_for_as_long(watched: Watched) -> None:
    assert watched.look(seen(1000.0, wal.BACKLOG(200)), seen(1059.0, wal.BACKLOG(200))) == []
    assert watched.look(seen(1060.0, wal.BACKLOG(200))) == ["checkpoint"]


def test_what_could_not_be_read_neither_goes_on_nor_ends(watched: Watched) -> None:
    assert watched.look(seen(1000.0, wal.BACKLOG(200)), seen(1100.0)) == []
    assert watched.watch.current_watches()["wal", "jobs"].wrong_since == 1000.0
    assert watched.look(seen(1101.0, wal.BACKLOG(200))) == ["checkpoint"]


def test_while_an_action_of_ours_works_its_wal_rules_are_held_and_the_others_are_not(watched: Watched) -> None:
    watched.busy = True
    assert watched.look(seen(1000.0, wal.BACKLOG(200)), seen(1100.0, wal.BACKLOG(200), leases.STALE(1, "mail"))) == [
        "requeue"
    ]
    assert ("wal", "jobs") not in watched.watch.current_watches()


def test_while_an_action_of_ours_works_nothing_is_lifted(watched: Watched) -> None:
    save_suspension(
        watched.store, "jobs", "checkpoint", SuspensionState(2, 900.0, 900.0, True, "wal", BACKLOG, "held back")
    )
    watched.busy = True
    watched.look(seen(1000.0, wal.BACKLOG(0)))
    assert load_suspension(watched.store, "jobs", "checkpoint").is_suspended


def test_an_absence_counts_only_when_its_collector_could_read(watched: Watched) -> None:
    assert watched.look(seen(1000.0, read=False), seen(9000.0, read=False)) == []
    assert watched.look(seen(10_000.0), seen(17_199.0)) == []
    assert watched.look(seen(17_200.0, read=False)) == []
    assert watched.look(seen(17_201.0)) == ["backup"]


def test_a_value_ends_an_absence(watched: Watched) -> None:
    watched.look(seen(1000.0), seen(5000.0, backups.AGE(3.0)))
    assert watched.look(seen(9000.0)) == []
    assert watched.look(seen(16_200.0)) == ["backup"]


def test_a_wait_of_hours_survives_a_restart_and_one_of_a_minute_begins_again(watched: Watched) -> None:
    watched.look(seen(1000.0, wal.BACKLOG(200)))
    watched.restart()
    assert watched.watch.current_watches() == {("never", "jobs"): watched.watch.current_watches()["never", "jobs"]}
    assert watched.look(seen(8200.0, wal.BACKLOG(200))) == ["backup"]


def test_a_wait_that_ended_is_not_gone_on_with_after_a_restart(watched: Watched) -> None:
    watched.look(seen(1000.0), seen(2000.0, backups.AGE(3.0)))
    watched.restart()
    assert watched.watch.current_watches() == {}


def test_a_wait_for_another_condition_is_not_gone_on_with(watched: Watched) -> None:
    watched.look(seen(1000.0))
    watched.rules = (Rule("never", Condition("sqlite_backup_age_seconds", absent=7300.0), "backup", hold=0.0),)
    watched.restart()
    assert watched.watch.current_watches() == {}


def test_a_rule_that_changed_forgets_its_wait_and_the_others_do_not(watched: Watched) -> None:
    watched.look(seen(1000.0, wal.BACKLOG(200)))
    watched.rules = (REQUEUE, Rule("wal", BACKLOG, "checkpoint", hold=61.0), BACKUP)
    watched.watch.keep_only(watched.rules)
    assert set(watched.watch.current_watches()) == {("stale", "jobs"), ("never", "jobs")}


SUSPENDED = SuspensionState(2, 900.0, 900.0, False, "wal", BACKLOG, "copied nothing", "look")


def test_a_reading_at_the_clear_level_lifts_a_suspension(watched: Watched) -> None:
    save_suspension(watched.store, "jobs", "checkpoint", SUSPENDED)
    watched.look(seen(1000.0, wal.BACKLOG(50)), seen(1001.0), seen(1002.0, read=False), seen(899.0, wal.BACKLOG(5)))
    assert load_suspension(watched.store, "jobs", "checkpoint") == SUSPENDED
    watched.look(seen(1003.0, wal.BACKLOG(5)))
    assert load_suspensions(watched.store) == {}


def test_a_reading_of_another_database_lifts_nothing(watched: Watched) -> None:
    save_suspension(watched.store, "other", "checkpoint", SUSPENDED)
    watched.look(seen(1000.0, wal.BACKLOG(5)))
    assert load_suspension(watched.store, "other", "checkpoint") == SUSPENDED


@pytest.mark.parametrize(
    ("reading", "lifted"),
    [
        (wal_reading("pinned", [PINNER]), False),
        (wal_reading("backlog", [PINNER]), False),
        (wal_reading("unknown"), False),
        (wal_reading("backlog"), True),
    ],
)
def test_the_blocking_reader_must_be_seen_to_be_gone(watched: Watched, reading: WalReading, lifted: bool) -> None:
    save_suspension(
        watched.store, "jobs", "checkpoint", SuspensionState(2, 900.0, 900.0, True, "wal", BACKLOG, "held back")
    )
    watched.look(seen(1000.0, wal.BACKLOG(200), reading=reading))
    assert load_suspension(watched.store, "jobs", "checkpoint").is_suspended is not lifted
    assert load_suspension(watched.store, "jobs", "checkpoint").strikes == (1 if lifted else 2)


def test_a_blocking_reader_is_not_gone_when_the_wal_could_not_be_read(watched: Watched) -> None:
    save_suspension(
        watched.store, "jobs", "checkpoint", SuspensionState(2, 900.0, 900.0, True, "wal", BACKLOG, "held back")
    )
    watched.look(seen(1000.0, read=False))
    assert load_suspension(watched.store, "jobs", "checkpoint").is_suspended


def test_a_suspended_rule_asks_in_vain_until_it_is_lifted(watched: Watched) -> None:
    save_suspension(
        watched.store, "jobs", "requeue", SuspensionState(2, 900.0, 900.0, False, "stale", STALE, "moved nothing")
    )
    assert watched.look(seen(1000.0, leases.STALE(2, "mail"))) == []
    assert watched.look(seen(1001.0, leases.STALE(0, "mail")), seen(1002.0, leases.STALE(1, "mail"))) == ["requeue"]


def test_the_cooldown_after_a_run_decides_how_often_a_rule_is_heard(watched: Watched) -> None:
    watched.look(seen(1000.0, leases.STALE(2, "mail")))
    claim = runs.claim_run(watched.store, 1, 1000.0)
    assert claim is not None
    runs.end_run(watched.store, claim, RunEnding(Outcome.DONE, "done"), 1001.0)
    assert watched.look(seen(1060.0, leases.STALE(2, "mail"))) == []
    assert watched.look(seen(1061.0, leases.STALE(2, "mail"))) == ["requeue"]


def test_a_history_that_cannot_be_used_is_said_and_does_not_stop_the_readings(
    watched: Watched, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched.state = tmp_path / "file"
    watched.state.touch()
    watch = ThresholdTrigger(
        watched.state, lambda: (REQUEUE,), busy_with=lambda _: False, suspensions=dict, wake=watched.wake
    )
    watch.on_snapshot(seen(1000.0, leases.STALE(2, "mail")))
    assert "the state store cannot be used" in caplog.text
    assert watched.woken == 0
