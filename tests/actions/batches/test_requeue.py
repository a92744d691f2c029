"""Requeue: the same predicate as the gauge, attempts, dead letters, gates, races."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from actions.model.condition import Condition
from collectors.poll import poll_database
from collectors.queue_profiles import detection
from collectors.raw_reader.client import RawReader
from tests.support.scenes import prismq
from tests.support.scenes.run_actions import by_hand, by_rule, planned, target_of

STALE = Condition("sqlite_queue_stale_leases", above=0)
LONG_AGO = 1000.0


def stale_of(queue: prismq.Queue, raw: RawReader) -> float:
    snapshot = poll_database(target_of(queue.path), None, time.time(), raw)
    return sum(sample.value_at(time.time()) for sample in snapshot.samples_of("sqlite_queue_stale_leases"))


@pytest.fixture
def stale(queue: prismq.Queue) -> prismq.Queue:
    """Three expired leases (one `processing`, one without attempts left), one live lease, and others."""
    now = time.time()
    queue.leased(now - LONG_AGO, attempts=1)
    queue.leased(now - LONG_AGO, status="processing", type="video")
    queue.leased(now - LONG_AGO, attempts=4, max_attempts=5)
    queue.leased(now + 300)
    queue.put("queued", 2)
    queue.put("completed", 3)
    return queue


def statuses(queue: prismq.Queue) -> dict[str, int]:
    return dict(queue.owner.execute("SELECT status, count(*) FROM task_queue GROUP BY 1").fetchall())


def test_expired_leases_go_back_and_those_without_attempts_left_are_dead(stale: prismq.Queue, raw: RawReader) -> None:
    assert stale_of(stale, raw) == 3
    run = by_hand(target_of(stale.path), "requeue")
    assert (run.outcome, run.figures["requeued"], run.figures["dead"]) == ("done", 2, 1)
    assert statuses(stale) == {"queued": 4, "failed": 1, "leased": 1, "completed": 3}
    assert stale_of(stale, raw) == 0


def test_a_requeued_task_has_one_attempt_more_and_nothing_left_of_its_lease(stale: prismq.Queue) -> None:
    by_hand(target_of(stale.path), "requeue")
    row = stale.owner.execute(
        "SELECT attempts, lease_until_utc, reserved_at_utc, processing_started_utc, locked_by FROM task_queue WHERE id = 1"
    ).fetchone()
    assert row == (2, None, None, None, None)


def test_a_dead_task_says_when_and_why(stale: prismq.Queue) -> None:
    by_hand(target_of(stale.path), "requeue")
    row = stale.owner.execute(
        "SELECT attempts, finished_at_utc NOT NULL, error_message, locked_by FROM task_queue WHERE id = 3"
    )
    assert row.fetchone() == (5, 1, "lease expired", None)


def test_a_live_lease_and_finished_tasks_are_untouched(stale: prismq.Queue) -> None:
    others = "SELECT group_concat(id || status || updated_at_utc) FROM task_queue WHERE id > 3"
    before = stale.value(others)
    by_hand(target_of(stale.path), "requeue")
    assert stale.value(others) == before


def test_a_dry_run_lists_the_tasks_and_changes_nothing(stale: prismq.Queue) -> None:
    before = statuses(stale)
    event = planned(target_of(stale.path), "requeue")
    assert event.figures["stale"] == 3
    assert "1 of mail" in event.message
    assert statuses(stale) == before


def test_repeating_is_nothing_to_do(stale: prismq.Queue) -> None:
    by_hand(target_of(stale.path), "requeue")
    assert by_hand(target_of(stale.path), "requeue").outcome == "nothing_to_do"


def test_the_limit_bounds_what_is_moved(stale: prismq.Queue, raw: RawReader) -> None:
    run = by_hand(target_of(stale.path), "requeue", limit=2)
    assert run.figures["requeued"] + run.figures["dead"] == 2
    assert stale_of(stale, raw) == 1


def test_older_than_only_narrows(queue: prismq.Queue, raw: RawReader) -> None:
    now = time.time()
    queue.leased(now - 5000)
    queue.leased(now - 1000)
    queue.leased(now - 10)  # within the grace of 60 s
    target = target_of(queue.path)
    assert by_hand(target, "requeue", older_than=3000.0).figures["requeued"] == 1
    assert by_hand(target, "requeue", older_than=0.0).figures["requeued"] == 1
    assert stale_of(queue, raw) == 0
    assert statuses(queue) == {"queued": 2, "leased": 1}


def test_the_grace_of_the_configuration_is_the_gauges_and_the_actions(queue: prismq.Queue, raw: RawReader) -> None:
    queue.leased(time.time() - 10)
    target = replace(target_of(queue.path), settings={"grace": 2.0})
    assert by_hand(target_of(queue.path), "requeue").outcome == "nothing_to_do"
    assert by_hand(target, "requeue").figures["requeued"] == 1


def test_a_rule_needs_the_operators_confirmation_and_a_limit(stale: prismq.Queue) -> None:
    target = target_of(stale.path)
    for options in ({}, {"guarded": True}, {"limit": 10}):
        refused = by_rule(target, "requeue", STALE, **options)
        assert (refused.outcome, refused.reason, refused.effect) == ("refused", "guarded", None)
    done = by_rule(target, "requeue", STALE, guarded=True, limit=10)
    assert (done.outcome, done.effect, done.before, done.after) == ("done", "fixed", 3, 0)


def test_a_limit_that_leaves_some_is_not_called_fixed(stale: prismq.Queue) -> None:
    run = by_rule(target_of(stale.path), "requeue", STALE, guarded=True, limit=1)
    assert (run.outcome, run.effect, run.after) == ("done", "no_effect", 2)


def test_thousands_are_moved_in_short_transactions(queue: prismq.Queue) -> None:
    queue.leased(time.time() - LONG_AGO, number=5000)
    run = by_hand(target_of(queue.path), "requeue")
    assert run.figures["requeued"] == 5000
    assert run.figures["chunks"] >= 5000 / 2000
    assert statuses(queue) == {"queued": 5000}


def test_a_held_write_lock_ends_locked_and_nothing_is_lost(stale: prismq.Queue) -> None:
    stale.owner.execute("BEGIN IMMEDIATE")
    try:
        run = by_hand(target_of(stale.path), "requeue")
    finally:
        stale.owner.execute("COMMIT")
    assert (run.outcome, run.reason) == ("locked", "write_lock")
    assert "readers" in run.next_step
    assert by_hand(target_of(stale.path), "requeue").figures["requeued"] == 2


def test_an_unknown_schema_is_refused_with_the_cure(make_queue: Callable[..., prismq.Queue]) -> None:
    queue = make_queue("other.db")
    queue.owner.execute("PRAGMA foreign_keys = off; DROP TABLE task_logs; DROP TABLE task_queue")
    run = by_hand(target_of(queue.path), "requeue")
    assert (run.outcome, run.reason) == ("refused", "no_profile")


def test_a_profile_that_cannot_be_used_is_refused_with_the_reason(stale: prismq.Queue, tmp_path: Path) -> None:
    run = by_hand(target_of(stale.path, settings={"grcae": 1.0}), "requeue")
    assert (run.outcome, run.reason) == ("refused", "profile")
    assert "settings.grcae: no such setting" in run.message
    stale.owner.execute("CREATE TABLE secrets (word)")
    prying = (
        (detection.SHIPPED_DIRECTORY / "prismq.yaml")
        .read_text()
        .replace("'lease expired'", "(SELECT word FROM secrets)")
    )
    (tmp_path / "own.yaml").write_text(prying)
    run = by_hand(target_of(stale.path, profile=str(tmp_path / "own.yaml")), "requeue")
    assert (run.outcome, run.message) == (
        "refused", "the queue profile may not read secrets.word: it does not declare that",
    )  # fmt: skip
    assert statuses(stale)["queued"] == 2


def test_steps_that_leave_a_row_stale_end_by_themselves(stale: prismq.Queue, tmp_path: Path) -> None:
    useless = re.sub(r"(?s)steps:.*?  purge:", "steps: [{to: waiting, set: {error_message: \"'x'\"}}]\n  purge:",
                     (detection.SHIPPED_DIRECTORY / "prismq.yaml").read_text())  # fmt: skip
    (tmp_path / "own.yaml").write_text(useless)
    run = by_hand(target_of(stale.path, profile=str(tmp_path / "own.yaml")), "requeue")
    assert run.figures["chunks"] == 1
    assert statuses(stale)["leased"] == 3


def test_the_queues_own_worker_takes_what_was_requeued(stale: prismq.Queue) -> None:
    by_hand(target_of(stale.path), "requeue")
    claim = (
        "UPDATE task_queue SET status='leased', locked_by='w', lease_until_utc=datetime('now','+60 seconds') WHERE id ="
        " (SELECT id FROM task_queue WHERE status='queued' AND run_after_utc<=datetime('now')"
        " ORDER BY priority, run_after_utc, id LIMIT 1) RETURNING id"
    )
    keys = []
    while rows := stale.owner.execute(claim).fetchall():
        keys.append(rows[0][0])
    assert sorted(keys) == sorted(set(keys))
    assert {1, 2} <= set(keys)
