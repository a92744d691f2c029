"""Checkpoints: by whose SQLite, with and without a reader in the way."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import apsw
import prismq
import pytest
from acting import by_hand, by_rule, planned, target_of

from actions.run.condition import Condition

Hold = Callable[[Path], AbstractContextManager[int]]
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
    from acting import act

    from actions.run.request import Request

    run = act(target_of(backlog.path), Request("checkpoint", "queue", options={"mode": "passive"}), trust_owner=True)
    assert run.outcome == "done"


def test_a_reader_blocks_and_is_named_on_a_safe_owner(queue: prismq.Queue, held_reader: Hold) -> None:
    with held_reader(queue.path) as reader:
        queue.fill_wal(1200)
        run = by_hand(target_of(queue.path, owner_sqlite=SAFE), "checkpoint")
        assert (run.outcome, run.figures["pid"]) == ("blocked", reader)
        assert f"pid {reader}" in run.message
        assert "held_reader.py" in run.message
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
    assert run.outcome == "blocked"
    assert run.figures["seconds"] < 1


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
    from dataclasses import replace

    from collectors.target import Limits

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
