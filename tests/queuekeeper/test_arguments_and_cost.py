"""What a caller may give wrongly is an error of the API in one sentence; what only reads starts light, or no process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from actions.store.database import history_file
from collectors.backup_catalog.names import backup_file_name, compressed_name, manifest_name
from queuekeeper import BackupInfo, QueueBackup, QueueBackupError, QueueMaintenance, QueueMaintenanceError, child_call
from queuekeeper.child_call import DatabaseReference
from tests.support.scenes import prismq

HEAVY = (
    "pydantic",
    "yaml",
    "collectors.registry",
    "collectors.poll",
    "actions.runner",
    "actions.store",
    "actions.policy",
)
Call = Callable[[Any], object]


@pytest.fixture
def maintenance(queue: prismq.Queue, tmp_path: Path) -> QueueMaintenance:
    return QueueMaintenance(queue.path, state=tmp_path / "state")


@pytest.fixture
def backups(queue: prismq.Queue, tmp_path: Path) -> QueueBackup:
    return QueueBackup(queue.path, tmp_path / "backups", state=tmp_path / "state")


@pytest.mark.parametrize(
    "call",
    [
        lambda api: api.checkpoint(None),
        lambda api: api.analyze(Path("x")),
        lambda api: api.analyze(b"x"),
        lambda api: api.analyze("\udcff"),
        lambda api: api.cleanup_stale_leases(float("nan")),
        lambda api: api.cleanup_stale_leases(float("inf")),
        lambda api: api.cleanup_stale_leases(object()),
        lambda _: QueueMaintenance(None),
        lambda _: QueueMaintenance("a\0b"),
        lambda _: QueueMaintenance("x" * 5000),
        lambda _: QueueMaintenance(__file__, state=5),
        lambda _: QueueMaintenance(__file__, owner_sqlite=Path("3.51.3")).get_database_stats(),
    ],
)
def test_a_wrong_argument_of_maintenance_is_its_error(
    maintenance: QueueMaintenance, tmp_path: Path, call: Call
) -> None:
    with pytest.raises(QueueMaintenanceError) as raised:
        call(maintenance)
    assert "\n" not in str(raised.value)
    assert "ended early" not in str(raised.value)
    assert not history_file(tmp_path / "state").exists()


@pytest.mark.parametrize(
    "call",
    [
        lambda api: api.create_backup(Path("x")),
        lambda api: api.create_backup("\udcff"),
        lambda api: api.verify_backup(None),
        lambda api: api.verify_backup("a\0b"),
        lambda api: api.restore_backup(3),
        lambda api: api.restore_backup("x", 3),
        lambda api: api.cleanup_old_backups("3"),
        lambda api: api.cleanup_old_backups(None),
        lambda _: BackupInfo.from_path(None),
        lambda _: BackupInfo.from_path("a\0b"),
        lambda _: QueueBackup(object()),
        lambda _: QueueBackup(__file__, backup_dir=5),
        lambda _: QueueBackup(__file__, backup_dir="a\0b"),
    ],
)
def test_a_wrong_argument_of_backups_is_their_error(backups: QueueBackup, tmp_path: Path, call: Call) -> None:
    with pytest.raises(QueueBackupError) as raised:
        call(backups)
    assert "\n" not in str(raised.value)
    assert "ended early" not in str(raised.value)
    assert not history_file(tmp_path / "state").exists()


def test_a_path_that_is_not_utf8_is_refused_before_anything_is_recorded(queue: prismq.Queue, tmp_path: Path) -> None:
    queue.owner.close()
    path = Path(os.fsdecode(os.fsencode(queue.path.parent) + b"/\xff.db"))
    try:
        queue.path.rename(path)
    except OSError:
        pytest.skip("this file system takes no such name")
    maintenance = QueueMaintenance(path, state=tmp_path / "state")
    for call in (maintenance.vacuum, maintenance.analyze, maintenance.integrity_check, maintenance.checkpoint):
        with pytest.raises(QueueMaintenanceError, match=r"\\udcff.db' is not UTF-8, .*rename it; nothing was done"):
            call()
    assert not history_file(tmp_path / "state").exists()
    assert maintenance.get_database_stats().page_size == 4096  # reading records nothing


@pytest.mark.parametrize("what", ["stats", "backups"])
def test_an_answer_that_only_reads_loads_no_collector_no_history_and_no_pydantic(
    queue: prismq.Queue, backups: QueueBackup, tmp_path: Path, what: str
) -> None:
    backups.create_backup()
    reference = DatabaseReference(queue.path, tmp_path / "state", backup_directory=tmp_path / "backups")
    code = (
        "import json, sys; from actions.python_api.child import ANSWERS;"
        "answer = ANSWERS[sys.argv[1]](json.loads(sys.argv[2])); assert 'error' not in answer, answer;"
        f"print(answer, [name for name in {HEAVY} if name in sys.modules], file=sys.stderr);"
        f"sys.exit(any(name in sys.modules for name in {HEAVY}))"
    )
    command = [sys.executable, "-I", "-c", code, what, json.dumps(reference.as_fields())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_time_of_one_backup_is_read_without_a_process(
    backups: QueueBackup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = time.time()
    backup = backups.create_backup("label")
    listed = backups.list_backups()[0]
    monkeypatch.setattr(child_call.subprocess, "Popen", None)
    assert BackupInfo.from_path(backup) == listed
    assert before <= listed.created_at.timestamp() <= time.time()
    for name in (backup_file_name("jobs", "", 5.0), compressed_name(backup_file_name("jobs", "x.db", 5.0))):
        (tmp_path / name).touch()
        (tmp_path / manifest_name(name)).write_text('{"snapshot_time": 86400}')
        assert BackupInfo.from_path(str(tmp_path / name)).created_at == datetime(1970, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "{" * 100_000, '{"snapshot_time": true}', '{"snapshot_time": NaN}'),
        *('{"snapshot_time": 1e300}', '{"snapshot_time": -1}', '{"snapshot_time": 5, "format": 2}'),
    ],
)
def test_without_a_readable_manifest_the_time_of_the_file_counts(tmp_path: Path, text: str) -> None:
    backup = tmp_path / "copy.db"
    backup.touch()
    os.utime(backup, (1000, 1000))
    (tmp_path / manifest_name(backup.name)).write_text(text)
    assert BackupInfo.from_path(backup).created_at.timestamp() == 1000
