"""Commands in the README and the runbook work as they are written; files and sections that documents name exist."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from actions.registry import ACTIONS
from exporter.alert_rules.catalogue import all_alerts
from exporter.commands.main import main
from tests.support.checks.documents import (
    LOOKED_AT,
    ROOT,
    Block,
    commands_in_sentences,
    fenced_blocks,
    heading_anchors,
    is_known_command,
    link_targets,
    parse_command,
)
from tests.support.real.real_parts import run
from tests.support.scenes.documented_machine import Machine, machine_with_a_queue, serving

TYPED = [ROOT / "README.md", ROOT / "docs" / "runbook.md", ROOT / "docs" / "install.md"]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "bench/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCKS = [block for file in TYPED for block in fenced_blocks(file)]
# Commands that are also in a block, which is run as a whole.
IN_BLOCKS = {line.partition("#")[0].strip() for block in BLOCKS for line in block.text.splitlines()}
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b|\.\.\.|[|\[]")
SENTENCES = [
    each
    for file in TYPED[:2]
    for each in commands_in_sentences(file)
    if each not in IN_BLOCKS and not PLACEHOLDER.search(each)
]
CONFIG = """\
databases:
  - name: jobs
    path: /var/lib/app/queue.db
    owner_sqlite: 3.51.3
    backup: {directory: /var/backups/queues}
state: /var/lib/queuekeeper
"""
# Programs that blocks which are only parsed may name.
ELSEWHERE = {
    "make", "pipx", "uv", "python3", "ln", "install", "cp", "systemctl", "journalctl", "docker", "openssl", "chmod", "sudo",
    "kubectl", "queuekeeper", "chown", "/opt/queuekeeper/bin/pip",
}  # fmt: skip


def blocks_tagged(*tags: str) -> list[Block]:
    """Returns the blocks with one of these tags."""
    return [block for block in BLOCKS if block.tag in tags]


def parameter_id(value: object) -> str:
    """Names a test after its block or command."""
    return value.where if isinstance(value, Block) else str(value)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with a live queue, a stale lease, a configuration and a backup."""
    with machine_with_a_queue(tmp_path_factory.mktemp("machine")) as made:
        (made.folder / "etc/queuekeeper/queuekeeper.yaml").write_text(made.here(CONFIG))
        first = made.run("queuekeeper backup jobs", **configured(made))
        assert first.returncode == 0, first.stderr
        yield made


def configured(machine: Machine) -> dict[str, str]:
    """Returns the environment that the runbook's first block sets."""
    return {"QUEUEKEEPER_CONFIG": machine.here("/etc/queuekeeper/queuekeeper.yaml")}


def invoke_command(machine: Machine, command: str) -> Result:
    """Runs a queuekeeper command in this process: starting an interpreter for each takes longer than all of them."""
    environment = {**machine.environment, **configured(machine)}
    return CliRunner(env=environment).invoke(main, shlex.split(machine.here(command))[1:])


class TestWhatPeopleType:
    @pytest.mark.real
    @pytest.mark.parametrize("block", blocks_tagged("sh"), ids=parameter_id)
    def test_a_block_runs_as_it_is_written(self, machine: Machine, block: Block) -> None:
        result = machine.run(block.text, **({} if block.file.name == "README.md" else configured(machine)))
        assert result.returncode == 0, result.stdout + result.stderr
        if "config example >" in block.text:  # "Edit the paths in it"
            machine.edit(machine.folder / "work" / "queuekeeper.yaml")

    @pytest.mark.parametrize(
        "command", dict.fromkeys(each for each in SENTENCES if is_known_command(each)), ids=parameter_id
    )
    def test_a_command_in_a_sentence_does_what_the_sentence_says(self, machine: Machine, command: str) -> None:
        result = invoke_command(machine, command)
        if command == "queuekeeper pause":
            invoke_command(machine, "queuekeeper resume")
        assert result.exit_code == 0, f"exit {result.exit_code}: {result.output}"

    def test_a_service_starts_and_answers_what_is_typed_beside_it(self, machine: Machine) -> None:
        (service,) = blocks_tagged("sh service")
        with serving(machine, service.text):
            answers = {block.where: machine.run(block.text) for block in blocks_tagged("sh agent")}
        assert {name: each.stderr for name, each in answers.items() if each.returncode != 0} == {}
        assert all(each.stdout for each in answers.values())


class TestWhatIsOnlyLookedAt:
    @pytest.mark.parametrize("block", blocks_tagged(*(f"sh {word}" for word in LOOKED_AT)), ids=parameter_id)
    def test_it_is_a_script_of_real_commands_and_of_files_that_are_there(self, block: Block) -> None:
        assert subprocess.run(["bash", "-n"], input=block.text, text=True, check=False).returncode == 0
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for command in _commands(words):
                assert command in ELSEWHERE, command
            for word in words:
                if re.match(r"(deploy|grafana)/", word) and word != "deploy/token":
                    assert (ROOT / word).exists(), word
        for target in re.findall(r"^make (\w+)", block.text, re.MULTILINE):
            assert f"\n{target}:" in (ROOT / "Makefile").read_text()

    def test_every_block_says_how_it_can_be_tried(self) -> None:
        known = {"sh", "sh service", "sh agent", "text", "promql", "yaml prometheus", "yaml alertmanager"}
        known |= {f"sh {word}" for word in LOOKED_AT}
        assert [f"{block.where}: {block.tag}" for block in BLOCKS if block.tag not in known] == []

    @pytest.mark.real
    @pytest.mark.parametrize("block", blocks_tagged("yaml prometheus"), ids=parameter_id)
    def test_a_part_of_prometheus_loads(self, block: Block, tmp_path: Path) -> None:
        (tmp_path / "prometheus.yml").write_text(block.text)
        for name in yaml.safe_load(block.text)["rule_files"]:
            shutil.copy(ROOT / "grafana" / "alerts" / "queuekeeper.yaml", tmp_path / name)
        result = run("promtool", "check", "config", tmp_path / "prometheus.yml")
        assert result.returncode == 0, result.stdout

    @pytest.mark.real
    @pytest.mark.parametrize("block", blocks_tagged("yaml alertmanager"), ids=parameter_id)
    def test_a_part_of_alertmanager_loads_and_is_in_the_whole_example(self, block: Block, tmp_path: Path) -> None:
        (tmp_path / "alertmanager.yml").write_text(block.text)
        result = run("amtool", "check-config", tmp_path / "alertmanager.yml")
        assert result.returncode == 0, result.stdout
        part, whole = (yaml.safe_load(text) for text in (block.text, (ROOT / "grafana/alertmanager.yml").read_text()))
        assert part["route"]["routes"] == whole["route"]["routes"]

    @pytest.mark.parametrize("block", blocks_tagged("promql"), ids=parameter_id)
    def test_a_query_is_promql_over_metrics_that_exist(self, block: Block) -> None:
        from collectors.registry import COLLECTORS
        from exporter.exposition.self_metrics import METRICS
        from tests.support.checks.dashboard_check import metrics_used

        declared = {metric.name for collector in COLLECTORS for metric in collector.METRICS}
        declared |= {metric.name for metric in METRICS} | {"up", "ALERTS"}
        for line in block.text.splitlines():
            assert metrics_used(line) <= declared


def _commands(words: list[str]) -> Iterator[str]:
    """Yields the first word of a line, and the words after `&&` and `sudo`."""
    first = True
    for word in words:
        if first and "=" not in word:
            yield word
        first = word in {"&&", "sudo"}


class TestWhatDocumentsPointAt:
    @pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
    def test_links_lead_to_files_and_sections_that_are_there(self, file: Path) -> None:
        missing = []
        for link in link_targets(file):
            path, _, anchor = link.partition("#")
            if "://" in path:
                continue
            target = (file.parent / path).resolve() if path else file
            if not target.exists() or (anchor and target.suffix == ".md" and anchor not in heading_anchors(target)):
                missing.append(link)
        assert missing == []

    def test_sections_of_the_runbook_that_the_code_names_are_there(self) -> None:
        packages = [ROOT / name for name in ("actions", "collectors", "exporter", "grafana")]
        files = [file for package in packages for file in package.rglob("*.py") if "node_modules" not in str(file)]
        named = {anchor for file in files for anchor in re.findall(r"docs/runbook\.md#([a-z-]+)", file.read_text())}
        assert named
        assert named <= heading_anchors(ROOT / "docs" / "runbook.md")

    def test_the_readme_counts_the_alerts(self) -> None:
        assert f"[{len(all_alerts())} alerts]" in (ROOT / "README.md").read_text()

    def test_tests_that_the_readme_names_are_there(self) -> None:
        named = re.findall(r"`(tests/[\w/]+\.py)`", (ROOT / "README.md").read_text())
        assert len(named) > 8
        assert [name for name in named if not (ROOT / name).exists()] == []

    @pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
    def test_files_of_the_tree_that_a_document_names_are_there(self, file: Path) -> None:
        named = re.findall(r"`((?:\w+/)+[\w.-]+\.\w+)`", file.read_text())
        ours = [name for name in named if name.partition("/")[0] in {folder.name for folder in ROOT.iterdir()}]
        assert [name for name in ours if name != "deploy/token" and not (ROOT / name).exists()] == []

    def test_the_index_names_every_document(self) -> None:
        index = {link.partition("#")[0] for link in link_targets(ROOT / "docs" / "README.md")}
        documents = {file.name for file in (ROOT / "docs").glob("*.md")} - {"README.md"}
        assert documents - index == set()

    def test_commands_that_documents_name_take_the_options_they_name(self) -> None:
        """All documents, and also commands that would change something: parsed, not run."""
        for file in DOCUMENTS:
            for command in commands_in_sentences(file):
                if is_known_command(command) and not PLACEHOLDER.search(command):
                    parse_command(command)


class TestTheRunbook:
    @pytest.mark.parametrize("name", ACTIONS)
    def test_it_says_when_to_type_the_command_of_each_action(self, name: str) -> None:
        runbook = (ROOT / "docs" / "runbook.md").read_text()
        assert re.search(rf"queuekeeper {ACTIONS[name].SPEC.command}\b", runbook), (
            "a procedure in docs/runbook.md is missing"
        )

    SECTIONS = re.split(r"^## ", (ROOT / "docs" / "runbook.md").read_text(), flags=re.MULTILINE)[1:]

    @pytest.mark.parametrize("section", [s for s in SECTIONS if s.startswith("Queue")], ids=lambda s: s.split()[0])
    def test_a_section_has_the_five_parts_in_order(self, section: str) -> None:
        parts = re.findall(r"^\*\*(\w[\w ]+)\.?\*\*", section, re.MULTILINE)
        assert parts == ["Means", "Look", "By itself", "By hand", "Leave it"]
