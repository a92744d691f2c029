"""Acting is never enabled on an address that others reach while no caller is allowed to act."""

import subprocess
import sys
from pathlib import Path

import pytest

from exporter.agent import Agent
from exporter.config.exposure import exposure_problem, is_loopback
from exporter.config.load import known_actions, known_metrics, load_config
from exporter.config.settings import ActingSettings
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import prismq

OPEN = ActingSettings(enabled=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost", "", "/run/qk.sock"])
def test_these_only_this_machine_reaches(host: str) -> None:
    assert is_loopback(host)
    assert exposure_problem(OPEN, [host]) is None


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "192.168.1.5", "fe80::1%eth0", "::ffff:10.0.0.1", "example"]
)
def test_these_others_reach(host: str) -> None:
    assert not is_loopback(host)
    problem = exposure_problem(OPEN, ["127.0.0.1", host])
    assert problem is not None
    assert f"it listens on {host}" in problem
    assert "actions.allow.token_files" in problem


@pytest.mark.parametrize(
    "acting",
    [
        ActingSettings(),
        ActingSettings(enabled=True, token_digests=(b"x",)),
        ActingSettings(enabled=True, users=("ann",)),
        ActingSettings(enabled=True, client_sans=("am.example",)),
    ],
)
def test_without_acting_or_with_an_allowed_caller_it_may_be_reached(acting: ActingSettings) -> None:
    assert exposure_problem(acting, ["0.0.0.0"]) is None


@pytest.fixture
def config(queue: prismq.Queue) -> Path:
    file = queue.path.parent / "queuekeeper.yaml"
    file.write_text(f"databases: [{{path: {queue.path}}}]\nactions: {{enabled: true}}\nstate: state\n")
    return file


def serve(config: Path, address: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "exporter.commands", "serve", f"--config.file={config}"]
    return subprocess.run(
        [*command, f"--web.listen-address={address}"], capture_output=True, text=True, check=False, timeout=LONGEST_WAIT
    )


def test_such_a_start_is_refused_with_the_cure(config: Path) -> None:
    done = serve(config, "0.0.0.0:0")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: acting is enabled, it listens on 0.0.0.0, and no caller is allowed to act")
    assert len(done.stderr.splitlines()) == 1


def test_a_reload_cannot_make_it_so_either(config: Path) -> None:
    enabled = config.read_text()
    config.write_text(enabled.replace("true", "false"))
    agent = Agent(load_config(config, known_actions(), known_metrics()), hosts=("0.0.0.0",))
    config.write_text(enabled)
    (reason,) = agent.reload_configuration()
    assert "no caller is allowed to act" in reason
    assert not agent.web_context.acting_rights().enabled
