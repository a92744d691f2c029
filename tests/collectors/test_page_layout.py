"""Page order and unused bytes inside pages: rarely read, from a backup if there is one, at no cost to the application."""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import apsw
import pytest

from collectors import page_layout
from collectors.access.snapshot import Snapshot
from collectors.backup_catalog.local_directory import manifest_path
from collectors.backup_catalog.manifest import encode_manifest
from collectors.poll import poll_database
from collectors.raw_reader.client import RawReader
from collectors.target import BackupSettings, Limits, Target
from tests.collectors.test_file_collectors import _manifest
from tests.support.scenes import prismq

ONLY = frozenset({"page_layout"})
ROOMY = Limits(read_wal=30, read_rollback=30)


def _values(snapshot: Snapshot) -> dict[str, float]:
    return {s.metric.name: s.value_at(snapshot.taken_at) for s in snapshot.samples}


def _scattered(queue: prismq.Queue) -> None:
    """Two tables that grow in turn lie in each other's way; then most rows go."""
    with queue.owner:
        queue.owner.execute("CREATE TABLE other (id INTEGER PRIMARY KEY, bytes)")
        for _ in range(300):
            queue.owner.execute("INSERT INTO task_queue (type, error_message) VALUES ('mail', hex(randomblob(700)))")
            queue.owner.execute("INSERT INTO other (bytes) VALUES (randomblob(1500))")
        queue.owner.execute("DELETE FROM other WHERE id % 2")


def _backup(target: Target, source: apsw.Connection, snapshot: float, **changes: object) -> Path:
    assert target.backup is not None
    folder = target.backup.directory / target.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"queue_backup_{snapshot:.0f}.db"
    copy = apsw.Connection(str(path))
    with copy.backup("main", source, "main") as step:
        step.step(-1)
    copy.pragma("journal_mode", "delete")
    copy.close()
    manifest = replace(_manifest(target, snapshot, size=path.stat().st_size), **changes)  # type: ignore[arg-type]
    manifest_path(path).write_text(encode_manifest(manifest))
    return path


def test_both_numbers_equal_independent_sql_before_and_after_a_vacuum(queue: prismq.Queue, raw: RawReader) -> None:
    _scattered(queue)
    target = Target("jobs", queue.path, limits=ROOMY)
    scattered = _values(poll_database(target, None, time.time(), raw, only=ONLY))
    pages = queue.owner.execute("SELECT name, pageno, unused FROM dbstat ORDER BY name, path").fetchall()
    jumps = sum(page[0] == before[0] and page[1] != before[1] + 1 for before, page in pairwise(pages))
    assert scattered["sqlite_unused_bytes"] == sum(page[2] for page in pages)
    assert scattered["sqlite_out_of_order_pages_ratio"] == pytest.approx(jumps / len(pages))
    assert scattered["sqlite_out_of_order_pages_ratio"] > 0.3
    queue.owner.execute("VACUUM")
    tidy = _values(poll_database(target, None, time.time(), raw, only=ONLY))
    assert tidy["sqlite_out_of_order_pages_ratio"] < 0.1
    assert tidy["sqlite_unused_bytes"] < scattered["sqlite_unused_bytes"]


def test_it_is_read_again_only_when_due(queue: prismq.Queue, raw: RawReader) -> None:
    target = Target("jobs", queue.path, limits=ROOMY, slow_interval=3600)
    first = poll_database(target, None, 1000.0, raw, only=ONLY)
    _scattered(queue)
    second = poll_database(target, first, 4599.0, raw, only=ONLY)
    assert second.readings["page_layout"] is first.readings["page_layout"]
    assert _values(second) == _values(first)
    third = poll_database(target, second, 4600.0, raw, only=ONLY)
    assert _values(third)["sqlite_unused_bytes"] > _values(first)["sqlite_unused_bytes"]
    assert poll_database(target, third, 900.0, raw, only=ONLY).readings["page_layout"].tried_at == 900.0, (
        "the clock was set back"
    )


def test_the_newest_proved_backup_is_read_instead_and_its_age_is_known(
    make_queue: Callable[..., prismq.Queue], raw: RawReader, tmp_path: Path
) -> None:
    (tmp_path / "app").mkdir()
    queue = make_queue("app/queue.db")
    target = Target("jobs", queue.path, backup=BackupSettings(tmp_path / "b"), limits=Limits(read_wal=0.000_001))
    _backup(target, queue.owner, 500.0)
    _scattered(queue)
    newest = _backup(target, queue.owner, 600.0)
    _backup(target, queue.owner, 700.0, verified_time=None)
    before = set(newest.parent.iterdir())
    snapshot = poll_database(target, None, 1000.0, raw, only=ONLY)
    reading = snapshot.readings["page_layout"]
    assert (reading.source, reading.as_of) == ("backup", 600.0)
    assert _values(snapshot)["sqlite_unused_bytes"] == queue.value("SELECT sum(unused) FROM dbstat")
    assert set(newest.parent.iterdir()) == before
    queue.owner.close()
    assert poll_database(target, None, 1000.0, raw, only=ONLY).collectors["page_layout"].success, (
        "also while its owner is down"
    )


@pytest.mark.parametrize(("journal_mode", "budget"), [("wal", "read_wal"), ("delete", "read_rollback")])
def test_a_live_file_beyond_the_budget_is_left_alone(
    make_queue: Callable[..., prismq.Queue], raw: RawReader, journal_mode: str, budget: str
) -> None:
    queue = make_queue(journal_mode=journal_mode)
    size = queue.path.stat().st_size
    just = size / page_layout.BYTES_PER_SECOND
    for limit, source in ((just * 0.9, "none"), (30.0, "live")):
        limits = replace(Limits(read_wal=30, read_rollback=30), **{budget: limit})
        reading = page_layout.read(_look(Target("jobs", queue.path, limits=limits), queue, raw, journal_mode), None)
        assert reading.source == source
        assert (list(page_layout.samples(reading)) == []) == (source == "none")


def _look(target: Target, queue: prismq.Queue, raw: RawReader, journal_mode: str) -> page_layout.PollContext:
    return page_layout.PollContext(target, 1000.0, raw, raw.read_database_header(queue.path), queue.owner)


def test_a_failed_try_is_told_until_the_next_and_not_repeated_before(
    queue: prismq.Queue, raw: RawReader, tmp_path: Path
) -> None:
    target = Target("jobs", queue.path, backup=BackupSettings(tmp_path / "b"), limits=ROOMY, slow_interval=3600)
    _scattered(queue)
    path = _backup(target, queue.owner, 500.0)
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))
    first = poll_database(target, None, 1000.0, raw, only=ONLY)
    path.write_bytes(whole)
    second = poll_database(target, first, 2000.0, raw, only=ONLY)
    third = poll_database(target, second, 4601.0, raw, only=ONLY)
    assert [s.collectors["page_layout"].success for s in (first, second, third)] == [False, False, True]
    assert [s.collectors["page_layout"].reason for s in (first, second)] == ["corrupt", "corrupt"]
    assert [len(s.samples) for s in (first, second, third)] == [0, 0, 2]


def test_reading_a_large_backup_is_stopped_in_time(
    queue: prismq.Queue, raw: RawReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_layout, "BACKUP_LIMIT", 0.0005)
    with queue.owner:
        queue.owner.execute("CREATE TABLE b (x)")
        queue.owner.execute("INSERT INTO b VALUES (zeroblob(60000000))")
        queue.owner.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 90000) "
            "INSERT INTO b SELECT randomblob(300) FROM n"
        ).fetchall()
    target = Target("jobs", queue.path, backup=BackupSettings(tmp_path / "b"), limits=ROOMY)
    _backup(target, queue.owner, 500.0)
    result = poll_database(target, None, 1000.0, raw, only=ONLY).collectors["page_layout"]
    assert (result.success, result.reason) == (False, "timeout")
