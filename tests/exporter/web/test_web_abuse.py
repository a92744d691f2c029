"""An agent under all attacks of an unauthenticated client at once: scrapes continue, no memory and no connection is kept.

bench/abuse.py measures how fast the scrapes are.
"""

import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import agent_process, certificates, prismq
from tests.support.scenes.agent_process import AgentProcess

TOKEN = "correct-horse-battery-staple"
CONFIG = """
databases: [{path: FOLDER/found/*.db}]
poll: {interval: 1s}
actions: {enabled: true, allow: {token_files: [FOLDER/token]}}
state: FOLDER/state
"""
MIB = 1024 * 1024
DATABASES = 10


@dataclass
class Result:
    """The seconds of each scrape, the additional memory of the agent in bytes at most, and the report of the attacker."""

    seconds: list[float] = field(default_factory=list)
    grown: int = 0
    report: dict[str, Any] = field(default_factory=dict)

    def quantile(self, share: float) -> float:
        """Return the seconds within which this share of the scrapes ended."""
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


@contextmanager
def tls_agent(folder: Path) -> Iterator[tuple[AgentProcess, ssl.SSLContext]]:
    """Yield an agent with TLS, and the trust of its clients."""
    ca = certificates.authority(folder, "ca")
    ca.signed("server")
    (folder / "web.yml").write_text("tls_server_config: {cert_file: server.pem, key_file: server.key}\n")
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    (folder / "found").mkdir()
    for number in range(DATABASES):
        prismq.create(folder / "found" / f"queue{number}.db", journal_mode="delete").owner.close()
    context = ssl.create_default_context(cafile=ca.own.cert)
    with agent_process.agent(folder, CONFIG, options=[f"--web.config.file={folder}/web.yml"], verify=context) as made:
        yield made, context


def abused(agent: AgentProcess, context: ssl.SSLContext, folder: Path, seconds: float) -> Result:
    """Scrape the agent ten times a second during the attack, then measure its memory."""
    assert agent.process is not None
    host, _, port = agent.url.removeprefix("https://").rpartition(":")
    made = Result()
    with httpx.Client(base_url=agent.url, verify=context, timeout=LONGEST_WAIT) as client:
        for _ in range(20):
            client.get("/metrics").raise_for_status()
        Path(f"/proc/{agent.process.pid}/clear_refs").write_text("5")  # the high-water mark begins anew
        before = memory(agent.process.pid, "VmRSS")
        command = [
            sys.executable,
            str(prismq.HERE / "abuser.py"),
            host,
            port,
            str(folder / "ca.pem"),
            TOKEN,
        ]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as abuser:
            assert abuser.stdout is not None
            try:
                assert abuser.stdout.readline() == "ready\n"
                ends = time.monotonic() + seconds
                while time.monotonic() < ends or len(made.seconds) <= seconds:  # however slow: each is answered
                    begun = time.monotonic()
                    client.get("/metrics").raise_for_status()
                    made.seconds.append(time.monotonic() - begun)
                    time.sleep(0.1)
                made.report = json.loads(abuser.communicate(timeout=LONGEST_WAIT)[0])
            finally:
                abuser.kill()
        made.grown = memory(agent.process.pid, "VmHWM") - before
    return made


def memory(pid: int, name: str) -> int:
    """Return the resident memory in bytes, as the kernel counts it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


@pytest.mark.parametrize("seconds", [14, pytest.param(90, marks=[pytest.mark.soak, pytest.mark.timeout(600)])])
def test_whatever_strangers_do_scrapes_go_on_and_nothing_is_kept(tmp_path: Path, seconds: float) -> None:
    with tls_agent(tmp_path) as (agent, context):
        result = abused(agent, context, tmp_path, seconds)
        assert len(result.seconds) > seconds
        seen = result.report["seen"]
        for kind in ("silent", "half", "dripping head", "dripping body", "huge head", "huge body"):
            assert seen.get(f"{kind} closed", 0) > 0, (kind, seen)
        assert seen["silent closed"] + seen["half closed"] == 300, "every half-open one was closed"
        assert seen["parallel 200"] > 64
        assert result.grown < 30 * MIB, result.grown
        open_now = len(list(Path(f"/proc/{agent.process.pid}/fd").iterdir())) if agent.process else 0
        assert open_now < 600
        assert not [line for line in agent.log.read_text().splitlines() if "Traceback" in line]
