"""Pages that only the application can complete: SQLite's checksum VFS, in a real application of its own process."""

import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import apsw.sqlite_extra
import pytest

from actions.backups.page_checksum import page_checksum
from actions.model.outcome import Outcome
from collectors.target import BackupSettings, Target
from tests.support.scenes.run_actions import by_hand, target_of

# The application: makes a queue with page checksums, or reads all of one and tells how many rows it has.
APPLICATION = """
import sys, apsw, apsw.sqlite_extra
apsw.sqlite_extra.load(apsw.Connection(":memory:"), "cksumvfs")
verb, path, journal, schema = sys.argv[1:]
database = apsw.Connection(path, vfs="cksmvfs")
if verb == "make":
    database.pragma("journal_mode", journal)
    database.reserve_bytes("main", 8)
    database.execute("VACUUM")
    database.execute(schema)
    for number in range(400):
        database.execute("INSERT INTO task_queue (type, status, lease_until_utc, locked_by) VALUES "
                         "('mail', 'leased', '2020-01-01 00:00:00', 'a:1')")
    print("ready", flush=True)
    sys.stdin.read()
else:
    assert database.execute("PRAGMA checksum_verification").get in (1, "1")
    print(database.execute("SELECT count(*) FROM task_queue").get, database.execute("PRAGMA integrity_check").get)
"""
pytestmark = pytest.mark.skipif(not apsw.sqlite_extra.has("cksumvfs"), reason="this apsw has no checksum VFS")


def _read_as_application(path: Path) -> str:
    command = [sys.executable, "-c", APPLICATION, "read", str(path), "", ""]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


@pytest.fixture(params=["wal", "delete"])
def checksummed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    from tests.support.scenes.prismq import SCHEMA

    path = tmp_path / "queue.db"
    command = [sys.executable, "-c", APPLICATION, "make", str(path), request.param, SCHEMA]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    yield target_of(path, backup=BackupSettings(tmp_path / "backups"))
    child.communicate()


@pytest.mark.parametrize(
    ("action", "options"),
    [
        ("requeue", {"workers_stopped": True}),
        ("checkpoint", {}),
        ("vacuum", {}),
        ("analyze", {}),
        ("optimize", {}),
        ("purge", {}),
        ("restore", {"in_place": True}),
    ],
)
def test_no_page_is_written_and_the_application_reads_on(
    checksummed: Target, action: str, options: dict[str, object]
) -> None:
    if action == "restore":
        assert by_hand(checksummed, "backup").outcome == Outcome.DONE
    run = by_hand(checksummed, action, **options)
    assert (run.outcome, run.reason) == (Outcome.REFUSED, "foreign_pages"), run.message
    assert "8 bytes" in run.message
    assert "the application do it" in run.next_step
    assert _read_as_application(checksummed.path) == "400 ok"


def test_a_backup_is_one_that_the_application_can_read(checksummed: Target, tmp_path: Path) -> None:
    run = by_hand(checksummed, "backup")
    assert run.outcome == Outcome.DONE, run.message
    assert _read_as_application(Path(str(run.figures["path"]))) == "400 ok"
    for action in ("verify", "drill", "integrity"):
        checked = by_hand(checksummed, action)
        assert checked.outcome == Outcome.DONE, (action, checked.message)
    back = tmp_path / "back.db"
    restored = by_hand(checksummed, "restore", to=str(back))
    assert restored.outcome == Outcome.DONE, restored.message
    assert _read_as_application(back) == "400 ok"


def test_a_write_of_ours_would_have_broken_it(checksummed: Target) -> None:
    """The fault itself: without the guard the application loses its database."""
    ours = apsw.Connection(str(checksummed.path))
    ours.execute("UPDATE task_queue SET status = 'queued' WHERE id < 5")
    ours.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    ours.close()
    assert "disk I/O error" in _read_as_application(checksummed.path)


def test_the_checksum_is_that_of_the_extension() -> None:
    assert page_checksum(struct.pack("<4I", 1, 2, 0, 0)) == struct.pack("<2I", 1, 3)
