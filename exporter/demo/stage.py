"""The demo's props: a private folder, the application's processes, the agent. All gone when it ends."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from exporter.demo.monitoring import DemoMonitoring, find_monitoring_programs, monitoring_commands, wait_until_ready
from exporter.demo.others import create_other_files
from exporter.demo.queue import create_queue

CONFIG = """\
identity: {address}
databases:
  - name: jobs
    path: {folder}/jobs.db
    settings: {{grace: 2s}}
    backup: {{directory: {folder}/backups}}
  - path: {folder}/others/*.sqlite
poll: {{interval: 1s}}
actions:
  enabled: true
  allow: {{token_files: [{folder}/token]}}
  quota_per_hour: 1000
rules:
  - name: wal-backlog
    when: {{sqlite_wal_backlog_bytes: {{above: 3MiB, clear: 1MiB}}}}
    on: {{threshold: {{for: {patience}}}, alert: ['alertname="QueueWalBacklog"']}}
    do: checkpoint
    cooldown: 12s
  - name: stale-leases
    when: {{sqlite_queue_stale_leases: {{above: 0}}}}
    on: {{threshold: {{for: {patience}}}, alert: ['alertname="QueueStaleLeases"']}}
    do: requeue
    options: {{guarded: true, limit: 500}}
    cooldown: 5s
state: {folder}/state
"""
# How long our own readings wait before they start a rule: with Alertmanager they are the second line, without it the first.
THRESHOLD_HOLD_BEHIND_ALERTS, THRESHOLD_HOLD_ALONE = "5m", "1s"
_PYTHON_MODULE = (sys.executable, "-I", "-m")


@dataclass(slots=True)
class DemoStage:
    """What is on stage. `port` is where the agent listens. `monitoring`: None where the machine has none."""

    folder: Path
    port: int
    monitoring: DemoMonitoring | None = None
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def database_path(self) -> Path:
        """The application's queue."""
        return self.folder / "jobs.db"

    @property
    def config_path(self) -> Path:
        """The agent's configuration."""
        return self.folder / "queuekeeper.yaml"

    @property
    def address(self) -> str:
        """Where the agent listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Where the agent answers."""
        return f"http://{self.address}"

    def start_role(self, role: str) -> subprocess.Popen[str]:
        """Start one process of the application."""
        return self._start_process(
            [*_PYTHON_MODULE, "exporter.demo.application", str(self.database_path), role], subprocess.PIPE
        )

    def start_agent(self) -> None:
        """Start what calls queuekeeper, and then queuekeeper as an operator would."""
        if self.monitoring is not None and not self._start_monitoring(self.monitoring):
            self.monitoring = None
        patience = THRESHOLD_HOLD_ALONE if self.monitoring is None else THRESHOLD_HOLD_BEHIND_ALERTS
        _write_private(self.config_path, CONFIG.format(folder=self.folder, address=self.address, patience=patience))
        arguments = ["serve", "--config.file", str(self.config_path), f"--web.listen-address={self.address}"]
        self._start_logged("agent", [*_PYTHON_MODULE, "exporter.commands", *arguments])

    def _start_monitoring(self, monitoring: DemoMonitoring) -> bool:
        """Whether both are ready. Where one is not, both wait for their end and call nobody."""
        started = [
            self._start_logged(name, command)
            for name, command in monitoring_commands(monitoring, self.folder, self.address)
        ]
        if wait_until_ready(monitoring, lambda: all(process.poll() is None for process in started)):
            return True
        for process in started:
            process.terminate()
        return False

    def fetch_text(self, path: str) -> str:
        """An answer of the agent. Raises OSError while it is not up."""
        with urllib.request.urlopen(self.url + path, timeout=2) as answer:  # noqa: S310 our own loopback address
            return str(answer.read().decode())

    def _start_logged(self, name: str, command: list[str]) -> subprocess.Popen[str]:
        with (self.folder / f"{name}.log").open("w") as log:
            return self._start_process(command, log.fileno(), log.fileno())

    def _start_process(
        self, command: list[str], output: int | None, errors: int | None = None
    ) -> subprocess.Popen[str]:
        with signals_deferred():
            process = subprocess.Popen(  # noqa: S603 our own modules, and programs of this machine; no shell
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=errors,
                text=True,
                process_group=0,  # Ctrl-C is for the demo alone: it ends the others in order
            )
            self.processes.append(process)
        return process


def end_process(process: subprocess.Popen[str]) -> None:
    """Let one process of the application end."""
    if process.stdin is not None:
        process.stdin.close()
    process.wait(10)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait: a process that is started but not yet known, or half of a clean-up, would stay behind."""
    arrived: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [(number, signal.signal(number, lambda found, _: arrived.append(found))) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
    if arrived:
        raise KeyboardInterrupt


@contextmanager
def open_stage() -> Iterator[DemoStage]:
    """A stage in a private temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="queuekeeper-demo-"))
    props = DemoStage(folder, _free_port(), _find_monitoring())
    try:
        create_queue(props.database_path)
        create_other_files(folder / "others")
        _write_private(folder / "token", secrets.token_hex(16))
        yield props
    finally:
        with signals_deferred():
            _end_processes(props)
            shutil.rmtree(folder, ignore_errors=True)


def _find_monitoring() -> DemoMonitoring | None:
    programs = find_monitoring_programs()
    if programs is None:
        return None
    return DemoMonitoring(*programs, f"127.0.0.1:{_free_port()}", f"127.0.0.1:{_free_port()}")


def _end_processes(props: DemoStage) -> None:
    for process in props.processes:
        process.terminate()
    for process in props.processes:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
