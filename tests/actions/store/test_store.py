"""Our own history: claims with tokens, endings with totals, recovery, episodes. Real SQLite, several processes."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from actions.model.outcome import Effect, Outcome
from actions.model.plan import Plan
from actions.model.process_identity import own_identity
from actions.model.request import Request
from actions.policy.cooldown import cooldown_left, may_retry_checkpoint
from actions.runner.enqueue import enqueue_automatic
from actions.store import recent_runs, runs
from actions.store.database import StoreUnavailable, open_state_store, state_store
from actions.store.recovery import CLAIM_PATIENCE, recover_lost_runs
from actions.store.runs import Claim, RunEnding
from actions.store.totals import read_totals
from tests.support.patience import LONGEST_WAIT

CHECKPOINT = Request("checkpoint", "jobs", "threshold", rule="wal", cooldown=600.0)
DONE = RunEnding(Outcome.DONE, "done")


@pytest.fixture
def store(tmp_path: Path):
    with state_store(tmp_path / "state") as connection:
        yield connection


def never_held(_path: str) -> bool:
    return False


def dead_process() -> str:
    """The identity of a process that ran and is gone."""
    code = "from actions.model.process_identity import own_identity; print(own_identity())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def began(store: apsw.Connection, request: Request = CHECKPOINT, now: float = 10.0) -> Claim:
    claim = runs.enqueue_and_claim(store, request, "/jobs.db", now)
    assert runs.start_run(store, claim, now)
    return claim


def test_the_file_and_its_directory_are_private(tmp_path: Path) -> None:
    with state_store(tmp_path / "state"):
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()}
    assert set(modes.values()) == {0o600}
    assert "history.db-wal" in modes


def test_a_state_that_cannot_be_used_is_named_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(StoreUnavailable, match="--state"):
        open_state_store(tmp_path / "state")


def test_a_newer_schema_is_refused_and_not_touched(tmp_path: Path) -> None:
    with state_store(tmp_path) as store:
        store.pragma("user_version", 99)
    with pytest.raises(StoreUnavailable, match="newer"):
        open_state_store(tmp_path)


def test_the_same_action_is_pending_only_once(store: apsw.Connection) -> None:
    first, new = runs.enqueue_run(store, CHECKPOINT, "/jobs.db", 1.0)
    assert new
    assert runs.enqueue_run(store, CHECKPOINT, "/jobs.db", 2.0) == (first, False)
    assert [run.id for run in runs.pending_runs(store)] == [first]


def test_a_run_is_claimed_once(store: apsw.Connection) -> None:
    run_id, _ = runs.enqueue_run(store, CHECKPOINT, "/jobs.db", 1.0)
    assert runs.claim_run(store, run_id, 2.0) is not None
    assert runs.claim_run(store, run_id, 2.0) is None


def test_only_the_newest_token_begins_a_run(store: apsw.Connection) -> None:
    run_id, _ = runs.enqueue_run(store, CHECKPOINT, "/jobs.db", 1.0)
    old = runs.claim_run(store, run_id, 2.0)
    assert old is not None
    assert runs.release_claim(store, run_id, old.token)
    new = runs.claim_run(store, run_id, 3.0)
    assert new is not None
    assert not runs.start_run(store, old, 4.0)
    assert runs.start_run(store, new, 4.0)
    assert not runs.start_run(store, new, 5.0)


def test_a_run_ends_once_and_its_totals_are_counted_with_it(store: apsw.Connection) -> None:
    claim = began(store)
    ending = RunEnding(
        Outcome.DONE, "copied", amounts={"reclaimed_bytes": 4096.0}, before=9.0, after=0.0, effect=Effect.FIXED
    )
    assert runs.end_run(store, claim, ending, 10.2)
    assert not runs.end_run(store, claim, ending, 11.0)
    totals = read_totals(store)
    assert totals.runs == {("jobs", "checkpoint", "done"): 1}
    assert totals.triggers == {("checkpoint", "threshold"): 1}
    assert totals.effects == {("jobs", "wal", "fixed"): 1}
    assert totals.amounts == {("jobs", "reclaimed_bytes"): 4096.0}
    assert totals.last_success == {("jobs", "checkpoint"): 10.2}
    assert totals.durations["checkpoint"].total == pytest.approx(0.2)
    assert totals.durations["checkpoint"].counts[2] == 1  # above 0.1 s, at most 0.25 s


def test_a_running_run_is_in_the_totals(store: apsw.Connection) -> None:
    claim = began(store)
    assert read_totals(store).started == {("jobs", "checkpoint"): 10.0}
    runs.end_run(store, claim, DONE, 11.0)
    assert read_totals(store).started == {}


def test_the_plan_is_written_before_the_run_ends(store: apsw.Connection) -> None:
    claim = began(store)
    runs.record_plan(store, claim, Plan(("copy",), {"frames": 7}), before=3.5)
    recovered = runs.load_run(store, claim.run_id)
    assert (recovered.plan, recovered.before) == (Plan(("copy",), {"frames": 7}), 3.5)


@pytest.mark.parametrize("held", [True, False])
def test_a_running_record_of_a_dead_child_ends_unless_its_lock_is_held(store: apsw.Connection, held: bool) -> None:
    claim = began(store)
    store.execute("UPDATE run SET child = ?", (dead_process(),))
    lost = recover_lost_runs(store, lambda _path: held, 20.0)
    assert [run.id for run in lost] == ([] if held else [claim.run_id])
    assert runs.load_run(store, claim.run_id).outcome == (None if held else "interrupted")


def test_a_running_record_of_a_living_child_is_left_alone(store: apsw.Connection) -> None:
    began(store)
    assert recover_lost_runs(store, never_held, 1e9) == []


def test_a_claim_of_a_dead_agent_waits_again(store: apsw.Connection) -> None:
    run_id, _ = runs.enqueue_run(store, CHECKPOINT, "/jobs.db", 1.0)
    runs.claim_run(store, run_id, 2.0)
    store.execute("UPDATE run SET claimer = ?", (dead_process(),))
    assert [run.id for run in recover_lost_runs(store, never_held, 3.0)] == [run_id]
    assert runs.load_run(store, run_id).state == "pending"


def test_a_claim_of_a_dead_command_ends(store: apsw.Connection) -> None:
    claim = runs.enqueue_and_claim(store, Request("backup", "jobs"), "/jobs.db", 1.0)
    store.execute("UPDATE run SET claimer = ?", (dead_process(),))
    recover_lost_runs(store, never_held, 3.0)
    assert runs.load_run(store, claim.run_id).outcome == "interrupted"


def test_a_fresh_claim_of_a_living_process_is_left_alone_until_its_patience_ends(store: apsw.Connection) -> None:
    run_id, _ = runs.enqueue_run(store, CHECKPOINT, "/jobs.db", 1.0)
    runs.claim_run(store, run_id, 2.0)
    assert recover_lost_runs(store, never_held, 2.0 + CLAIM_PATIENCE) == []
    assert [run.id for run in recover_lost_runs(store, never_held, 2.1 + CLAIM_PATIENCE)] == [run_id]


def test_a_claim_that_another_clock_dated_is_not_waited_for_until_that_time_has_come(store: apsw.Connection) -> None:
    run_id, _ = runs.enqueue_run(store, CHECKPOINT, "/jobs.db", 1.0)
    runs.claim_run(store, run_id, 200 * 86400.0)
    assert [run.id for run in recover_lost_runs(store, never_held, 3.0)] == [run_id]


def test_a_lost_claim_ends_when_the_same_action_is_pending_already(store: apsw.Connection) -> None:
    run_id, _ = runs.enqueue_run(store, CHECKPOINT, "/jobs.db", 1.0)
    runs.claim_run(store, run_id, 2.0)
    store.execute("UPDATE run SET claimer = ?", (dead_process(),))
    again, new = runs.enqueue_run(store, CHECKPOINT, "/jobs.db", 2.5)
    assert new
    recover_lost_runs(store, never_held, 3.0)
    assert runs.load_run(store, run_id).outcome == "interrupted"
    assert [run.id for run in runs.pending_runs(store)] == [again]


def test_an_automatic_request_is_a_duplicate_while_a_run_is_pending_or_active(store: apsw.Connection) -> None:
    assert enqueue_automatic(store, CHECKPOINT, "/jobs.db", 1.0).decision == "accepted"
    assert enqueue_automatic(store, CHECKPOINT, "/jobs.db", 1.0).decision == "duplicate"
    runs.claim_run(store, runs.pending_runs(store)[0].id, 2.0)
    assert enqueue_automatic(store, CHECKPOINT, "/jobs.db", 3.0).decision == "duplicate"


def test_a_persons_request_replaces_a_pending_automatic_one(store: apsw.Connection) -> None:
    number, _ = runs.enqueue_run(store, CHECKPOINT, "/jobs.db", 1.0)
    person = Request("checkpoint", "jobs", options={"mode": "truncate"})
    assert runs.enqueue_run(store, person, "/jobs.db", 2.0) == (number, True)
    (waiting,) = runs.pending_runs(store)
    assert (waiting.trigger, waiting.rule, waiting.request) == ("person", "", person)
    assert runs.enqueue_run(store, Request("checkpoint", "jobs"), "/jobs.db", 3.0) == (number, False)
    assert runs.enqueue_run(store, CHECKPOINT, "/jobs.db", 4.0) == (number, False)
    assert runs.pending_runs(store) == [waiting]
    assert read_totals(store).triggers == {("checkpoint", "threshold"): 1, ("checkpoint", "person"): 1}


@pytest.mark.parametrize(
    ("outcome", "rests"),
    [("done", True), ("refused", True), ("blocked", True), ("locked", False), ("interrupted", False)],
)
def test_the_cooldown_begins_when_a_run_ended_unless_it_could_not_even_try(
    store: apsw.Connection, outcome: str, rests: bool
) -> None:
    runs.end_run(store, began(store), RunEnding(Outcome(outcome), "x"), 100.0)
    assert enqueue_automatic(store, CHECKPOINT, "/jobs.db", 699.9).decision == ("cooldown" if rests else "accepted")


def test_the_cooldown_ends(store: apsw.Connection) -> None:
    runs.end_run(store, began(store), DONE, 100.0)
    assert enqueue_automatic(store, CHECKPOINT, "/jobs.db", 700.0).decision == "accepted"


def test_an_attempt_is_a_run_that_touched_the_database(store: apsw.Connection) -> None:
    runs.end_run(store, began(store), DONE, 100.0)
    runs.end_run(store, began(store), RunEnding(Outcome.REFUSED, "x"), 200.0)
    runs.end_run(store, began(store), RunEnding(Outcome.BLOCKED, "x", reason="reader_seen"), 300.0)
    assert recent_runs.last_attempt(store, "jobs", "checkpoint", 500.0) == 100.0
    runs.end_run(store, began(store), RunEnding(Outcome.BLOCKED, "x", reason="reader"), 400.0)
    assert recent_runs.last_attempt(store, "jobs", "checkpoint", 500.0) == 400.0


def test_a_clock_that_was_set_back_far_does_not_hide_the_runs_after_it(store: apsw.Connection) -> None:
    now = 100_000.0
    runs.end_run(store, began(store), DONE, now + 7200)
    assert recent_runs.last_attempt(store, "jobs", "checkpoint", now) is None
    assert enqueue_automatic(store, CHECKPOINT, "/jobs.db", now).decision == "accepted"
    runs.end_run(store, began(store), DONE, now - 1)
    attempted_at = recent_runs.last_attempt(store, "jobs", "checkpoint", now)
    assert attempted_at == now - 1
    assert not may_retry_checkpoint(attempted_at, now)
    past = recent_runs.load_action_history(store, "jobs", "checkpoint", now)
    assert past.last_ended == now - 1
    assert cooldown_left(past, 600.0, now) == 599.0


def test_a_clock_that_was_set_back_a_little_waits_for_the_run_before_it(store: apsw.Connection) -> None:
    runs.end_run(store, began(store), DONE, 1000.0)
    attempted_at = recent_runs.last_attempt(store, "jobs", "checkpoint", 990.0)
    assert (attempted_at, may_retry_checkpoint(attempted_at, 990.0)) == (1000.0, False)
    assert enqueue_automatic(store, CHECKPOINT, "/jobs.db", 990.0).decision == "cooldown"


def test_several_processes_share_one_history_without_losing_a_run(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from actions.store import runs; from actions.store.database import state_store\n"
        "from actions.store.runs import RunEnding\n"
        "from actions.model.outcome import Outcome; from actions.model.request import Request\n"
        "with state_store(Path(sys.argv[1])) as store:\n"
        "    for i in range(40):\n"
        "        claim = runs.enqueue_and_claim(store, Request('checkpoint', sys.argv[2]), '/x', float(i))\n"
        "        assert runs.start_run(store, claim, float(i))\n"
        "        assert runs.end_run(store, claim, RunEnding(Outcome.DONE, 'ok'), i + 0.5)\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), f"db{n}"]) for n in range(4)]
    assert [child.wait(LONGEST_WAIT) for child in children] == [0, 0, 0, 0]
    with state_store(tmp_path) as store:
        assert sum(read_totals(store).runs.values()) == 160


def test_own_identity_is_alive_and_a_zombie_is_not(store: apsw.Connection) -> None:
    from actions.model.process_identity import is_process_alive, process_identity

    assert is_process_alive(own_identity())
    child = subprocess.Popen([sys.executable, "-c", ""])
    known = process_identity(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_process_alive(known)
    child.wait()
