"""What deploy/ and grafana/operator/ ship fits together, and says what the documents say of it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose

from tests.support.checks.documents import ROOT, parse_command
from tests.support.real.real_parts import run

FILE = ROOT / "deploy" / "compose.yaml"
COMPOSE = yaml.safe_load(FILE.read_text())


def refused(text: str) -> str:
    """What the Compose specification has against it: the first thing, or nothing."""
    try:
        PyCompose.from_yaml(text).validate()
    except ValueError as error:
        return str(error)
    return ""


def test_compose_is_what_its_specification_says() -> None:
    assert refused(FILE.read_text()) == ""


@pytest.mark.parametrize(
    ("part", "broken", "expected"),
    [
        ("restart: unless-stopped", "restrat: unless-stopped", "restrat"),
        ("cap_drop: [ALL]", "cap_drop: {all: yes}", "cap_drop"),
        ("secrets: [token]", "secrets: [tokens]", "tokens"),
    ],
)
def test_a_compose_file_broken_on_purpose_is_refused(part: str, broken: str, expected: str) -> None:
    text = FILE.read_text()
    assert part in text
    assert expected in refused(text.replace(part, broken))


def test_compose_names_services_that_are_there_and_opens_nothing_but_loopback() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
        assert service.get("pid", "service:application").removeprefix("service:") in services
        assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service.get("ports", ()))


def test_compose_mounts_files_that_are_there_and_volumes_that_are_declared() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / "deploy" / source).resolve().exists(), source
            else:
                assert source in COMPOSE["volumes"]


def test_queuekeeper_runs_as_the_application_and_sees_its_processes() -> None:
    application, keeper = (COMPOSE["services"][name] for name in ("application", "queuekeeper"))
    assert keeper["user"] == application["user"]
    assert keeper["pid"] == "service:application"
    assert keeper["read_only"]
    assert keeper["cap_drop"] == ["ALL"]


def test_the_application_of_compose_creates_its_queue(tmp_path: Path) -> None:
    """The code in its command is run as it is written there, on a folder of the test."""
    (code,) = re.findall(r'python -c "(.+)"', COMPOSE["services"]["application"]["command"][0])
    assert "'/queue/jobs.db'" in code
    code = code.replace("/queue/jobs.db", str(tmp_path / "jobs.db"))
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "jobs.db").stat().st_size > 0


def test_its_configuration_loads(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("the-token-of-compose-yaml\n")
    token.chmod(0o600)
    file = tmp_path / "queuekeeper.yaml"
    shipped = (ROOT / "deploy" / "queuekeeper.yaml").read_text()
    assert "/run/secrets/token" in shipped
    file.write_text(shipped.replace("/run/secrets/token", str(token)))
    result = subprocess.run(
        [sys.executable, "-m", "exporter.commands", "config", "check", str(file)], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "acting is enabled" in result.stdout


@pytest.mark.real
def test_the_parts_around_it_load(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "grafana" / "alerts", tmp_path / "alerts")
    shutil.copy(ROOT / "deploy" / "prometheus.yml", tmp_path)
    result = run("promtool", "check", "config", tmp_path / "prometheus.yml")
    assert result.returncode == 0, result.stdout
    newer = (ROOT / "deploy" / "alertmanager.yml").read_text()
    assert "timeout: 5s" in newer
    (tmp_path / "alertmanager.yml").write_text(newer.replace("        timeout: 5s\n", ""))
    result = run("amtool", "check-config", tmp_path / "alertmanager.yml")
    assert result.returncode == 0, result.stdout


def test_the_image_does_not_run_as_root_and_installs_what_is_locked() -> None:
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    instructions = [line.split()[0] for line in lines if re.match(r"[A-Z]+ ", line)]
    assert instructions[0] == "FROM"
    assert set(instructions) <= {"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "EXPOSE", "VOLUME", "HEALTHCHECK",
                                 "ENTRYPOINT", "CMD"}  # fmt: skip
    assert "USER 10001" in lines
    assert "--require-hashes" in "\n".join(lines)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY") and "--from" not in line]
    assert all(f"!{name}" in ignored for names in copied for name in names)
    entry = [json.loads(line.partition(" ")[2]) for line in lines if re.match(r"ENTRYPOINT|CMD", line)]
    parse_command(" ".join(word for words in entry for word in words))


def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    unit = (ROOT / "deploy" / "queuekeeper.service").read_text()
    assert re.findall(r"^\[(\w+)\]$", unit, re.MULTILINE) == ["Unit", "Service", "Install"]
    assert "/usr/local/bin/queuekeeper serve" in unit
    if shutil.which("systemd-analyze") is None:
        return
    (tmp_path / "queuekeeper.service").write_text(unit.replace("/usr/local/bin/queuekeeper", "/bin/true"))
    line = ["systemd-analyze", "verify", str(tmp_path / "queuekeeper.service")]
    found = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_the_unit_may_write_to_nothing_but_queues_and_backups() -> None:
    unit = (ROOT / "deploy" / "queuekeeper.service").read_text().splitlines()
    assert "ProtectSystem=strict" in unit
    assert "ReadWritePaths=/var/lib/app /var/backups/queues" in unit
    assert "NoNewPrivileges=yes" in unit
    assert "CapabilityBoundingSet=" in unit


def test_the_operators_forms_fit_each_other() -> None:
    monitor = yaml.safe_load((ROOT / "grafana" / "operator" / "servicemonitor.yaml").read_text())
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "ServiceMonitor")
    label = monitor["spec"]["jobLabel"]
    assert monitor["spec"]["selector"]["matchLabels"][label] == "queuekeeper"
