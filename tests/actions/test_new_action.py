"""A new action is one new file: a throw-away one, put into a copy of the packages, is known everywhere at once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from actions.registry import ACTIONS, action_names

ROOT = Path(__file__).parents[2]
REINDEX = '''
"""Rebuilds the indexes of one table."""

from actions.model.context import ActionContext
from actions.model.options import ActionOption
from actions.model.plan import Done, Plan
from actions.spec import ActionSpec
from actions.sqlite.connection import open_writable

SPEC = ActionSpec(
    name="reindex",
    summary="Rebuild the indexes of a table.",
    options={
        "table": ActionOption("text", "Only this table."),
        "longest_hold": ActionOption("seconds", "How long a writer may wait.", example="2s"),
    },
    lane="long",
    needs_window=True,
)


def plan(work: ActionContext) -> Plan:
    """Which table."""
    return Plan(steps=(f"REINDEX {work.options['table']}",))


def run(work: ActionContext, plan: Plan) -> Done:
    """Rebuild."""
    with open_writable(work.target.path, 1.0) as connection:
        connection.execute(plan.steps[0])
    return Done("rebuilt")
'''
CONFIG = """
databases:
  - {path: jobs.db}
schedules:
  - {name: weekly, cron: "0 4 * * 0", do: reindex, options: {table: task, longest_hold: 2s}}
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    for part in ("exporter", "actions", "collectors", "queuekeeper", "tests/support/checks"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", folder)
    (folder / "actions" / "reindex.py").write_text(REINDEX.lstrip())
    (folder / "queuekeeper.yaml").write_text(CONFIG)
    return folder


def run(copy: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy), "COLUMNS": "200"}
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)


def queuekeeper(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(copy, sys.executable, "-m", "exporter.commands", *arguments)


def test_the_registry_has_it(copy: Path) -> None:
    code = (
        "from actions.registry import ACTIONS; action = ACTIONS['reindex'];"
        "print(action.SPEC.summary, len(ACTIONS), action.__file__)"
    )
    listed = run(copy, sys.executable, "-c", code)
    assert listed.stdout.startswith(f"Rebuild the indexes of a table. {len(ACTIONS) + 1} {copy}"), listed.stderr


def test_a_configuration_may_name_it_and_its_options(copy: Path) -> None:
    checked = queuekeeper(copy, "config", "check", "queuekeeper.yaml")
    assert checked.returncode == 0, checked.stderr
    assert "reindex runs automatically only inside a window, and none is configured" in checked.stdout + checked.stderr
    (copy / "wrong.yaml").write_text(CONFIG.replace("longest_hold: 2s", "longest_hold: high"))
    wrong = queuekeeper(copy, "config", "check", "wrong.yaml")
    assert wrong.returncode == 2
    assert "it is a time in seconds" in wrong.stderr + wrong.stdout


def test_the_command_line_has_it(copy: Path) -> None:
    assert "reindex" in queuekeeper(copy, "--help").stdout
    shown = queuekeeper(copy, "reindex", "--help").stdout
    assert "Rebuild the indexes of a table." in shown
    assert "--longest-hold 2s" in shown
    assert "--dry-run" in shown


def test_the_page_and_the_api_have_it(copy: Path) -> None:
    code = (
        "from exporter.page.words import ACTIONS; from actions.runner.manual import remote_actions;"
        "print(ACTIONS['reindex'], sorted(remote_actions()['reindex']))"
    )
    shown = run(copy, sys.executable, "-c", code)
    assert shown.stdout == "Rebuild the indexes of a table. ['longest_hold', 'table']\n", shown.stderr


def test_the_generated_documents_list_it(copy: Path) -> None:
    code = (
        "from exporter.reference.commands import commands_document; print(commands_document());"
        "from exporter.reference.configuration import configuration_document; print(configuration_document())"
    )
    documents = run(copy, sys.executable, "-c", code).stdout
    assert "## `queuekeeper reindex DB`" in documents
    assert "| `reindex` | inside its window | `table`: Only this table.<br>`longest_hold`: How long" in documents


def test_the_import_contracts_bind_it(copy: Path) -> None:
    lint = [str(Path(sys.executable).with_name("lint-imports")), "--config", ".importlinter", "--no-cache"]
    assert run(copy, *lint).returncode == 0
    place = copy / "exporter" / "agent.py"
    before = place.read_text()
    place.write_text(f"{before}\nimport actions.reindex\n")
    broken = run(copy, *lint)
    place.write_text(before)
    assert "Only the runner changes anything: actions by the registry BROKEN" in broken.stdout


@pytest.mark.parametrize("name", ACTIONS)
def test_every_action_names_itself_after_its_file_and_says_what_it_is(name: str) -> None:
    spec = ACTIONS[name].SPEC
    assert spec.name == name
    for sentence in (spec.summary, *(option.help for option in spec.options.values())):
        assert sentence[:1].isupper()
        assert sentence.endswith(".")


def test_every_flat_file_of_the_folder_is_an_action() -> None:
    files = {file.stem for file in (ROOT / "actions").glob("*.py")} - {"__init__", "registry", "spec"}
    assert files == set(ACTIONS)
    assert files == set(action_names())


STRAY_FILES = {
    "scratch.py": ("x = 1\n", "actions/scratch.py is left out: it has no SPEC"),
    "analyze2.py": ((ROOT / "actions" / "analyze.py").read_text(), 'left out: its SPEC has the name "analyze"'),
    "torn.py": ("def\n", "actions/torn.py is left out: it cannot be imported: SyntaxError"),
    "script.py": ("raise SystemExit(3)\n", "actions/script.py is left out: it cannot be imported: SystemExit: 3"),
    "half.py": (
        "from actions.spec import ActionSpec\n\nSPEC = ActionSpec(name='half', summary='Half.')\n",
        "actions/half.py is left out: it has no function plan",
    ),
}


@pytest.mark.parametrize(
    "arguments", [("--help",), ("vacuum", "--help"), ("backups", "--help"), ("config", "check", "queuekeeper.yaml")]
)
def test_a_stray_file_is_left_out_with_one_warning(
    copy: Path, request: pytest.FixtureRequest, arguments: tuple[str, ...]
) -> None:
    for name, (text, _) in {**STRAY_FILES, "analyze (copy).py": STRAY_FILES["analyze2.py"]}.items():
        (copy / "actions" / name).write_text(text)
        request.addfinalizer((copy / "actions" / name).unlink)
    done = queuekeeper(copy, *arguments)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "scratch" not in done.stdout
    listed = arguments == ("--help",)  # other commands import what they need: then there is nothing to warn of
    for _, warning in STRAY_FILES.values():
        assert done.stderr.count(warning) <= 1, done.stderr
        assert warning in done.stderr or not listed, done.stderr
