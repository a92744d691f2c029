"""Every `sqlite_*` value on a real agent's page equals the truth, which another process computes by SQL, stat and bytes.

Not some: the page has exactly the series that the truth has.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import time
from typing import Any

import apsw
import pytest

from tests.support.patience import LONGEST_WAIT
from tests.support.real.real_parts import until
from tests.support.scenes import agent_process, prismq
from tests.support.scenes.agent_process import AgentProcess, Labels, Scrape, command
from tests.support.scenes.prismq import stamp

GRACE = 60.0
# Read on the slow timer: it may tell of an hour ago.
SLOW = ("sqlite_unused_bytes", "sqlite_out_of_order_pages_ratio")
# Sampled: on a busy machine there may be no sample yet, and then it is rightly absent.
BUSY_RATIO = ("sqlite_write_lock_busy_ratio", frozenset({("database", "jobs")}))
Values = dict[tuple[str, Labels], Any]
CONFIG = """\
databases:
  - {name: jobs, path: FOLDER/jobs.db, backup: {directory: FOLDER/backups}}
poll: {interval: 1s}
state: FOLDER/state
"""


@pytest.fixture
def quiet() -> Iterator[Path]:
    """A folder on a file system that hardly anybody else writes to, so that its free space holds still for a moment."""
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="queuekeeper-truth-", dir=place) as folder:
        yield Path(folder).resolve()


def filled(queue: prismq.Queue) -> None:
    """Tasks of every kind over two types, each number different, none near a moment that changes its kind."""
    now = time()
    queue.put(number=2, run_after_utc=stamp(now - 500))
    queue.put(number=3, run_after_utc=stamp(now - 7000), attempts=2)
    queue.put(number=5, run_after_utc=stamp(now + 5000))
    queue.leased(now + 3000, 7)
    queue.leased(now - 20, 2)  # over, but within the grace
    queue.leased(now - 900, 4)
    queue.leased(now + 3000, 3, "processing", processing_started_utc=stamp(now - 10))
    queue.leased(now - 4000, 1, "processing", processing_started_utc=stamp(now - 5000))
    queue.put("processing", 2, lease_until_utc=None)
    queue.put("failed", 6, finished_at_utc=stamp(now - 100), error_message="no")
    queue.put("dead_letter", 8)
    queue.put("completed", 11, finished_at_utc=stamp(now - 100))
    queue.put("cancelled", 9)  # a word that nobody knows
    queue.put(number=1, type="report", run_after_utc=stamp(now - 40))
    queue.leased(now - 86400, 2, type="report")
    queue.put("completed", 3, type="report")
    queue.put("failed", 1, type='odd "name"\\')


def with_workers(queue: prismq.Queue) -> None:
    for number, ago in enumerate((1, 10, 100, 1000, 10000)):
        queue.owner.execute("INSERT INTO workers VALUES (?, '{}', ?)", (f"worker-{number}", stamp(time() - ago)))


def with_free_pages(queue: prismq.Queue) -> None:
    queue.owner.execute("CREATE TABLE bulk (bytes)")
    with queue.owner:
        for _ in range(50):
            queue.owner.execute("INSERT INTO bulk VALUES (zeroblob(9000))")
    queue.owner.execute("DELETE FROM bulk WHERE rowid % 3 = 0")


def partly_copied(queue: prismq.Queue) -> None:
    """A WAL of which a reader let only a part be copied; the reader is gone."""
    reader = apsw.Connection(str(queue.path), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM task_queue").fetchall()
    queue.owner.wal_autocheckpoint(0)
    queue.put("completed", 20, error_message="x" * 3000)
    busy, frames, copied = queue.owner.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()[0]
    assert (busy, 0 < int(str(copied)) < int(str(frames))) == (0, True)
    reader.close()


def truth(folder: Path) -> Values:
    places = [folder / "backups" / "jobs", folder / "state", folder]
    done = subprocess.run(
        [sys.executable, prismq.HERE / "truth.py", "jobs", folder / "jobs.db", str(GRACE), *places],
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST_WAIT,
    )
    assert done.returncode == 0, done.stderr
    return {(name, frozenset(labels.items())): value for name, labels, value in json.loads(done.stdout)}


def observed(agent: AgentProcess) -> Scrape:
    """A page whose every reading was taken after this call."""
    asked = time()
    last = ("queuekeeper_poll_last_success_timestamp_seconds", frozenset({("database", "jobs")}))
    return until(lambda: page if (page := agent.scrape()).samples[last] > asked else None, "the next poll")


def compared(agent: AgentProcess, began: float, hidden: tuple[str, ...] = ()) -> tuple[Values, Values]:
    """The page and the truth of a moment in which the truth held still, without what is `hidden`.

    What grows is compared as the moment when it began; `began` is when the agent was started.
    """
    for _ in range(20):
        before = truth(agent.folder)
        earliest = time()
        page = observed(agent).samples
        latest = time()
        if truth(agent.folder) == before:
            break
    else:
        pytest.fail("the truth did not hold still in 20 tries")
    values = {key: value for key, value in page.items() if key[0].startswith("sqlite_") and key[0] not in hidden}
    expected = {key: value for key, value in before.items() if key[0] not in hidden}
    if BUSY_RATIO not in values:
        expected.pop(BUSY_RATIO)
    for key, told in expected.items():
        if isinstance(told, dict) and key in values:
            first, last = (told["since"], told["since"]) if "since" in told else (began, latest)
            assert earliest - last <= values[key] <= latest - first, key
            values[key] = expected[key] = -1
    return values, expected


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
def test_every_value_on_the_page_is_the_truth(quiet: Path, journal_mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLITE_TMPDIR", str(quiet))
    queue = prismq.create(quiet / "jobs.db", journal_mode)
    with ExitStack() as stack:
        stack.callback(queue.owner.close)
        filled(queue)
        with_workers(queue)
        with_free_pages(queue)
        if journal_mode == "wal":
            partly_copied(queue)
        began = time()
        agent = stack.enter_context(agent_process.agent(quiet, CONFIG))
        backup = command(agent, "backup", "jobs")
        assert backup.returncode == 0, backup.stderr
        stranger = quiet / "backups" / "jobs" / "queue_backup_jobs_20200101T000000Z.db"
        stranger.write_bytes(b"x" * 1234)
        observed(agent)
        values, expected = compared(agent, began)
        assert values == expected
        assert len(values) > 50
        assert os.environ["SQLITE_TMPDIR"] == str(quiet)


def test_the_page_follows_what_changes(quiet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLITE_TMPDIR", str(quiet))
    queue = prismq.create(quiet / "jobs.db")
    with ExitStack() as stack:
        stack.callback(queue.owner.close)
        began = time()
        agent = stack.enter_context(agent_process.agent(quiet, CONFIG))
        (quiet / "backups" / "jobs").mkdir(parents=True)
        changes = (
            lambda: queue.put(number=3),
            lambda: queue.leased(time() - 600, 2, type="report"),
            lambda: queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall(),
            lambda: queue.owner.execute("DELETE FROM task_queue WHERE id = (SELECT max(id) FROM task_queue)"),
        )
        for change in changes:
            change()
            observed(agent)  # a state of the WAL takes two readings
            values, expected = compared(agent, began, SLOW)
            assert values == expected
