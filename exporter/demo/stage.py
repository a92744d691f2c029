"""What the demo runs on: a private folder, the application's processes, the agent. All of it is removed when it ends."""

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
    on: {{threshold: {{for: {hold}}}, alert: ['alertname="QueueWalBacklog"']}}
    do: checkpoint
    cooldown: 12s
  - name: stale-leases
    when: {{sqlite_queue_stale_leases: {{above: 0}}}}
    on: {{threshold: {{for: {hold}}}, alert: ['alertname="QueueStaleLeases"']}}
    do: requeue
    options: {{guarded: true, limit: 500}}
    cooldown: 5s
state: {folder}/state
"""
# How long a threshold holds before it triggers its rule: behind Alertmanager it is the second trigger, alone the first.
THRESHOLD_HOLD_BEHIND_ALERTS, THRESHOLD_HOLD_ALONE = "5m", "1s"
# Generous: a busy machine answers and ends late.
REQUEST_TIMEOUT, EXIT_TIMEOUT = 20.0, 60.0
_PYTHON_MODULE = (sys.executable, "-I", "-m")


@dataclass(slots=True)
class DemoStage:
    """The folder and the processes of a demo. The agent listens on `port`; `monitoring` is None where it is not installed."""

    folder: Path
    port: int
    monitoring: DemoMonitoring | None = None
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def database_path(self) -> Path:
        """The path of the application's queue."""
        return self.folder / "jobs.db"

    @property
    def config_path(self) -> Path:
        """The path of the agent's configuration."""
        return self.folder / "queuekeeper.yaml"

    @property
    def address(self) -> str:
        """The agent's `host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The agent's base URL."""
        return f"http://{self.address}"

    def start_role(self, role: str) -> subprocess.Popen[str]:
        """Start one process of the application."""
        return self._start_process(
            [*_PYTHON_MODULE, "exporter.demo.application", str(self.database_path), role], subprocess.PIPE
        )

    def start_agent(self) -> None:
        """Start Prometheus and Alertmanager where they are installed, then the agent as an operator would."""
        if self.monitoring is not None and not self._start_monitoring(self.monitoring):
            self.monitoring = None
        hold = THRESHOLD_HOLD_ALONE if self.monitoring is None else THRESHOLD_HOLD_BEHIND_ALERTS
        _write_private(self.config_path, CONFIG.format(folder=self.folder, address=self.address, hold=hold))
        arguments = ["serve", "--config.file", str(self.config_path), f"--web.listen-address={self.address}"]
        self._start_logged("agent", [*_PYTHON_MODULE, "exporter.commands", *arguments])

    def _start_monitoring(self, monitoring: DemoMonitoring) -> bool:
        """Start both; return whether both are ready. Where one is not, end both, so that neither calls the agent."""
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
        """The agent's answer to a path. Raises OSError while it does not listen."""
        with urllib.request.urlopen(self.url + path, timeout=REQUEST_TIMEOUT) as answer:  # noqa: S310 our own loopback address
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
    """Close the input of one process of the application, which ends it, and wait for its end."""
    if process.stdin is not None:
        process.stdin.close()
    process.wait(EXIT_TIMEOUT)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Defer Ctrl-C and SIGTERM: a process that is started but not yet listed, or half of a clean-up, would be left over."""
    arrived: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [(number, signal.signal(number, lambda arriving, _: arrived.append(arriving))) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
    if arrived:
        raise KeyboardInterrupt


@contextmanager
def open_stage() -> Iterator[DemoStage]:
    """Make a stage in a private temporary folder; end its processes and remove the folder afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="queuekeeper-demo-"))
    stage = DemoStage(folder, _free_port(), _find_monitoring())
    try:
        create_queue(stage.database_path)
        create_other_files(folder / "others")
        _write_private(folder / "token", secrets.token_hex(16))
        yield stage
    finally:
        with signals_deferred():
            _end_processes(stage)
            shutil.rmtree(folder, ignore_errors=True)


def _find_monitoring() -> DemoMonitoring | None:
    programs = find_monitoring_programs()
    if programs is None:
        return None
    return DemoMonitoring(*programs, f"127.0.0.1:{_free_port()}", f"127.0.0.1:{_free_port()}")


def _end_processes(stage: DemoStage) -> None:
    for process in stage.processes:
        process.terminate()
    for process in stage.processes:
        try:
            process.wait(EXIT_TIMEOUT)
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
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
