"""After our requeue and purge the real libraries drain their queues: none lost, none twice where the profile says safe."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from collectors.queue_profiles import holder_liveness
from collectors.raw_reader.client import RawReader
from tests.collectors.queue_profiles.test_real_queue_files import liteque_process, value
from tests.support.scenes import prismq, queue_files, runner_child
from tests.support.scenes.run_actions import by_hand, target_of
from tests.support.scenes.run_in_process import run_here, work_on

DAY = 86400.0


def items(path: Path) -> str:
    return Path(f"{path}.items").read_text()


def test_huey_drains_what_it_has_and_we_leave_it_alone(tmp_path: Path) -> None:
    """A consumer deletes what it takes, so there is nothing that we could give back or delete."""
    path = tmp_path / "huey.db"
    with prismq.process("real_queues.py", "huey", path):
        for action, reason in (("requeue", "no_requeue"), ("purge", "no_purge")):
            refused = by_hand(target_of(path), action)
            assert (refused.outcome, refused.reason) == ("refused", reason)
    with prismq.process("real_queues.py", "huey_drained", path):
        # of 7 and 4 tasks one was run and one was lost with its worker; two of each queue were scheduled
        expected = [("mail", n) for n in (2, 3, 4, 5, 6, 9, 9)] + [("video", n) for n in (2, 3, 9, 9)]
        assert items(path) == repr(sorted(expected))


def test_persist_queue_hands_out_each_item_once_after_a_requeue_and_a_purge(tmp_path: Path, raw: RawReader) -> None:
    path = tmp_path / "pq.db"
    with prismq.process("real_queues.py", "persist_queue", path):
        pass
    with queue_files.owned(path) as owner:
        owner.execute("UPDATE ack_queue_acks SET timestamp = timestamp - 90000")
        assert run_here("requeue", work_on(target_of(path), raw, workers_stopped=True)).figures["requeued"] == 2
        assert run_here("purge", work_on(target_of(path), raw)).figures["purged"] == 1
    with prismq.process("real_queues.py", "persist_queue_resumed", path):
        assert items(path) == "[2, 3, 4, 5, 6, 7, 8]"  # of nine one is acknowledged and one failed


def test_persist_queues_unique_queue_takes_an_item_again_only_when_its_key_was_freed(
    tmp_path: Path, raw: RawReader
) -> None:
    path = tmp_path / "pq.db"

    def put_again() -> str:
        with prismq.process("real_queues.py", "persist_queue_unique", path):
            return items(path)

    assert put_again() == "['a', 'b']"
    with queue_files.owned(path) as owner:
        owner.execute("UPDATE ack_unique_queue_uniq SET timestamp = timestamp - 90000")
        assert by_hand(target_of(path), "purge").reason == "idempotency_keys"
    assert put_again() == "[]"
    with queue_files.owned(path):
        done = run_here("purge", work_on(target_of(path), raw, free_idempotency_keys=True))
        assert done.figures["purged"] == 1
    assert put_again() == "['a']"


def test_liteque_drains_each_task_once_after_a_requeue_and_a_purge_beside_it(tmp_path: Path, raw: RawReader) -> None:
    path = tmp_path / "liteque.db"
    with liteque_process(path) as (_, ask):
        with apsw.Connection(str(path)) as other:
            other.set_busy_timeout(5000)
            other.execute("UPDATE tasks SET createdAt = createdAt - 4000000 WHERE status = 'failed'")
        assert run_here("requeue", work_on(target_of(path), raw)).message == "requeued 1 task"
        assert run_here("purge", work_on(target_of(path), raw)).figures["purged"] == 1
        ask("late answer")  # of the one whose lease had ended: its token is no longer valid
        drained = ask("drain")
        # of five one was completed and one runs; one of them was given back; the sixth is due later
        assert len(drained["done"]) == len(set(drained["done"])) == 3
        assert drained["stats"] == {"pending": 1, "pending_retry": 0, "running": 1, "failed": 0}
        assert value(path, "SELECT count(*) FROM tasks") == 2
        assert value(path, "PRAGMA integrity_check") == "ok"


def test_prismqs_workers_drain_their_queue_while_one_is_killed_and_we_requeue_and_purge(
    make_queue: Callable[..., prismq.Queue], raw: RawReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No task is lost. One that was cut off in the middle may have run twice, no other did."""
    monkeypatch.setattr(holder_liveness, "CACHE_SECONDS", -1.0)
    queue = make_queue()
    queue.owner.set_busy_timeout(10_000)
    queue.owner.execute("CREATE TABLE ran (task INTEGER, who TEXT)")
    queue.put("queued", 300)
    queue.put("completed", 200, finished_at_utc=prismq.stamp(time.time() - 30 * DAY))
    target = target_of(queue.path, settings={"grace": 0.0})
    done: dict[str, Any] = {"requeue": 0, "purge": 0}

    def act(action: str, figure: str) -> None:
        run = by_hand(target, action)
        assert run.outcome in ("done", "nothing_to_do"), run
        done[action] += run.figures.get(figure, 0)

    def unfinished() -> int:
        return int(queue.value("SELECT count(*) FROM task_queue WHERE status IN ('queued', 'leased')"))

    with (
        prismq.process("prismq_worker.py", queue.path, "1", "1") as worker,
        prismq.process("prismq_worker.py", queue.path, "1", "1") as other,
    ):
        runner_child.eventually(lambda: unfinished() < 280, "they work")
        leased = "SELECT count(*) FROM task_queue WHERE status = 'leased' AND locked_by LIKE '%:' || ?"
        other.kill()
        other.wait()
        cut_off = queue.value(leased, other.pid)
        act("purge", "purged")
        runner_child.eventually(
            lambda: unfinished() == 0 or (act("requeue", "requeued"), unfinished())[1] == 0, "all is done", 120
        )
        act("purge", "purged")
        assert worker.poll() is None
    assert done == {"requeue": cut_off, "purge": 200}
    assert queue.value("SELECT count(*) FROM task_queue WHERE status = 'completed'") == 300
    assert queue.value("SELECT count(DISTINCT task) FROM ran") == 300
    twice = queue.value("SELECT count(*) FROM (SELECT task FROM ran GROUP BY task HAVING count(*) > 1)")
    assert twice <= cut_off <= 1
