"""`queuekeeper` as it is installed from the wheel, imported by a script that lies beside an `actions.py` of its own."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.checks.documents import fenced_blocks
from tests.support.scenes import prismq

ROOT = Path(__file__).parents[2]
OWN_ACTIONS = """\
raise SystemExit("the application's own actions.py was imported by queuekeeper")
"""
SCRIPT = """\
import sys
from queuekeeper import BackupInfo, QueueBackup, QueueMaintenance, QueueMaintenanceError

light = {name.partition(".")[0] for name in sys.modules}
heavy = light & {"apsw", "pydantic", "yaml", "click", "actions", "collectors", "exporter"}
assert not heavy, heavy

path, state = sys.argv[1:]
maintenance = QueueMaintenance(path, owner_sqlite="3.51.3", state=state)
result = maintenance.checkpoint(QueueMaintenance.CHECKPOINT_TRUNCATE)
assert (result.busy, result.log) == (0, 0), result
assert maintenance.get_database_stats().wal_mode
assert maintenance.integrity_check() == ["ok"]
backups = QueueBackup(path, state=state)
created = backups.create_backup("first")
assert backups.verify_backup(created)
assert [backup.path for backup in backups.list_backups()] == [created]
assert BackupInfo.from_path(created) == backups.get_latest_backup()
try:
    maintenance.analyze("no_such_table")
except QueueMaintenanceError as error:
    assert "there is no table no_such_table" in str(error), error

from actions import python_api_is_not_here
"""
TYPED = """\
from queuekeeper import QueueBackup, QueueMaintenance

maintenance = QueueMaintenance("queue.db")
reveal_type(maintenance.get_database_stats())
reveal_type(QueueBackup("queue.db").list_backups())
requeued: str = maintenance.cleanup_stale_leases()
maintenance.checkpoint(mode=1)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment: the wheel, and the dependencies of the environment that runs the tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    install = ["--quiet", "install", "--no-index", "--no-deps", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    dependencies = next(place for place in sys.path if (Path(place) / "apsw").is_dir())
    (packages / "dependencies.pth").write_text(dependencies + "\n")
    return python


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MYPY"))}


def test_the_wheel_holds_the_marker_for_type_checkers(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"queuekeeper/__init__.py", "queuekeeper/py.typed", "actions/python_api/child.py"} <= set(names)


def test_a_script_beside_its_own_actions_module_is_not_disturbed(
    python: Path, queue: prismq.Queue, tmp_path: Path
) -> None:
    queue.put(number=10)
    queue.fill_wal(50)
    application = tmp_path / "application"
    application.mkdir()
    (application / "actions.py").write_text(OWN_ACTIONS)
    (application / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [str(python), "script.py", str(queue.path), str(tmp_path / "state")],
        cwd=application,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.stderr == OWN_ACTIONS.partition('"')[2].partition('"')[0] + "\n", "it came to the last line, no further"


def test_the_documented_example_runs(python: Path, queue: prismq.Queue, tmp_path: Path) -> None:
    queue.put(number=10)
    (example,) = (block.text for block in fenced_blocks(ROOT / "docs" / "python.md") if block.tag == "python")
    text = example.replace("/var/lib/app/queue.db", str(queue.path)).replace("/var/backups", str(tmp_path / "backups"))
    (tmp_path / "example.py").write_text(text)
    done = subprocess.run(
        [str(python), "example.py"],
        cwd=tmp_path,
        env={**environment(), "XDG_STATE_HOME": str(tmp_path / "state")},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "0 0 0"
    assert "0 tasks requeued" in done.stdout


def test_a_type_checker_sees_the_types(python: Path, tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, "--python-executable", str(python)]
    checked = subprocess.run([*command, "typed.py"], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert checked.stdout.count("error:") == 2, checked.stdout + checked.stderr
    assert 'Revealed type is "queuekeeper.maintenance.DatabaseStats"' in checked.stdout
    assert 'list[queuekeeper.backup.BackupInfo]"' in checked.stdout
    assert "typed.py:6: error: Incompatible types in assignment" in checked.stdout
    assert 'typed.py:7: error: Argument "mode" to "checkpoint" of "QueueMaintenance"' in checked.stdout
