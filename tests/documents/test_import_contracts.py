"""The import contracts hold, and each of the decisive ones fails on a planted violation."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from actions.registry import action_names
from collectors.registry import COLLECTORS
from tests.support.checks.import_contracts import action_modules, collector_modules

ROOT = Path(__file__).parents[2]
PACKAGES = ("exporter", "actions", "collectors", "queuekeeper")


def run_lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--config", ".importlinter", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    shutil.copytree(ROOT / "tests" / "support" / "checks", tmp_path / "tests" / "support" / "checks")
    return tmp_path


def test_the_contracts_hold() -> None:
    done = run_lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("collectors/wal.py", "import actions.model.outcome", "The agent drives actions"),
        ("actions/model/stop.py", "import actions.runner.spawn", "Inside actions"),
        ("collectors/access/context.py", "import collectors.wal", "Inside collectors"),
        ("collectors/disk.py", "import collectors.storage", "Inside collectors"),
        ("exporter/exposition/latest.py", "import exporter.agent", "Inside the exporter"),
        ("actions/verify.py", "import click", "Only the exporter imports"),
        ("queuekeeper/backup.py", "import actions.model.outcome", "The agent drives actions"),
        ("queuekeeper/maintenance.py", "import apsw", "The public Python API is light"),
        ("actions/policy/effect.py", "import time", "Decisions are pure"),
        ("collectors/disk.py", "import sqlite3", "One SQLite library"),
        ("collectors/raw_reader/formats.py", "import apsw", "The raw reader imports no SQLite"),
        ("exporter/agent.py", "import actions.requeue", "actions by the registry"),
        ("exporter/triggers/dispatcher.py", "import actions.registry", "the registry by the runner"),
        ("exporter/demo/stage.py", "import actions.sqlite.connection", "Only actions open a database for change"),
    ],
)
def test_a_planted_violation_is_found(copy: Path, file: str, line: str, broken: str) -> None:
    place = copy / file
    place.write_text(place.read_text() + f"\n{line}\n")
    done = run_lint_imports(copy)
    assert done.returncode != 0
    failed = [text for text in done.stdout.splitlines() if text.endswith("BROKEN")]
    assert any(broken in text for text in failed), done.stdout


def test_every_action_is_bound_by_the_contracts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert action_modules() == [f"actions.{name}" for name in action_names()]


def test_every_collector_is_bound_by_the_contracts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert collector_modules() == sorted(f"collectors.{collector.NAME}" for collector in COLLECTORS)
