"""Checkpoints: by whose SQLite, with and without a reader in the way."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from actions.checkpoint import MODES
from actions.model.condition import Condition
from actions.model.errors import GIVEN_UP_BEFORE_TRYING, Refused
from actions.store.runs import Run
from collectors.raw_reader.client import RawReader
from collectors.target import Limits, Target
from queuekeeper import QueueMaintenance
from tests.support.real.real_parts import until
from tests.support.scenes import prismq
from tests.support.scenes.run_actions import by_hand, by_rule, planned, target_of
from tests.support.scenes.run_in_process import plan_here, work_on

Hold = Callable[[Path], AbstractContextManager[int]]
Application = Callable[[Path, float], AbstractContextManager[int]]
SAFE, VULNERABLE = "3.51.3", "3.45.1"
BACKLOG = Condition("sqlite_wal_backlog_bytes", above=1_000_000, clear=100_000)


@pytest.fixture
def backlog(queue: prismq.Queue) -> prismq.Queue:
    queue.fill_wal(1200)
    return queue


def log(queue: prismq.Queue) -> tuple[int, int]:
    """(frames, copied) by NOOP on the owner's connection."""
    _, frames, copied = queue.owner.execute("PRAGMA wal_checkpoint(NOOP)").fetchall()[0]
    return frames, copied


def test_auto_on_a_safe_owner_copies_passively_and_then_gives_the_space_back(backlog: prismq.Queue) -> None:
    run = by_hand(target_of(backlog.path, owner_sqlite=SAFE), "checkpoint")
    assert (run.outcome, run.plan.figures["modes"]) == ("done", "passive,truncate")
    assert run.figures["frames_copied"] >= 1200
    assert backlog.path.with_name("queue.db-wal").stat().st_size == 0
    assert run.figures["wal_bytes_before"] > 1200 * 4096
    assert backlog.value("PRAGMA integrity_check") == "ok"


@pytest.mark.parametrize("owner", [None, VULNERABLE])
def test_auto_on_an_owner_not_proved_safe_only_truncates(backlog: prismq.Queue, owner: str | None) -> None:
    run = by_hand(target_of(backlog.path, owner_sqlite=owner), "checkpoint")
    assert (run.outcome, run.plan.figures["modes"]) == ("done", "truncate")
    assert log(backlog) == (0, 0)


@pytest.mark.parametrize("mode", ["passive", "full", "restart"])
def test_what_leaves_a_completed_wal_is_refused_on_an_owner_not_proved_safe(backlog: prismq.Queue, mode: str) -> None:
    before = log(backlog)
    run = by_hand(target_of(backlog.path), "checkpoint", mode=mode)
    assert (run.outcome, run.reason) == ("refused", "owner_vulnerable")
    assert "--owner-sqlite" in run.next_step
    assert "WAL-reset bug" in run.message
    assert log(backlog) == before


@pytest.mark.parametrize("mode", ["passive", "full", "restart", "truncate"])
def test_every_mode_works_on_a_safe_owner(backlog: prismq.Queue, mode: str) -> None:
    run = by_hand(target_of(backlog.path, owner_sqlite=SAFE), "checkpoint", mode=mode)
    frames, copied = log(backlog)
    assert run.outcome == "done"
    assert frames == copied


def test_an_owner_not_proved_safe_is_left_alone_for_a_minute(backlog: prismq.Queue) -> None:
    target = target_of(backlog.path)
    assert by_hand(target, "checkpoint").outcome == "done"
    backlog.fill_wal(1200)
    again = by_hand(target, "checkpoint")
    assert (again.outcome, again.reason) == ("refused", "owner_vulnerable_pause")


def test_the_operators_word_lifts_the_owner_guard(backlog: prismq.Queue) -> None:
    from actions.model.request import Request
    from tests.support.scenes.run_actions import act

    run = act(target_of(backlog.path), Request("checkpoint", "queue", options={"mode": "passive"}), trust_owner=True)
    assert run.outcome == "done"


def test_a_reader_blocks_and_is_named_on_a_safe_owner(queue: prismq.Queue, held_reader: Hold) -> None:
    with held_reader(queue.path) as reader:
        queue.fill_wal(1200)
        run = by_hand(target_of(queue.path, owner_sqlite=SAFE), "checkpoint")
        assert (run.outcome, run.figures["pid"]) == ("blocked", reader)
        assert f"pid {reader}" in run.message
        assert "held_reader.py" in run.message
        assert (run.reason, run.plan) == (GIVEN_UP_BEFORE_TRYING, None), (
            "nothing is tried that would only stall the writers"
        )
    assert by_hand(target_of(queue.path, owner_sqlite=SAFE), "checkpoint").outcome == "done"


def test_a_reader_blocks_before_anything_is_tried_on_an_owner_not_proved_safe(
    queue: prismq.Queue, held_reader: Hold
) -> None:
    with held_reader(queue.path) as reader:
        queue.fill_wal(1200)
        before = log(queue)
        run = by_hand(target_of(queue.path), "checkpoint")
        assert (run.outcome, run.reason, run.figures["pid"]) == ("blocked", "reader_seen", reader)
        assert log(queue) == before
    assert by_hand(target_of(queue.path), "checkpoint").outcome == "done"  # at once: nothing had been tried


def test_a_writer_in_a_transaction_is_not_waited_for_beyond_the_budget(backlog: prismq.Queue) -> None:
    backlog.owner.execute("BEGIN IMMEDIATE")
    try:
        run = by_hand(target_of(backlog.path, owner_sqlite=SAFE), "checkpoint", mode="truncate")
    finally:
        backlog.owner.execute("COMMIT")
    assert (run.outcome, run.reason, run.figures["pid"]) == ("blocked", "writer", os.getpid())
    assert f"pid {os.getpid()}" in run.message
    assert run.figures["seconds"] < 1


@pytest.mark.parametrize("mode", ["full", "restart", "truncate"])
def test_a_mode_that_waits_is_not_tried_against_a_pin(queue: prismq.Queue, held_reader: Hold, mode: str) -> None:
    with held_reader(queue.path) as reader:
        queue.fill_wal(1200)
        before = log(queue)
        run = by_hand(target_of(queue.path, owner_sqlite=SAFE), "checkpoint", mode=mode)
        assert (run.outcome, run.reason, run.figures["pid"]) == ("blocked", GIVEN_UP_BEFORE_TRYING, reader)
        assert "--mode passive" in run.next_step
        assert log(queue) == before


def test_passive_copies_what_a_reader_does_not_hold_back_and_names_it(queue: prismq.Queue, held_reader: Hold) -> None:
    queue.fill_wal(300)
    with held_reader(queue.path) as reader:
        queue.fill_wal(300)
        run = by_hand(target_of(queue.path, owner_sqlite=SAFE), "checkpoint", mode="passive")
        frames, copied = log(queue)
    assert run.outcome == "done"
    assert 0 < copied < frames
    assert (run.figures["log"], run.figures["checkpointed"]) == (frames, copied)
    assert f"{frames - copied} frames are held back by pid {reader}" in run.message


def test_auto_leaves_a_file_alone_that_is_no_larger_than_an_application_needs_it(queue: prismq.Queue) -> None:
    queue.fill_wal(200)
    safe = target_of(queue.path, owner_sqlite=SAFE)
    size = safe.wal.stat().st_size
    first = by_hand(safe, "checkpoint")
    assert (first.outcome, first.plan.figures["modes"]) == ("done", "passive")
    assert safe.wal.stat().st_size == size
    again = by_hand(safe, "checkpoint")
    assert (again.outcome, again.reason, again.figures["checkpointed"]) == ("nothing_to_do", "copied", log(queue)[1])
    assert by_hand(safe, "checkpoint", mode="truncate").outcome == "done"
    assert safe.wal.stat().st_size == 0


def test_full_copies_all_beside_a_reader_of_the_newest_frame_and_restart_names_it(
    backlog: prismq.Queue, held_reader: Hold
) -> None:
    safe = target_of(backlog.path, owner_sqlite=SAFE)
    with held_reader(backlog.path) as reader:
        full = by_hand(safe, "checkpoint", mode="full")
        frames, copied = log(backlog)
        assert (full.outcome, frames) == ("done", copied)
        restart = by_hand(safe, "checkpoint", mode="restart")
        assert (restart.outcome, restart.reason, restart.figures["pid"]) == ("blocked", "reset_starved", reader)
    assert by_hand(safe, "checkpoint", mode="restart").outcome == "done"
    backlog.put()
    assert log(backlog)[0] < 20, "the next write begins at the first frame"


def test_automatic_runs_make_writers_wait_at_most_once_a_minute(backlog: prismq.Queue) -> None:
    safe = target_of(backlog.path, owner_sqlite=SAFE)
    assert by_rule(safe, "checkpoint", BACKLOG).plan.figures["modes"] == "passive,truncate"
    backlog.fill_wal(1200)
    second = by_rule(safe, "checkpoint", BACKLOG)
    assert (second.plan.figures["modes"], second.effect) == ("passive", "fixed")
    third = by_rule(safe, "checkpoint", mode="truncate")
    assert (third.outcome, third.reason) == ("refused", "too_soon")
    assert by_hand(safe, "checkpoint", mode="truncate").outcome == "done", "a person is not bound"


def test_a_starved_log_starts_over_by_one_truncate(backlog: prismq.Queue, application: Application) -> None:
    patient = Limits(checkpoint_wait=5.0)  # far more than twice the reads, on however busy a machine
    with application(backlog.path, 5), prismq.process("taking_turns.py", backlog.path, "20"):
        run = by_hand(target_of(backlog.path, owner_sqlite=SAFE, limits=patient), "checkpoint")
    assert (run.outcome, run.figures["busy"]) == ("done", 0), run.message
    assert run.figures["wal_bytes"] < run.figures["wal_bytes_before"]


def test_reads_longer_than_half_the_wait_end_blocked_after_one_try_by_name(
    backlog: prismq.Queue, application: Application
) -> None:
    brief = Limits(checkpoint_wait=0.02)
    with application(backlog.path, 5), prismq.process("taking_turns.py", backlog.path, "300") as readers:
        # Where the writer did not get the processor for a whole read, both readers need no frame, and it succeeds.
        run = until(
            lambda: blocked_run(target_of(backlog.path, owner_sqlite=SAFE, limits=brief)), "a blocked checkpoint"
        )
    assert f"pid {readers.pid}" in run.message
    assert "taking_turns.py" in run.message


def blocked_run(target: Target) -> Run | None:
    run = by_hand(target, "checkpoint")
    return run if run.outcome == "blocked" else None


CHECKPOINTING = """
import fcntl, sys
index = open(sys.argv[1] + "-shm", "r+b")
fcntl.lockf(index, fcntl.LOCK_EX, 1, 121)  # SQLite's checkpoint lock
print("ready", flush=True)
sys.stdin.read()
"""


def test_another_checkpoint_is_waited_for_and_then_named(backlog: prismq.Queue, tmp_path: Path) -> None:
    script = tmp_path / "checkpointing.py"
    script.write_text(CHECKPOINTING)
    safe = target_of(backlog.path, owner_sqlite=SAFE)
    with prismq.process(str(script), backlog.path) as other:
        run = by_hand(safe, "checkpoint")
        assert (run.outcome, run.reason, run.figures["pid"]) == ("blocked", "checkpointer", other.pid)
    assert by_hand(safe, "checkpoint").outcome == "done"


@pytest.mark.parametrize("owner", [None, SAFE])
def test_a_silent_raw_reader_does_not_mean_that_no_process_reads(backlog: prismq.Queue, owner: str | None) -> None:
    before = log(backlog)
    target = target_of(backlog.path, owner_sqlite=owner)
    with RawReader(("sleep", "60"), answer_within=0.01) as deaf, pytest.raises(Refused) as refusal:
        plan_here("checkpoint", work_on(target, deaf))
    assert refusal.value.reason == "raw_reader"
    assert log(backlog) == before


def test_an_empty_wal_and_a_rollback_journal_are_nothing_to_do(
    make_queue: Callable[..., prismq.Queue], backlog: prismq.Queue
) -> None:
    safe = target_of(backlog.path, owner_sqlite=SAFE)
    by_hand(safe, "checkpoint")
    assert by_hand(safe, "checkpoint").outcome == "nothing_to_do"
    rollback = make_queue("rollback.db", "delete")
    assert by_hand(target_of(rollback.path), "checkpoint").outcome == "nothing_to_do"
    assert sorted(path.name for path in rollback.path.parent.glob("rollback*")) == ["rollback.db"]


def test_a_rule_that_helped_says_fixed_and_what_it_measured(backlog: prismq.Queue) -> None:
    run = by_rule(target_of(backlog.path), "checkpoint", BACKLOG)
    assert (run.outcome, run.effect, run.after) == ("done", "fixed", 0)
    assert run.before is not None
    assert run.before >= 1200 * 4096


def test_a_condition_that_is_gone_is_nothing_to_do(queue: prismq.Queue) -> None:
    run = by_rule(target_of(queue.path), "checkpoint", BACKLOG)
    assert (run.outcome, run.reason, run.effect) == ("nothing_to_do", "condition_gone", None)


def test_a_condition_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "queue.db").write_bytes(b"this is not a database, only some text that is long enough" * 20)
    run = by_rule(target_of(tmp_path / "queue.db"), "checkpoint", BACKLOG)
    assert (run.outcome, run.reason) == ("refused", "condition_unreadable")


def test_a_blocked_rule_says_blocked_as_its_effect(queue: prismq.Queue, held_reader: Hold) -> None:
    with held_reader(queue.path):
        queue.fill_wal(1200)
        run = by_rule(target_of(queue.path), "checkpoint", BACKLOG)
    assert (run.outcome, run.effect) == ("blocked", "blocked")


def test_a_stall_beyond_the_budget_needs_the_operators_word(queue: prismq.Queue) -> None:
    queue.fill_wal(2600)  # 10 MB, about 16 ms of copying under the write lock
    strict = replace(target_of(queue.path), limits=Limits(checkpoint_wait=0.001))
    refused = by_rule(strict, "checkpoint", BACKLOG)
    assert (refused.outcome, refused.reason) == ("refused", "stall")
    assert "options: {stall: 2s}" in refused.next_step
    assert by_rule(strict, "checkpoint", BACKLOG, stall=2.0).outcome == "done"


def test_a_dry_run_shows_the_plan_and_changes_nothing(backlog: prismq.Queue) -> None:
    before = log(backlog)
    event = planned(target_of(backlog.path), "checkpoint")
    assert event.figures["outcome"] == "done"
    assert "wal_checkpoint(TRUNCATE)" in event.message
    assert log(backlog) == before


def test_nothing_of_ours_is_left_in_the_database(backlog: prismq.Queue) -> None:
    tables = backlog.value("SELECT group_concat(name) FROM sqlite_schema")
    by_hand(target_of(backlog.path), "checkpoint")
    assert backlog.value("SELECT group_concat(name) FROM sqlite_schema") == tables
    assert isinstance(backlog.owner, apsw.Connection)


def test_the_python_api_offers_the_modes_of_the_action() -> None:
    offered = {value for name, value in vars(QueueMaintenance).items() if name.startswith("CHECKPOINT_")}
    assert offered == {mode.upper() for mode in MODES if mode != "auto"}
