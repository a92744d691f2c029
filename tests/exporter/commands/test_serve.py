"""What `serve` and `hash-password` take and refuse, as processes."""

import subprocess
from pathlib import Path

import bcrypt
import pytest
from click.testing import CliRunner

from exporter.commands.main import main
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes.agent_process import COMMAND

CONFIG = "databases: [{name: jobs, path: jobs.db}]\nstate: state\n"


def run(*words: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=LONGEST_WAIT)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "queuekeeper.yaml").write_text(CONFIG)
    return tmp_path / "queuekeeper.yaml"


def test_a_password_becomes_a_hash_that_it_fits() -> None:
    done = run("hash-password", "--cost=4", text="correct horse\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert bcrypt.checkpw(b"correct horse", done.stdout.strip().encode())
    assert "correct" not in done.stdout


@pytest.mark.parametrize("text", ["", "\n", "x" * 73, "a\0b"])
def test_what_cannot_be_a_password_is_refused(text: str) -> None:
    done = CliRunner().invoke(main, ["hash-password"], input=text)
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)


REFUSED = {
    "a web configuration that is not there": (["--web.config.file=none.yml"], 2, "none.yml: cannot be read"),
    "an external URL that is none": (["--web.external-url=ops"], 2, "write http://HOST/PATH"),
    "a prefix that is none": (["--web.route-prefix=/a?b"], 2, "is not a path"),
    "no sockets of systemd's": (["--web.systemd-socket"], 1, "no socket was passed on"),
    "an address that is none": (["--web.listen-address=vsock://:9977"], 1, "is not an address"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_serve_cannot_use_is_one_line(config: Path, case: str) -> None:
    words, code, message = REFUSED[case]
    done = run("serve", f"--config.file={config}", *words)
    assert (done.returncode, message in done.stderr, len(done.stderr.splitlines())) == (code, True, 1), done.stderr
